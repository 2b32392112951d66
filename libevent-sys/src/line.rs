//! Lines, as buffers give them away.

use crate::ffi::evbuffer_eol_style as eol;
use std::ops::Deref;
use std::ptr::NonNull;

/// What ends a line (`evbuffer_eol_style`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Eol {
    /// Any run of CR and LF.
    Any,
    /// LF, with or without CR before it.
    Crlf,
    /// CR LF.
    CrlfStrict,
    /// LF.
    Lf,
    /// A zero byte.
    Nul,
}

impl Eol {
    #[inline]
    pub(crate) fn raw(self) -> eol::Type {
        match self {
            Eol::Any => eol::EVBUFFER_EOL_ANY,
            Eol::Crlf => eol::EVBUFFER_EOL_CRLF,
            Eol::CrlfStrict => eol::EVBUFFER_EOL_CRLF_STRICT,
            Eol::Lf => eol::EVBUFFER_EOL_LF,
            Eol::Nul => eol::EVBUFFER_EOL_NUL,
        }
    }
}

/// A line without its end, owned.
#[derive(Debug)]
pub struct Line {
    text: NonNull<u8>,
    len: usize,
}

impl Line {
    /// # Safety
    /// `text` is of libevent's allocator, `len` bytes long at least, and nobody else's.
    #[inline]
    pub(crate) unsafe fn own(text: NonNull<u8>, len: usize) -> Self {
        Line { text, len }
    }
}

impl Deref for Line {
    type Target = [u8];
    #[inline]
    fn deref(&self) -> &[u8] {
        // SAFETY: as promised to own().
        unsafe { std::slice::from_raw_parts(self.text.as_ptr(), self.len) }
    }
}

impl Drop for Line {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: as promised to own(); the allocator is malloc, as nothing here replaces it.
        unsafe { libc::free(self.text.as_ptr().cast()) }
    }
}
