//! Bytes that move between buffers, into them without a copy, and out of them.

use super::evbuffer::{Items, fold_content};
use crate::Workload;
use crate::checksum::Fold;
use crate::params::Params;
use crate::registry::Constructor;
use anyhow::{Result, ensure};
use libevent_sys::{EvBuffer, EvBufferRef};
use std::cell::Cell;
use std::ffi::c_void;

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
}

impl Workload for AddBuffer {
    fn prepare(&mut self) -> Result<()> {
        ensure!(self.from.is_empty() && self.to.is_empty());
        self.to.add(self.items.get(0))?;
        Ok(())
    }

    fn run(&mut self) -> Result<u64> {
        let items = self.items.slices();
        let size_bytes = self.size_bytes;
        let (from, to): (&mut EvBufferRef, &mut EvBufferRef) = (&mut self.from, &mut self.to);
        for number in 1..=self.batch_events {
            to.drain(size_bytes)?;
            from.add(items[number as usize % items.len()])?;
            to.add_buffer(from)?;
        }
        Ok(self.batch_events)
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
    cleaned_up: Box<Cell<u64>>,
    batch_events: u64,
}

impl AddReference {
    fn new(params: &Params<'_>) -> Result<Self> {
        let size_bytes = params.usize("size_bytes")?;
        Ok(AddReference {
            buffer: EvBuffer::new()?,
            items: Items::new(size_bytes)?,
            size_bytes,
            cleaned_up: Box::default(),
            batch_events: params.batch_events(),
        })
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
    fn prepare(&mut self) -> Result<()> {
        ensure!(self.buffer.is_empty());
        self.cleaned_up.set(0);
        // SAFETY: items and counter are dropped after the buffer.
        unsafe { refer(&mut self.buffer, self.items.get(0), &self.cleaned_up) }
    }

    fn run(&mut self) -> Result<u64> {
        let items = self.items.slices();
        let size_bytes = self.size_bytes;
        let buffer: &mut EvBufferRef = &mut self.buffer;
        for number in 1..=self.batch_events {
            buffer.drain(size_bytes)?;
            // SAFETY: items and counter are dropped after the buffer.
            unsafe { refer(buffer, items[number as usize % items.len()], &self.cleaned_up) }?;
        }
        Ok(self.batch_events)
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
}

impl Workload for Remove {
    fn prepare(&mut self) -> Result<()> {
        ensure!(self.buffer.is_empty());
        self.fold = Fold::default();
        self.buffer.add(self.items.get(0))?;
        Ok(())
    }

    fn run(&mut self) -> Result<u64> {
        let items = self.items.slices();
        let mut fold = self.fold;
        let buffer: &mut EvBufferRef = &mut self.buffer;
        for number in 1..=self.batch_events {
            let removed = buffer.remove(&mut self.out)?;
            fold.add(tail(&self.out) ^ removed as u64);
            buffer.add(items[number as usize % items.len()])?;
        }
        self.fold = fold;
        Ok(self.batch_events)
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
