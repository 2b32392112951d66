//! Buffers in memory: appending, draining, reserving, expanding.

use crate::Workload;
use crate::checksum::{Fold, pattern};
use crate::params::Params;
use crate::registry::Constructor;
use anyhow::{Result, bail, ensure};
use libevent_sys::{EvBuffer, EvBufferRef};

/// Kinds of this file.
pub const KINDS: &[(&str, Constructor)] = &[
    ("evbuffer_add_drain", |params| Ok(Box::new(AddDrain::new(params)?))),
    ("evbuffer_reserve_commit", |params| Ok(Box::new(ReserveCommit::new(params)?))),
    ("evbuffer_expand", |params| Ok(Box::new(Expand::new(params)?))),
];

/// Number of different items that a workload appends in turn.
const ITEMS: usize = 8;
/// Distance between the starts of items, so that all begin at a cache line.
const STEP_BYTES: usize = 64;
const PAGE_BYTES: usize = 4096;

/// The pieces of data that a workload moves: each differs from its neighbours, so that a stale or
/// misplaced one changes the checksum; all together are little larger than one, so that the
/// source stays in the cache.
pub(super) struct Items {
    bytes: Vec<u8>,
    /// Where the first item begins in `bytes`: at a page, so that a copy does not depend on where
    /// the allocator happened to put the source. The vector never grows, so this stays true.
    start: usize,
    size_bytes: usize,
}

impl Items {
    pub(super) fn new(size_bytes: usize) -> Result<Self> {
        ensure!((1..=1 << 20).contains(&size_bytes), "items of 1 byte to 1 MiB, not {size_bytes}");
        let content = pattern(size_bytes as u64, size_bytes + ITEMS * STEP_BYTES);
        let mut bytes = vec![0; content.len() + PAGE_BYTES];
        let start = bytes.as_ptr().align_offset(PAGE_BYTES);
        bytes[start..start + content.len()].copy_from_slice(&content);
        Ok(Items { bytes, start, size_bytes })
    }

    /// Item `number`, counted without end.
    pub(super) fn get(&self, number: u64) -> &[u8] {
        self.slices()[number as usize % ITEMS]
    }

    /// The items by number modulo [`ITEMS`]: an index masked so needs no check of bounds.
    #[inline]
    pub(super) fn slices(&self) -> [&[u8]; ITEMS] {
        std::array::from_fn(|i| &self.bytes[self.start + i * STEP_BYTES..][..self.size_bytes])
    }

    /// The items `numbers` in a row: what a buffer should hold.
    pub(super) fn concat(&self, numbers: std::ops::Range<u64>) -> Vec<u8> {
        numbers.flat_map(|number| self.get(number)).copied().collect()
    }
}

/// Empties the buffer and folds its length and every byte that comes out of it.
pub(super) fn fold_content(buffer: &mut EvBufferRef, fold: &mut Fold) -> Result<()> {
    let mut content = vec![0; buffer.len()];
    let removed = buffer.remove(&mut content)?;
    ensure!(removed == content.len() && buffer.is_empty(), "the buffer does not hold as many bytes as it says");
    fold.add_bytes(&content);
    Ok(())
}

/// Sees every item of an untimed pass over the work of a batch, byte by byte. Its idea of the items is
/// its own: libevent gets pointers to those of the workload.
pub(super) struct Inspector {
    items: Items,
    seen: Vec<u8>,
}

impl Inspector {
    pub(super) fn new(size_bytes: usize) -> Result<Self> {
        Ok(Inspector { items: Items::new(size_bytes)?, seen: vec![0; size_bytes] })
    }

    /// The buffer holds `held_items` items, and the first of them is item `number`. Changes nothing.
    pub(super) fn front(&mut self, buffer: &EvBufferRef, number: u64, held_items: u64) -> Result<()> {
        let (held, wanted) = (buffer.len() as u64, held_items * self.seen.len() as u64);
        ensure!(held == wanted, "the buffer holds {held} bytes instead of {wanted} when item {number} is its first");
        // What an earlier call left here must not pass for what this one copies.
        self.seen.fill(0);
        let copied = buffer.copyout(&mut self.seen)?;
        compare(number, &self.seen[..copied], self.items.get(number))
    }

    /// These bytes are item `number`.
    pub(super) fn bytes(&self, number: u64, bytes: &[u8]) -> Result<()> {
        compare(number, bytes, self.items.get(number))
    }

    /// The buffer holds the items `numbers` and nothing else; it is empty afterwards.
    pub(super) fn rest(&mut self, buffer: &mut EvBufferRef, numbers: std::ops::Range<u64>) -> Result<()> {
        let end = numbers.end;
        for number in numbers {
            self.front(buffer, number, end - number)?;
            buffer.drain(self.seen.len())?;
        }
        ensure!(buffer.is_empty(), "{} bytes are left that nobody added", buffer.len());
        Ok(())
    }
}

fn compare(number: u64, seen: &[u8], wanted: &[u8]) -> Result<()> {
    if seen == wanted {
        return Ok(());
    }
    let at = seen.iter().zip(wanted).position(|(seen, wanted)| seen != wanted).unwrap_or(seen.len().min(wanted.len()));
    bail!("item {number} has {} bytes and byte {at} differs from the one that was added", seen.len())
}

fn checksum_of(content: &[u8]) -> u64 {
    let mut fold = Fold::default();
    fold.add_bytes(content);
    fold.finish()
}

/// Drains the oldest item and appends the next one; `queued_items` are kept alive in between.
struct AddDrain {
    buffer: EvBuffer,
    items: Items,
    queued_items: u64,
    batch_events: u64,
}

impl AddDrain {
    fn new(params: &Params<'_>) -> Result<Self> {
        let queued_items = params.u64("queued_items")?;
        ensure!(queued_items > 0, "queued_items must be at least 1: the item that is drained first");
        Ok(AddDrain {
            buffer: EvBuffer::new()?,
            items: Items::new(params.usize("size_bytes")?)?,
            queued_items,
            batch_events: params.batch_events(),
        })
    }

    /// The work of a batch. `inspect` sees every item that is drained, by its number, just before.
    #[inline]
    fn pass(&mut self, mut inspect: impl FnMut(&EvBufferRef, u64) -> Result<()>) -> Result<u64> {
        let items = self.items.slices();
        let size_bytes = self.items.size_bytes;
        let buffer: &mut EvBufferRef = &mut self.buffer;
        for number in self.queued_items..self.queued_items + self.batch_events {
            inspect(buffer, number - self.queued_items)?;
            buffer.drain(size_bytes)?;
            buffer.add(items[number as usize % ITEMS])?;
        }
        Ok(self.batch_events)
    }
}

impl Workload for AddDrain {
    fn verify(&mut self) -> Result<()> {
        let mut inspector = Inspector::new(self.items.size_bytes)?;
        let (queued_items, batch_events) = (self.queued_items, self.batch_events);
        self.prepare()?;
        self.pass(|buffer, number| inspector.front(buffer, number, queued_items))?;
        inspector.rest(&mut self.buffer, batch_events..batch_events + queued_items)
    }

    fn prepare(&mut self) -> Result<()> {
        ensure!(self.buffer.is_empty());
        for number in 0..self.queued_items {
            self.buffer.add(self.items.get(number))?;
        }
        Ok(())
    }

    fn run(&mut self) -> Result<u64> {
        self.pass(|_, _| Ok(()))
    }

    fn finish(&mut self) -> Result<u64> {
        let mut fold = Fold::default();
        fold_content(&mut self.buffer, &mut fold)?;
        Ok(fold.finish())
    }

    fn expected_checksum(&self) -> u64 {
        checksum_of(&self.items.concat(self.batch_events..self.batch_events + self.queued_items))
    }
}

/// Drains the item, reserves `reserve_bytes` in one piece, writes the next item there, commits it.
struct ReserveCommit {
    buffer: EvBuffer,
    items: Items,
    reserve_bytes: usize,
    batch_events: u64,
}

impl ReserveCommit {
    fn new(params: &Params<'_>) -> Result<Self> {
        let items = Items::new(params.usize("commit_bytes")?)?;
        let reserve_bytes = params.usize("reserve_bytes")?;
        ensure!(reserve_bytes >= items.size_bytes, "commit_bytes must not exceed reserve_bytes");
        Ok(ReserveCommit { buffer: EvBuffer::new()?, items, reserve_bytes, batch_events: params.batch_events() })
    }

    /// The work of a batch. `inspect` sees every item that is drained, by its number, just before.
    #[inline]
    fn pass(&mut self, mut inspect: impl FnMut(&EvBufferRef, u64) -> Result<()>) -> Result<u64> {
        let items = self.items.slices();
        let (size_bytes, reserve_bytes) = (self.items.size_bytes, self.reserve_bytes);
        let buffer: &mut EvBufferRef = &mut self.buffer;
        for number in 1..=self.batch_events {
            inspect(buffer, number - 1)?;
            buffer.drain(size_bytes)?;
            append_reserved(buffer, items[number as usize % ITEMS], reserve_bytes)?;
        }
        Ok(self.batch_events)
    }
}

/// Appends `item` through reserved room.
#[inline]
fn append_reserved(buffer: &mut EvBufferRef, item: &[u8], reserve_bytes: usize) -> Result<()> {
    let mut reserved = buffer.reserve(reserve_bytes)?;
    let space = reserved.space();
    ensure!(space.len() >= item.len(), "less room than was reserved");
    // SAFETY: both are that long, and the source is no part of the buffer.
    unsafe { std::ptr::copy_nonoverlapping(item.as_ptr(), space.as_mut_ptr().cast::<u8>(), item.len()) };
    // SAFETY: written just now.
    unsafe { reserved.commit(item.len()) }?;
    Ok(())
}

impl Workload for ReserveCommit {
    fn verify(&mut self) -> Result<()> {
        let mut inspector = Inspector::new(self.items.size_bytes)?;
        let batch_events = self.batch_events;
        self.prepare()?;
        self.pass(|buffer, number| inspector.front(buffer, number, 1))?;
        inspector.rest(&mut self.buffer, batch_events..batch_events + 1)
    }

    fn prepare(&mut self) -> Result<()> {
        ensure!(self.buffer.is_empty());
        append_reserved(&mut self.buffer, self.items.get(0), self.reserve_bytes)
    }

    fn run(&mut self) -> Result<u64> {
        self.pass(|_, _| Ok(()))
    }

    fn finish(&mut self) -> Result<u64> {
        let mut fold = Fold::default();
        fold_content(&mut self.buffer, &mut fold)?;
        Ok(fold.finish())
    }

    fn expected_checksum(&self) -> u64 {
        checksum_of(self.items.get(self.batch_events))
    }
}

/// Appends an item, makes room for `expand_bytes` more, drains it all.
struct Expand {
    buffer: EvBuffer,
    items: Items,
    expand_bytes: usize,
    batch_events: u64,
}

impl Expand {
    fn new(params: &Params<'_>) -> Result<Self> {
        Ok(Expand {
            buffer: EvBuffer::new()?,
            items: Items::new(params.usize("held_bytes")?)?,
            expand_bytes: params.usize("expand_bytes")?,
            batch_events: params.batch_events(),
        })
    }

    /// The work of a batch. `inspect` sees every item that is drained, by its number, just before.
    #[inline]
    fn pass(&mut self, mut inspect: impl FnMut(&EvBufferRef, u64) -> Result<()>) -> Result<u64> {
        let items = self.items.slices();
        let (size_bytes, expand_bytes) = (self.items.size_bytes, self.expand_bytes);
        let buffer: &mut EvBufferRef = &mut self.buffer;
        for number in 1..=self.batch_events {
            inspect(buffer, number - 1)?;
            buffer.drain(size_bytes)?;
            buffer.add(items[number as usize % ITEMS])?;
            buffer.expand(expand_bytes)?;
        }
        Ok(self.batch_events)
    }
}

impl Workload for Expand {
    fn verify(&mut self) -> Result<()> {
        let mut inspector = Inspector::new(self.items.size_bytes)?;
        let batch_events = self.batch_events;
        self.prepare()?;
        self.pass(|buffer, number| inspector.front(buffer, number, 1))?;
        inspector.rest(&mut self.buffer, batch_events..batch_events + 1)
    }

    fn prepare(&mut self) -> Result<()> {
        ensure!(self.buffer.is_empty());
        self.buffer.add(self.items.get(0))?;
        self.buffer.expand(self.expand_bytes)?;
        Ok(())
    }

    fn run(&mut self) -> Result<u64> {
        self.pass(|_, _| Ok(()))
    }

    fn finish(&mut self) -> Result<u64> {
        let mut fold = Fold::default();
        fold_content(&mut self.buffer, &mut fold)?;
        Ok(fold.finish())
    }

    fn expected_checksum(&self) -> u64 {
        checksum_of(self.items.get(self.batch_events))
    }
}

#[cfg(test)]
mod tests {
    use super::super::damage::{Damage, Kind, made};
    use super::*;

    #[test]
    fn wrong_bytes_in_the_middle_are_noticed() {
        let damage = Damage::new(Kind::Flip);
        let mut short = made("evbuffer.add_drain.64", AddDrain::new);
        damage.attach(&short.buffer);
        assert!(damage.is_seen_by_verify_only(&mut short).contains("item 5 "));

        let damage = Damage::new(Kind::Flip);
        let mut long = made("evbuffer.queued.4k", AddDrain::new);
        damage.attach(&long.buffer);
        assert!(damage.is_seen_by_verify_only(&mut long).contains("item 5 "));

        let damage = Damage::new(Kind::Flip);
        let mut reserving = made("evbuffer.reserve_commit.4k", ReserveCommit::new);
        damage.attach(&reserving.buffer);
        assert!(damage.is_seen_by_verify_only(&mut reserving).contains("item 5 "));

        let damage = Damage::new(Kind::Flip);
        let mut expanding = made("evbuffer.expand.4k", Expand::new);
        damage.attach(&expanding.buffer);
        assert!(damage.is_seen_by_verify_only(&mut expanding).contains("item 5 "));
    }
}
