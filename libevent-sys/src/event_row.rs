//! Events in an array.

use crate::base::Base;
use crate::error::{Result, check, non_null};
use crate::event::{EventRef, RawCallback};
use crate::ffi;
use std::ffi::{c_short, c_void};
use std::ops::Index;
use std::os::fd::RawFd;
use std::ptr::NonNull;

/// A row of events in one piece of memory, as C programs keep them: `event_assign` on an array.
/// The size of an event is asked of the library, not taken from the headers.
#[derive(Debug)]
pub struct EventRow {
    memory: NonNull<c_void>,
    event_size_bytes: usize,
    len: usize,
    base: Base,
}

impl EventRow {
    /// A row of `len` events, each with the descriptor and argument that `each` gives for its index.
    ///
    /// # Safety
    /// `callback` may be called with any of the arguments for as long as the row lives.
    ///
    /// # Errors
    /// Out of memory, or libevent refuses the combination.
    pub unsafe fn new(
        base: &Base,
        len: usize,
        what: c_short,
        callback: RawCallback,
        mut each: impl FnMut(usize) -> (RawFd, *mut c_void),
    ) -> Result<Self> {
        // SAFETY: no precondition.
        let event_size_bytes = unsafe { ffi::event_get_struct_event_size() };
        // SAFETY: no precondition; at least one event, so that null means failure.
        let memory = non_null("calloc", unsafe { libc::calloc(len.max(1), event_size_bytes) })?;
        let mut row = EventRow { memory, event_size_bytes, len: 0, base: base.clone() };
        for index in 0..len {
            let (fd, arg) = each(index);
            row.len = index + 1;
            // SAFETY: the caller vouches for callback and argument; nothing is pending yet.
            if let Err(error) = unsafe { row.assign(index, fd, what, callback, arg) } {
                row.len = index; // the others alone are deleted
                return Err(error);
            }
        }
        Ok(row)
    }

    /// Number of events.
    pub fn len(&self) -> usize {
        self.len
    }

    /// No events at all.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Sets event `index` up anew (`event_assign`).
    ///
    /// # Safety
    /// `callback` may be called with `arg` for as long as the row lives; the event is neither
    /// pending nor active.
    ///
    /// # Errors
    /// libevent refuses the combination.
    #[inline]
    pub unsafe fn assign(
        &self,
        index: usize,
        fd: RawFd,
        what: c_short,
        callback: RawCallback,
        arg: *mut c_void,
    ) -> Result<()> {
        // SAFETY: the memory is that of event `index`; base and callback are alive, the caller says.
        let returned = unsafe { ffi::event_assign(self.raw(index), self.base.as_ptr(), fd, what, Some(callback), arg) };
        check("event_assign", returned)?;
        Ok(())
    }

    /// The base of the events.
    pub fn base(&self) -> &Base {
        &self.base
    }

    #[inline]
    fn raw(&self, index: usize) -> *mut ffi::event {
        assert!(index < self.len, "event {index} of a row of {}", self.len);
        // SAFETY: within the memory.
        unsafe { self.memory.as_ptr().byte_add(index * self.event_size_bytes).cast() }
    }
}

impl Index<usize> for EventRow {
    type Output = EventRef;
    #[inline]
    fn index(&self, index: usize) -> &EventRef {
        // SAFETY: assigned by new(); alive, and its base too, as long as `self`.
        unsafe { EventRef::from_ptr(self.raw(index)) }
    }
}

impl Drop for EventRow {
    fn drop(&mut self) {
        for index in 0..self.len {
            // SAFETY: the event is assigned and its base alive.
            unsafe { ffi::event_del(self.raw(index)) };
        }
        // SAFETY: made by calloc, freed once; no event of it is pending any more.
        unsafe { libc::free(self.memory.as_ptr()) }
    }
}
