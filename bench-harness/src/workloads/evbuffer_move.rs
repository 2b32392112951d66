//! Bytes that move between buffers, into them without a copy, and out of them.

use super::evbuffer::{Inspector, Items, fold_content};
use crate::Workload;
use crate::checksum::Fold;
use crate::params::Params;
use crate::registry::Constructor;
use anyhow::{Result, ensure};
use libevent_sys::{EvBuffer, EvBufferRef};
use std::cell::Cell;
use std::ffi::c_void;
use std::rc::Rc;

/// Kinds of this file.
pub const KINDS: &[(&str, Constructor)] = &[
    ("evbuffer_add_buffer", |params| Ok(Box::new(AddBuffer::new(params)?))),
    ("evbuffer_add_reference", |params| Ok(Box::new(AddReference::new(params)?))),
    ("evbuffer_remove", |params| Ok(Box::new(Remove::new(params)?))),
];

/// Drains an item from one buffer, appends the next to another, moves it over.
struct AddBuffer {
    from: EvBuffer,
    to: EvBuffer,
    items: Items,
    size_bytes: usize,
    batch_events: u64,
}

impl AddBuffer {
    fn new(params: &Params<'_>) -> Result<Self> {
        let size_bytes = params.usize("size_bytes")?;
        Ok(AddBuffer {
            from: EvBuffer::new()?,
            to: EvBuffer::new()?,
            items: Items::new(size_bytes)?,
            size_bytes,
            batch_events: params.batch_events(),
        })
    }

    /// The work of a batch. `inspect` sees both buffers, and the number of the item that is drained next.
    #[inline]
    fn pass(&mut self, mut inspect: impl FnMut([&EvBufferRef; 2], u64) -> Result<()>) -> Result<u64> {
        let items = self.items.slices();
        let size_bytes = self.size_bytes;
        let (from, to): (&mut EvBufferRef, &mut EvBufferRef) = (&mut self.from, &mut self.to);
        for number in 1..=self.batch_events {
            inspect([from, to], number - 1)?;
            to.drain(size_bytes)?;
            from.add(items[number as usize % items.len()])?;
            to.add_buffer(from)?;
        }
        Ok(self.batch_events)
    }
}

impl Workload for AddBuffer {
    fn verify(&mut self) -> Result<()> {
        let mut inspector = Inspector::new(self.size_bytes)?;
        let last = self.batch_events;
        self.prepare()?;
        self.pass(|[from, to], number| {
            ensure!(from.is_empty(), "{} bytes stayed behind item {number} when it was moved", from.len());
            inspector.front(to, number, 1)
        })?;
        inspector.rest(&mut self.from, 0..0)?;
        inspector.rest(&mut self.to, last..last + 1)
    }

    fn prepare(&mut self) -> Result<()> {
        ensure!(self.from.is_empty() && self.to.is_empty());
        self.to.add(self.items.get(0))?;
        Ok(())
    }

    fn run(&mut self) -> Result<u64> {
        self.pass(|_, _| Ok(()))
    }

    fn finish(&mut self) -> Result<u64> {
        let mut fold = Fold::default();
        fold_content(&mut self.from, &mut fold)?;
        fold_content(&mut self.to, &mut fold)?;
        Ok(fold.finish())
    }

    fn expected_checksum(&self) -> u64 {
        let mut fold = Fold::default();
        fold.add_bytes(&[]);
        fold.add_bytes(self.items.get(self.batch_events));
        fold.finish()
    }
}

/// Drains an item and appends the next one by reference; the cleanup of each is counted.
struct AddReference {
    /// Before what it refers to: dropped first.
    buffer: EvBuffer,
    items: Items,
    size_bytes: usize,
    /// Not in a box: the cleanup callbacks point to it while the workload is moved.
    cleaned_up: Rc<Cell<u64>>,
    batch_events: u64,
}

impl AddReference {
    fn new(params: &Params<'_>) -> Result<Self> {
        let size_bytes = params.usize("size_bytes")?;
        Ok(AddReference {
            buffer: EvBuffer::new()?,
            items: Items::new(size_bytes)?,
            size_bytes,
            cleaned_up: Rc::default(),
            batch_events: params.batch_events(),
        })
    }

    /// The work of a batch. `inspect` sees the buffer, the number of the item that is drained next, where
    /// that item must lie, and the bytes cleaned up so far.
    #[inline]
    fn pass(&mut self, mut inspect: impl FnMut(&mut EvBufferRef, u64, *const u8, u64) -> Result<()>) -> Result<u64> {
        let items = self.items.slices();
        let size_bytes = self.size_bytes;
        let buffer: &mut EvBufferRef = &mut self.buffer;
        for number in 1..=self.batch_events {
            let oldest = items[(number - 1) as usize % items.len()].as_ptr();
            inspect(buffer, number - 1, oldest, self.cleaned_up.get())?;
            buffer.drain(size_bytes)?;
            // SAFETY: items and counter are dropped after the buffer.
            unsafe { refer(buffer, items[number as usize % items.len()], &self.cleaned_up) }?;
        }
        Ok(self.batch_events)
    }
}

/// Appends `item`, which with `cleaned_up` outlives the buffer, as in C.
///
/// # Safety
/// `item` and `cleaned_up` stay where they are until the buffer is drained or freed.
#[inline]
unsafe fn refer(buffer: &mut EvBufferRef, item: &[u8], cleaned_up: &Cell<u64>) -> Result<()> {
    let arg = std::ptr::from_ref(cleaned_up).cast_mut().cast();
    // SAFETY: as the caller says.
    unsafe { buffer.add_reference_raw(item, Some(count_cleanup), arg) }?;
    Ok(())
}

unsafe extern "C" fn count_cleanup(_data: *const c_void, len: usize, cleaned_up: *mut c_void) {
    // SAFETY: the counter that refer() passed.
    let cleaned_up = unsafe { &*cleaned_up.cast::<Cell<u64>>() };
    cleaned_up.set(cleaned_up.get() + len as u64);
}

impl Workload for AddReference {
    fn verify(&mut self) -> Result<()> {
        let (size_bytes, last) = (self.size_bytes, self.batch_events);
        let mut inspector = Inspector::new(size_bytes)?;
        self.prepare()?;
        self.pass(|buffer, number, place, cleaned_up| {
            inspector.front(buffer, number, 1)?;
            ensure!(buffer.pullup(Some(size_bytes))?.as_ptr() == place, "item {number} was copied");
            let wanted = number * size_bytes as u64;
            ensure!(cleaned_up == wanted, "{cleaned_up} bytes instead of {wanted} cleaned up before item {number}");
            Ok(())
        })?;
        inspector.rest(&mut self.buffer, last..last + 1)?;
        let (cleaned_up, wanted) = (self.cleaned_up.get(), (last + 1) * size_bytes as u64);
        ensure!(cleaned_up == wanted, "{cleaned_up} bytes instead of {wanted} cleaned up in the end");
        Ok(())
    }

    fn prepare(&mut self) -> Result<()> {
        ensure!(self.buffer.is_empty());
        self.cleaned_up.set(0);
        // SAFETY: items and counter are dropped after the buffer.
        unsafe { refer(&mut self.buffer, self.items.get(0), &self.cleaned_up) }
    }

    fn run(&mut self) -> Result<u64> {
        self.pass(|_, _, _, _| Ok(()))
    }

    fn finish(&mut self) -> Result<u64> {
        let mut fold = Fold::default();
        fold.add(self.cleaned_up.get());
        let last = self.items.get(self.batch_events);
        ensure!(self.buffer.pullup(Some(self.size_bytes))?.as_ptr() == last.as_ptr(), "the bytes were copied");
        fold_content(&mut self.buffer, &mut fold)?;
        fold.add(self.cleaned_up.get());
        Ok(fold.finish())
    }

    fn expected_checksum(&self) -> u64 {
        let size_bytes = self.size_bytes as u64;
        let mut fold = Fold::default();
        fold.add(self.batch_events * size_bytes);
        fold.add_bytes(self.items.get(self.batch_events));
        fold.add((self.batch_events + 1) * size_bytes);
        fold.finish()
    }
}

/// Copies the oldest item out and appends the next one.
struct Remove {
    buffer: EvBuffer,
    items: Items,
    out: Vec<u8>,
    fold: Fold,
    batch_events: u64,
}

/// The part of an item that is folded while the clock runs: its last eight bytes.
#[inline]
fn tail(item: &[u8]) -> u64 {
    item.last_chunk().map_or(0, |tail| u64::from_le_bytes(*tail))
}

impl Remove {
    fn new(params: &Params<'_>) -> Result<Self> {
        let size_bytes = params.usize("size_bytes")?;
        Ok(Remove {
            buffer: EvBuffer::new()?,
            items: Items::new(size_bytes)?,
            out: vec![0; size_bytes],
            fold: Fold::default(),
            batch_events: params.batch_events(),
        })
    }

    /// The work of a batch. `inspect` sees what was copied out, how many bytes of it
    /// libevent says that it wrote, and the number of the item.
    #[inline]
    fn pass(&mut self, mut inspect: impl FnMut(&[u8], usize, u64) -> Result<()>) -> Result<u64> {
        let items = self.items.slices();
        let mut fold = self.fold;
        let buffer: &mut EvBufferRef = &mut self.buffer;
        for number in 1..=self.batch_events {
            let removed = buffer.remove(&mut self.out)?;
            fold.add(tail(&self.out) ^ removed as u64);
            inspect(&self.out, removed, number - 1)?;
            buffer.add(items[number as usize % items.len()])?;
        }
        self.fold = fold;
        Ok(self.batch_events)
    }
}

impl Workload for Remove {
    fn verify(&mut self) -> Result<()> {
        let mut inspector = Inspector::new(self.out.len())?;
        let last = self.batch_events;
        self.prepare()?;
        self.pass(|out, removed, number| inspector.bytes(number, out.get(..removed).unwrap_or_default()))?;
        inspector.rest(&mut self.buffer, last..last + 1)
    }

    fn prepare(&mut self) -> Result<()> {
        ensure!(self.buffer.is_empty());
        self.fold = Fold::default();
        self.buffer.add(self.items.get(0))?;
        Ok(())
    }

    fn run(&mut self) -> Result<u64> {
        self.pass(|_, _, _| Ok(()))
    }

    fn finish(&mut self) -> Result<u64> {
        self.fold.add_bytes(&self.out);
        fold_content(&mut self.buffer, &mut self.fold)?;
        Ok(self.fold.finish())
    }

    fn expected_checksum(&self) -> u64 {
        let mut fold = Fold::default();
        for number in 0..self.batch_events {
            fold.add(tail(self.items.get(number)) ^ self.out.len() as u64);
        }
        fold.add_bytes(self.items.get(self.batch_events - 1));
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
        let mut moving = made("evbuffer.add_buffer.64", AddBuffer::new);
        damage.attach(&moving.to);
        assert!(damage.is_seen_by_verify_only(&mut moving).contains("item 5 "));

        let damage = Damage::new(Kind::Flip);
        let mut removing = made("evbuffer.remove.64", Remove::new);
        damage.attach(&removing.buffer);
        assert!(damage.is_seen_by_verify_only(&mut removing).contains("item 5 "));
    }

    #[test]
    fn a_reference_that_was_copied_is_noticed() {
        let damage = Damage::new(Kind::Copy);
        let mut referring = made("evbuffer.add_reference.4k", AddReference::new);
        damage.attach(&referring.buffer);
        assert!(damage.is_seen_by_verify_only(&mut referring).contains("item 5 was copied"));
    }
}
