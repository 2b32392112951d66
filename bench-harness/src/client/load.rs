//! The load: connections with one request each on its way, a fixed number of requests in all.

use super::STALL_LIMIT;
use super::connection::Connection;
use crate::LatencyHistogram;
use crate::checksum::Fold;
use crate::latency::Recorder;
use anyhow::{Context, Result, bail};
use std::io;
use std::net::SocketAddrV4;
use std::time::Instant;

/// What is asked for, where.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// The server.
    pub(crate) address: SocketAddrV4,
    /// Path of every request.
    pub(crate) path: String,
    /// With more than 0, request `k` of a connection asks for `path` and the number `k % variants`,
    /// so that a response which belongs to another request is noticed.
    pub(crate) variants: u64,
    /// Connections; each gets an equal share of the requests, the first ones one more.
    pub(crate) connections: usize,
    /// A new connection for every request.
    pub(crate) close: bool,
}

/// What a run of requests was like.
pub(crate) struct Outcome {
    pub(crate) requests: u64,
    /// Bytes of bodies.
    pub(crate) body_bytes: u64,
    /// Sum of [`checksum_of_response`], so that the order in which connections take turns is free.
    pub(crate) checksum: u64,
    /// From the first request to the last response.
    pub(crate) wall_time_ns: u64,
    /// From request to complete response; in close mode from before the connection.
    pub(crate) latencies: LatencyHistogram,
}

/// Identifies one response: which request it answers, its status, every byte of its body.
pub(crate) fn checksum_of_response(variant: u64, status: u16, body: &[u8]) -> u64 {
    let mut fold = Fold::default();
    fold.add(variant);
    fold.add(u64::from(status));
    fold.add_bytes(body);
    fold.finish()
}

/// The connections and what they send.
pub(crate) struct Load {
    target: Target,
    requests: Vec<Vec<u8>>,
    lanes: Vec<Lane>,
    latencies: Recorder,
}

/// One connection and its share of the requests.
struct Lane {
    connection: Option<Connection>,
    next: u64,
    share: u64,
}

impl Load {
    /// Prepares requests and, unless every request opens its own, the connections.
    pub(crate) fn connect(target: &Target) -> Result<Self> {
        let requests = (0..target.variants.max(1)).map(|variant| request(target, variant)).collect();
        let mut lanes = Vec::with_capacity(target.connections);
        for _ in 0..target.connections {
            let connection = match target.close {
                true => None,
                false => Some(Connection::open(target.address, false)?),
            };
            lanes.push(Lane { connection, next: 0, share: 0 });
        }
        Ok(Load { target: target.clone(), requests, lanes, latencies: Recorder::default() })
    }

    /// Does `total` requests.
    pub(crate) fn run(&mut self, total: u64) -> Result<Outcome> {
        let count = self.lanes.len() as u64;
        let mut outcome =
            Outcome { requests: 0, body_bytes: 0, checksum: 0, wall_time_ns: 0, latencies: self.latencies.take() };
        let start = Instant::now();
        for index in 0..self.lanes.len() {
            self.lanes[index].next = 0;
            self.lanes[index].share = total / count + u64::from((index as u64) < total % count);
            self.begin(index)?;
        }
        let mut waiting = Vec::with_capacity(self.lanes.len());
        loop {
            waiting.clear();
            waiting.extend(self.lanes.iter().enumerate().filter(|(_, lane)| lane.next < lane.share).map(|(i, _)| i));
            if waiting.is_empty() {
                break;
            }
            for index in self.readable(&waiting)? {
                self.receive(index, &mut outcome)?;
            }
        }
        outcome.wall_time_ns = u64::try_from(start.elapsed().as_nanos())?;
        outcome.latencies = self.latencies.take();
        Ok(outcome)
    }

    fn variant(&self, index: usize) -> u64 {
        self.lanes[index].next % self.target.variants.max(1)
    }

    /// Sends the next request of a lane, if it has one.
    fn begin(&mut self, index: usize) -> Result<()> {
        let variant = self.variant(index);
        let lane = &mut self.lanes[index];
        if lane.next == lane.share {
            return Ok(());
        }
        let connection = match &mut lane.connection {
            Some(connection) => connection,
            none => none.insert(Connection::open(self.target.address, true)?),
        };
        connection.send(&self.requests[variant as usize])
    }

    fn receive(&mut self, index: usize, outcome: &mut Outcome) -> Result<()> {
        let variant = self.variant(index);
        let lane = &mut self.lanes[index];
        let connection = lane.connection.as_mut().context("a response without a connection")?;
        if !connection.receive()? {
            return Ok(());
        }
        let response = connection.response().context("a response without a head")?;
        self.latencies.record(response.latency_ns);
        outcome.requests += 1;
        outcome.body_bytes += response.body.len() as u64;
        let checksum = checksum_of_response(variant, response.status, response.body);
        outcome.checksum = outcome.checksum.wrapping_add(checksum);
        lane.next += 1;
        if self.target.close {
            connection.reset_on_close()?;
            lane.connection = None;
        }
        self.begin(index)
    }

    /// The lanes among `waiting` whose connection has something to read; an error after a stall.
    fn readable(&self, waiting: &[usize]) -> Result<Vec<usize>> {
        let mut polled: Vec<libc::pollfd> = waiting
            .iter()
            .filter_map(|index| self.lanes[*index].connection.as_ref())
            .map(|connection| libc::pollfd { fd: connection.fd(), events: libc::POLLIN, revents: 0 })
            .collect();
        let limit_ms = libc::c_int::try_from(STALL_LIMIT.as_millis())?;
        // SAFETY: `polled` holds that many entries.
        match unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, limit_ms) } {
            0 => bail!("the server sent nothing for {} s", STALL_LIMIT.as_secs()),
            count if count < 0 => {
                let error = io::Error::last_os_error();
                if error.kind() == io::ErrorKind::Interrupted {
                    return Ok(Vec::new());
                }
                Err(error).context("poll")
            }
            _ => {
                Ok(waiting.iter().zip(&polled).filter(|(_, poll)| poll.revents != 0).map(|(index, _)| *index).collect())
            }
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        for connection in self.lanes.iter().filter_map(|lane| lane.connection.as_ref()) {
            // Best effort: without it the port waits for a minute, nothing else.
            let _ = connection.reset_on_close();
        }
    }
}

fn request(target: &Target, variant: u64) -> Vec<u8> {
    let mut path = target.path.clone();
    if target.variants > 0 {
        path.push_str(&variant.to_string());
    }
    let connection = if target.close { "Connection: close\r\n" } else { "" };
    let host = target.address;
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: bench-client\r\nAccept: */*\r\n{connection}\r\n")
        .into_bytes()
}
