//! `evbuffer`: a queue of bytes in chained pieces of memory.

use crate::error::{Error, Result, check, non_null};
use crate::ffi;
use crate::line::{Eol, Line};
use libc::iovec;
use std::cell::UnsafeCell;
use std::ffi::{c_int, c_void};
use std::io::IoSlice;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ops::{Deref, DerefMut};
use std::os::fd::RawFd;
use std::ptr::{self, NonNull};

/// An owned buffer; everything it can do is in [`EvBufferRef`].
#[derive(Debug)]
pub struct EvBuffer(NonNull<ffi::evbuffer>);

/// A buffer that somebody owns: an [`EvBuffer`], or a bufferevent, an HTTP message and so on.
/// Only seen behind a reference.
#[repr(C)]
pub struct EvBufferRef {
    /// No bytes that Rust knows of; libevent changes the buffer behind shared references, too.
    _opaque: UnsafeCell<[u8; 0]>,
    /// Neither `Send` nor `Sync`.
    _thread: PhantomData<*mut ()>,
}

impl EvBuffer {
    /// An empty buffer.
    ///
    /// # Errors
    /// Out of memory.
    pub fn new() -> Result<Self> {
        // SAFETY: no precondition.
        Ok(EvBuffer(non_null("evbuffer_new", unsafe { ffi::evbuffer_new() })?))
    }
}

impl Drop for EvBuffer {
    fn drop(&mut self) {
        // SAFETY: made by evbuffer_new and freed once.
        unsafe { ffi::evbuffer_free(self.0.as_ptr()) }
    }
}

impl Deref for EvBuffer {
    type Target = EvBufferRef;
    #[inline]
    fn deref(&self) -> &EvBufferRef {
        // SAFETY: alive and owned by `self`.
        unsafe { EvBufferRef::from_ptr(self.0.as_ptr()) }
    }
}

impl DerefMut for EvBuffer {
    #[inline]
    fn deref_mut(&mut self) -> &mut EvBufferRef {
        // SAFETY: alive, owned by `self`, and borrowed from it exclusively.
        unsafe { EvBufferRef::from_ptr_mut(self.0.as_ptr()) }
    }
}

impl std::fmt::Debug for EvBufferRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EvBufferRef").field("len", &self.len()).finish()
    }
}

impl EvBufferRef {
    /// A buffer that others own.
    ///
    /// # Safety
    /// The buffer lives for `'a`, and nobody changes it while the reference is in use.
    #[inline]
    pub unsafe fn from_ptr<'a>(buffer: *mut ffi::evbuffer) -> &'a Self {
        // SAFETY: not null, as the caller says; the type has no bytes.
        unsafe { &*buffer.cast() }
    }

    /// A buffer that others own, to be changed.
    ///
    /// # Safety
    /// The buffer lives for `'a`, and nobody else uses it while the reference is in use.
    #[inline]
    pub unsafe fn from_ptr_mut<'a>(buffer: *mut ffi::evbuffer) -> &'a mut Self {
        // SAFETY: not null, as the caller says; the type has no bytes.
        unsafe { &mut *buffer.cast() }
    }

    /// The raw handle.
    #[inline]
    pub fn as_ptr(&self) -> *mut ffi::evbuffer {
        ptr::from_ref(self).cast_mut().cast()
    }

    /// Bytes in the buffer.
    #[inline]
    pub fn len(&self) -> usize {
        // SAFETY: the buffer is alive.
        unsafe { ffi::evbuffer_get_length(self.as_ptr()) }
    }

    /// No bytes in the buffer.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends a copy of `data`.
    ///
    /// # Errors
    /// Out of memory, or the end is frozen.
    #[inline]
    pub fn add(&mut self, data: &[u8]) -> Result<()> {
        // SAFETY: the buffer is alive; libevent reads `data` and keeps no pointer to it.
        check("evbuffer_add", unsafe { ffi::evbuffer_add(self.as_ptr(), data.as_ptr().cast(), data.len()) })?;
        Ok(())
    }

    /// Appends `data` without a copy.
    ///
    /// # Errors
    /// Out of memory, or the end is frozen.
    #[inline]
    pub fn add_static(&mut self, data: &'static [u8]) -> Result<()> {
        // SAFETY: static data needs no cleanup.
        unsafe { self.add_reference_raw(data, None, ptr::null_mut()) }
    }

    /// Appends the bytes of `owner` without a copy; `owner` is dropped when the buffer is done with
    /// them, or at once on failure.
    ///
    /// # Errors
    /// Out of memory, or the end is frozen.
    pub fn add_reference<T: AsRef<[u8]> + 'static>(&mut self, owner: T) -> Result<()> {
        let owner = Box::into_raw(Box::new(owner));
        // SAFETY: the box stays where it is, and nobody touches it, until drop_owner frees it.
        let data = unsafe { (*owner).as_ref() };
        // SAFETY: drop_owner takes the box back, once.
        let added = unsafe { self.add_reference_raw(data, Some(drop_owner::<T>), owner.cast()) };
        if added.is_err() {
            // SAFETY: libevent did not take the box.
            drop(unsafe { Box::from_raw(owner) });
        }
        added
    }

    /// Appends `data` without a copy, as in C: `cleanup` is called with the data, its length and
    /// `arg` when the buffer is done with them.
    ///
    /// # Safety
    /// `data` lives, unchanged, until `cleanup` is called, or for ever without it.
    ///
    /// # Errors
    /// Out of memory, or the end is frozen; `cleanup` will not be called.
    #[inline]
    pub unsafe fn add_reference_raw(
        &mut self,
        data: &[u8],
        cleanup: ffi::evbuffer_ref_cleanup_cb,
        arg: *mut c_void,
    ) -> Result<()> {
        // SAFETY: the buffer is alive; the caller vouches for the data.
        let returned =
            unsafe { ffi::evbuffer_add_reference(self.as_ptr(), data.as_ptr().cast(), data.len(), cleanup, arg) };
        check("evbuffer_add_reference", returned)?;
        Ok(())
    }

    /// Moves everything in `other` to the end of this buffer, without a copy.
    ///
    /// # Errors
    /// Out of memory, or one of the ends is frozen.
    #[inline]
    pub fn add_buffer(&mut self, other: &mut EvBufferRef) -> Result<()> {
        // SAFETY: both buffers are alive.
        check("evbuffer_add_buffer", unsafe { ffi::evbuffer_add_buffer(self.as_ptr(), other.as_ptr()) })?;
        Ok(())
    }

    /// Puts a copy of `data` in front.
    ///
    /// # Errors
    /// Out of memory, or the start is frozen.
    #[inline]
    pub fn prepend(&mut self, data: &[u8]) -> Result<()> {
        // SAFETY: the buffer is alive; libevent reads `data` and keeps no pointer to it.
        check("evbuffer_prepend", unsafe { ffi::evbuffer_prepend(self.as_ptr(), data.as_ptr().cast(), data.len()) })?;
        Ok(())
    }

    /// Removes the first `len` bytes, or all if there are fewer.
    ///
    /// # Errors
    /// The start is frozen.
    #[inline]
    pub fn drain(&mut self, len: usize) -> Result<()> {
        // SAFETY: the buffer is alive.
        check("evbuffer_drain", unsafe { ffi::evbuffer_drain(self.as_ptr(), len) })?;
        Ok(())
    }

    /// Moves bytes from the front to `out`; returns their number.
    ///
    /// # Errors
    /// The start is frozen.
    #[inline]
    pub fn remove(&mut self, out: &mut [u8]) -> Result<usize> {
        // SAFETY: the buffer is alive; libevent writes at most `out.len()` bytes.
        let returned = unsafe { ffi::evbuffer_remove(self.as_ptr(), out.as_mut_ptr().cast(), out.len()) };
        Ok(check("evbuffer_remove", returned)? as usize)
    }

    /// Copies bytes from the front to `out`; returns their number.
    ///
    /// # Errors
    /// The start is frozen.
    #[inline]
    pub fn copyout(&self, out: &mut [u8]) -> Result<usize> {
        // SAFETY: the buffer is alive; libevent writes at most `out.len()` bytes.
        let returned = unsafe { ffi::evbuffer_copyout(self.as_ptr(), out.as_mut_ptr().cast(), out.len()) };
        usize::try_from(returned).map_err(|_| Error::last("evbuffer_copyout"))
    }

    /// Makes the first `len` bytes contiguous and shows them; `None` means all.
    ///
    /// # Errors
    /// The buffer holds fewer bytes, or out of memory.
    pub fn pullup(&mut self, len: Option<usize>) -> Result<&[u8]> {
        let len = len.unwrap_or_else(|| self.len());
        if len == 0 {
            return Ok(&[]); // libevent's answer may be null then
        }
        let size = isize::try_from(len).map_err(|_| Error::invalid("evbuffer_pullup"))?;
        // SAFETY: the buffer is alive.
        let front = non_null("evbuffer_pullup", unsafe { ffi::evbuffer_pullup(self.as_ptr(), size) })?;
        // SAFETY: libevent made that many bytes contiguous; the borrow keeps the buffer unchanged.
        Ok(unsafe { std::slice::from_raw_parts(front.as_ptr(), len) })
    }

    /// Makes room for `len` more bytes.
    ///
    /// # Errors
    /// Out of memory.
    #[inline]
    pub fn expand(&mut self, len: usize) -> Result<()> {
        // SAFETY: the buffer is alive.
        check("evbuffer_expand", unsafe { ffi::evbuffer_expand(self.as_ptr(), len) })?;
        Ok(())
    }

    /// Reserves room for `len` bytes at the end, in one piece, to be written and committed.
    ///
    /// # Errors
    /// Out of memory, or the end is frozen.
    #[inline]
    pub fn reserve(&mut self, len: usize) -> Result<Reserved<'_>> {
        let call = "evbuffer_reserve_space";
        let size = isize::try_from(len).map_err(|_| Error::invalid(call))?;
        let mut space = iovec { iov_base: ptr::null_mut(), iov_len: 0 };
        // SAFETY: the buffer is alive; one vector is given.
        check(call, unsafe { ffi::evbuffer_reserve_space(self.as_ptr(), size, &raw mut space, 1) })?;
        Ok(Reserved { buffer: self, space })
    }

    /// Takes a line off the front; `None` if there is no whole line.
    #[inline]
    pub fn readln(&mut self, eol: Eol) -> Option<Line> {
        let mut len = 0;
        // SAFETY: the buffer is alive.
        let text = unsafe { ffi::evbuffer_readln(self.as_ptr(), &raw mut len, eol.raw()) };
        // SAFETY: libevent gives the line away.
        NonNull::new(text.cast()).map(|text| unsafe { Line::own(text, len) })
    }

    /// Position of the first `what` at or behind position `from`.
    #[inline]
    pub fn search(&self, what: &[u8], from: usize) -> Option<usize> {
        let mut start = MaybeUninit::<ffi::evbuffer_ptr>::uninit();
        let start = if from == 0 {
            ptr::null()
        } else {
            let how = ffi::evbuffer_ptr_how::EVBUFFER_PTR_SET;
            // SAFETY: the buffer is alive; the position is filled in, or refused.
            if unsafe { ffi::evbuffer_ptr_set(self.as_ptr(), start.as_mut_ptr(), from, how) } < 0 {
                return None;
            }
            start.as_ptr()
        };
        // SAFETY: the buffer is alive; `start` is null or was set in this buffer as it is now.
        let found = unsafe { ffi::evbuffer_search(self.as_ptr(), what.as_ptr().cast(), what.len(), start) };
        usize::try_from(found.pos).ok()
    }

    /// Writes as much as the descriptor takes and removes it; returns the number of bytes.
    ///
    /// # Errors
    /// The descriptor's, `EAGAIN` among them.
    #[inline]
    pub fn write(&mut self, fd: RawFd) -> Result<usize> {
        // SAFETY: the buffer is alive.
        Ok(check("evbuffer_write", unsafe { ffi::evbuffer_write(self.as_ptr(), fd) })? as usize)
    }

    /// Reads at most `len` bytes, or what libevent thinks best; returns their number, 0 at the end.
    ///
    /// # Errors
    /// The descriptor's, `EAGAIN` among them.
    #[inline]
    pub fn read(&mut self, fd: RawFd, len: Option<c_int>) -> Result<usize> {
        // SAFETY: the buffer is alive.
        Ok(check("evbuffer_read", unsafe { ffi::evbuffer_read(self.as_ptr(), fd, len.unwrap_or(-1)) })? as usize)
    }

    /// Shows the first `len` bytes (`None`: all) where they lie, in at most `pieces.len()` pieces;
    /// returns the pieces that are filled and the number that would be needed. The last piece may
    /// go on behind `len`.
    ///
    /// # Errors
    /// The length does not fit.
    pub fn peek<'a, 'b>(
        &'a self,
        len: Option<usize>,
        pieces: &'b mut [IoSlice<'a>],
    ) -> Result<(&'b [IoSlice<'a>], usize)> {
        let call = "evbuffer_peek";
        let size = len.map_or(Ok(-1), isize::try_from).map_err(|_| Error::invalid(call))?;
        let room = c_int::try_from(pieces.len()).map_err(|_| Error::invalid(call))?;
        // SAFETY: the buffer is alive; IoSlice has the layout of iovec, and libevent fills at most
        // `room` of them with pieces that live while the buffer is borrowed.
        let needed =
            unsafe { ffi::evbuffer_peek(self.as_ptr(), size, ptr::null_mut(), pieces.as_mut_ptr().cast(), room) };
        let needed = check(call, needed)? as usize;
        Ok((&pieces[..needed.min(pieces.len())], needed))
    }
}

unsafe extern "C" fn drop_owner<T>(_data: *const c_void, _len: usize, owner: *mut c_void) {
    // SAFETY: the box that add_reference gave away; libevent calls this once.
    drop(unsafe { Box::from_raw(owner.cast::<T>()) });
}

/// Room at the end of a buffer that is not part of its content yet; given back unless committed.
#[derive(Debug)]
pub struct Reserved<'a> {
    buffer: &'a mut EvBufferRef,
    space: iovec,
}

impl Reserved<'_> {
    /// The room, at least as large as asked for.
    #[inline]
    pub fn space(&mut self) -> &mut [MaybeUninit<u8>] {
        // SAFETY: libevent reserved that much; the borrow keeps the buffer unchanged.
        unsafe { std::slice::from_raw_parts_mut(self.space.iov_base.cast(), self.space.iov_len) }
    }

    /// Makes the first `len` bytes part of the content.
    ///
    /// # Safety
    /// They have been written.
    ///
    /// # Errors
    /// More than was reserved.
    #[inline]
    pub unsafe fn commit(mut self, len: usize) -> Result<()> {
        if len > self.space.iov_len {
            return Err(Error::invalid("evbuffer_commit_space"));
        }
        self.space.iov_len = len;
        // SAFETY: the buffer is alive and unchanged since the room was reserved.
        let returned = unsafe { ffi::evbuffer_commit_space(self.buffer.as_ptr(), &raw mut self.space, 1) };
        check("evbuffer_commit_space", returned)?;
        Ok(())
    }
}
