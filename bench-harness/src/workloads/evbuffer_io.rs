//! Buffers written to and read from a socket pair.

use super::evbuffer::{Items, fold_content};
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
    fn prepare(&mut self) -> Result<()> {
        ensure!(self.out.is_empty() && self.input.is_empty());
        self.fold = Fold::default();
        bring_over(&mut self.out, &mut self.input, self.items.get(0), self.sockets.fds())
    }

    fn run(&mut self) -> Result<u64> {
        let items = self.items.slices();
        let (fds, size_bytes) = (self.sockets.fds(), self.size_bytes);
        let mut fold = self.fold;
        let (out, input): (&mut EvBufferRef, &mut EvBufferRef) = (&mut self.out, &mut self.input);
        for number in 1..=self.batch_events {
            fold.add(head(input)?);
            input.drain(size_bytes)?;
            bring_over(out, input, items[number as usize % items.len()], fds)?;
        }
        self.fold = fold;
        Ok(self.batch_events)
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
