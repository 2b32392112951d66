//! One HTTP connection: sends a request, takes the response apart.

use crate::workloads::sockets::reset_on_close;
use anyhow::{Context, Result, bail, ensure};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddrV4, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::time::Instant;

/// A head of a response that is longer is refused.
const HEAD_LIMIT_BYTES: usize = 16 * 1024;
/// A body that is longer is refused.
const BODY_LIMIT_BYTES: usize = 64 * 1024 * 1024;

/// A connection with at most one request on its way.
pub(super) struct Connection {
    stream: TcpStream,
    /// Bytes of the response so far are `buffer[..filled]`.
    buffer: Vec<u8>,
    filled: usize,
    head: Option<Head>,
    until_close: bool,
    sent: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Head {
    status: u16,
    len: usize,
    body_len: usize,
}

/// A complete response.
pub(super) struct Response<'a> {
    pub(super) status: u16,
    pub(super) body: &'a [u8],
    /// From before the request (in close mode: before the connection) to the last byte.
    pub(super) latency_ns: u64,
}

impl Connection {
    /// Connects; with `until_close` a response ends when the server has closed the connection, too.
    pub(super) fn open(address: SocketAddrV4, until_close: bool) -> Result<Self> {
        let sent = Instant::now();
        let stream = TcpStream::connect(address).with_context(|| format!("connecting to {address}"))?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Connection { stream, buffer: vec![0; 4096], filled: 0, head: None, until_close, sent })
    }

    /// Sends a request. It is far smaller than a socket's buffer, so it is taken at once.
    pub(super) fn send(&mut self, request: &[u8]) -> Result<()> {
        if !self.until_close {
            self.sent = Instant::now();
        }
        (self.filled, self.head) = (0, None);
        let sent = self.stream.write(request).context("sending a request")?;
        ensure!(sent == request.len(), "the kernel took {sent} of a request's {} bytes", request.len());
        Ok(())
    }

    /// Reads what has arrived; true when the response is complete.
    pub(super) fn receive(&mut self) -> Result<bool> {
        loop {
            if self.filled == self.buffer.len() {
                self.buffer.resize(self.buffer.len() * 2, 0);
            }
            let got = match self.stream.read(&mut self.buffer[self.filled..]) {
                Ok(got) => got,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error).context("reading a response"),
            };
            self.filled += got;
            self.look_for_head()?;
            let complete = match self.head {
                Some(head) => self.body_complete(head)?,
                None => false,
            };
            if got == 0 {
                ensure!(complete, "the server closed the connection after {} bytes of a response", self.filled);
                return Ok(true);
            }
            if complete && !self.until_close {
                return Ok(true);
            }
        }
    }

    fn body_complete(&self, head: Head) -> Result<bool> {
        let wanted = head.len + head.body_len;
        ensure!(self.filled <= wanted, "{} bytes after the end of a response", self.filled - wanted);
        Ok(self.filled == wanted)
    }

    fn look_for_head(&mut self) -> Result<()> {
        if self.head.is_none() {
            self.head = parse_head(&self.buffer[..self.filled])?;
            if let Some(head) = self.head {
                self.buffer.resize(self.buffer.len().max(head.len + head.body_len + 1), 0);
            }
        }
        Ok(())
    }

    /// The response; only after `receive` said that it is complete.
    pub(super) fn response(&self) -> Option<Response<'_>> {
        let head = self.head?;
        let latency_ns = u64::try_from(self.sent.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let body = self.buffer.get(head.len..head.len + head.body_len)?;
        Some(Response { status: head.status, body, latency_ns })
    }

    /// Makes closing reset the connection, so that no port waits. To be called when
    /// the server has closed its side or is not needed any more.
    pub(super) fn reset_on_close(&self) -> Result<()> {
        reset_on_close(&self.stream)
    }

    pub(super) fn fd(&self) -> RawFd {
        self.stream.as_raw_fd()
    }
}

/// Whether nobody listens at the address, or not yet.
pub(super) fn is_refused(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|e| e.kind() == ErrorKind::ConnectionRefused)
}

/// Status and length of a response, once its head is complete.
fn parse_head(bytes: &[u8]) -> Result<Option<Head>> {
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
        ensure!(bytes.len() <= HEAD_LIMIT_BYTES, "the head of a response is longer than {HEAD_LIMIT_BYTES} bytes");
        return Ok(None);
    };
    let text = std::str::from_utf8(&bytes[..end]).context("the head of a response is no text")?;
    let mut lines = text.split("\r\n");
    let first = lines.next().unwrap_or_default();
    let status = first
        .strip_prefix("HTTP/1.")
        .and_then(|rest| rest.split(' ').nth(1))
        .and_then(|status| status.parse().ok())
        .with_context(|| format!("`{first}` is no status line"))?;
    let mut body_len = None;
    for line in lines {
        let (name, value) = line.split_once(':').with_context(|| format!("`{line}` is no header"))?;
        if name.eq_ignore_ascii_case("content-length") {
            body_len = Some(value.trim().parse().with_context(|| format!("`{line}` is no length"))?);
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            bail!("`{line}`: only responses with Content-Length are understood");
        }
    }
    let body_len = body_len.with_context(|| format!("`{first}`: a response without Content-Length"))?;
    ensure!(body_len <= BODY_LIMIT_BYTES, "a body of {body_len} bytes; at most {BODY_LIMIT_BYTES} are read");
    Ok(Some(Head { status, len: end + 4, body_len }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_understood_or_refused() {
        let head = |text: &str| parse_head(text.as_bytes());
        assert_eq!(head("HTTP/1.1 200 OK\r\nContent-").unwrap(), None);
        let whole = "HTTP/1.1 404 Not Found\r\nX: y\r\ncontent-length: 5\r\n\r\n";
        assert_eq!(head(whole).unwrap(), Some(Head { status: 404, len: whole.len(), body_len: 5 }));
        for bad in [
            "HTTP/1.1 200 OK\r\n\r\n",
            "SMTP\r\nContent-Length: 1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nnonsense\r\n\r\n",
        ] {
            assert!(head(bad).is_err(), "{bad}");
        }
        assert!(parse_head(&vec![b'x'; HEAD_LIMIT_BYTES + 1]).is_err());
    }
}
