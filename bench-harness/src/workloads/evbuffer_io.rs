//! Buffers written to and read from a socket pair.

use super::evbuffer::{Inspector, Items, fold_content};
use super::sockets::SocketPair;
use crate::Workload;
use crate::checksum::Fold;
use crate::params::Params;
use crate::registry::Constructor;
use anyhow::{Result, ensure};
use libevent_sys::{EvBuffer, EvBufferRef};
use std::os::fd::RawFd;

/// Kinds of this file.
pub const KINDS: &[(&str, Constructor)] = &[("evbuffer_socket", |params| Ok(Box::new(Socket::new(params)?)))];

/// Appends an item to one buffer, writes it to a socket, reads it from the other end into another
/// buffer, drains it.
struct Socket {
    sockets: SocketPair,
    out: EvBuffer,
    input: EvBuffer,
    items: Items,
    size_bytes: usize,
    fold: Fold,
    batch_events: u64,
}

impl Socket {
    fn new(params: &Params<'_>) -> Result<Self> {
        let size_bytes = params.usize("size_bytes")?;
        Ok(Socket {
            sockets: SocketPair::nonblocking()?,
            out: EvBuffer::new()?,
            input: EvBuffer::new()?,
            items: Items::new(size_bytes)?,
            size_bytes,
            fold: Fold::default(),
            batch_events: params.batch_events(),
        })
    }

    /// The work of a batch. `inspect` sees every item that arrived, by its number, before it is drained.
    #[inline]
    fn pass(&mut self, mut inspect: impl FnMut(&EvBufferRef, u64) -> Result<()>) -> Result<u64> {
        let items = self.items.slices();
        let (fds, size_bytes) = (self.sockets.fds(), self.size_bytes);
        let mut fold = self.fold;
        let (out, input): (&mut EvBufferRef, &mut EvBufferRef) = (&mut self.out, &mut self.input);
        for number in 1..=self.batch_events {
            inspect(input, number - 1)?;
            fold.add(head(input)?);
            input.drain(size_bytes)?;
            bring_over(out, input, items[number as usize % items.len()], fds)?;
        }
        self.fold = fold;
        Ok(self.batch_events)
    }
}

/// Brings one item over; `ends` are the writing and the reading one.
#[inline]
fn bring_over(
    out: &mut EvBufferRef,
    input: &mut EvBufferRef,
    item: &[u8],
    [write_end, read_end]: [RawFd; 2],
) -> Result<()> {
    out.add(item)?;
    while input.len() < item.len() {
        // A socket that takes only a part of it is written to again when the part is read.
        if !out.is_empty() {
            out.write(write_end)?;
        }
        while input.len() < item.len() - out.len() {
            ensure!(input.read(read_end, None)? > 0, "the other end was closed");
        }
    }
    Ok(())
}

/// What is folded of an item while the clock runs: its first eight bytes.
#[inline]
fn head(buffer: &EvBufferRef) -> Result<u64> {
    let mut head = [0; 8];
    buffer.copyout(&mut head)?;
    Ok(u64::from_le_bytes(head))
}

impl Workload for Socket {
    fn verify(&mut self) -> Result<()> {
        let mut inspector = Inspector::new(self.size_bytes)?;
        let last = self.batch_events;
        self.prepare()?;
        self.pass(|input, number| inspector.front(input, number, 1))?;
        inspector.rest(&mut self.out, 0..0)?;
        inspector.rest(&mut self.input, last..last + 1)
    }

    fn prepare(&mut self) -> Result<()> {
        ensure!(self.out.is_empty() && self.input.is_empty());
        self.fold = Fold::default();
        bring_over(&mut self.out, &mut self.input, self.items.get(0), self.sockets.fds())
    }

    fn run(&mut self) -> Result<u64> {
        self.pass(|_, _| Ok(()))
    }

    fn finish(&mut self) -> Result<u64> {
        fold_content(&mut self.out, &mut self.fold)?;
        fold_content(&mut self.input, &mut self.fold)?;
        Ok(self.fold.finish())
    }

    fn expected_checksum(&self) -> u64 {
        let mut fold = Fold::default();
        for number in 0..self.batch_events {
            let mut head = [0; 8];
            let len = self.size_bytes.min(8);
            head[..len].copy_from_slice(&self.items.get(number)[..len]);
            fold.add(u64::from_le_bytes(head));
        }
        fold.add_bytes(&[]);
        fold.add_bytes(self.items.get(self.batch_events));
        fold.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::super::damage::{Damage, Kind, made};
    use super::*;

    #[test]
    fn wrong_bytes_in_the_middle_are_noticed() {
        let damage = Damage::new(Kind::Flip);
        let mut socket = made("evbuffer.socket.64", Socket::new);
        damage.attach(&socket.input);
        assert!(damage.is_seen_by_verify_only(&mut socket).contains("item 5 "));
    }
}
