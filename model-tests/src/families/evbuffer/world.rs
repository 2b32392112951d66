//! The buffers of a case, their models, and what they lean on.

use super::model::Data;
use crate::family::Verdict;
use crate::{observe, soft, violate};
use libevent_sys::ffi;
use std::cell::Cell;
use std::ffi::c_void;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::{AsRawFd as _, FromRawFd as _, RawFd};
use std::os::unix::net::UnixStream;
use std::ptr;

/// Buffers of a case.
pub(crate) const BUFFERS: usize = 3;
/// Bytes of the file that segments are taken from.
pub(crate) const FILE_BYTES: usize = 40_000;
/// Small, so that a socket is full soon.
const SOCKET_BYTES: libc::c_int = 4608;

/// One buffer, or its successor after it was freed.
pub(crate) struct Slot {
    pub(crate) raw: *mut ffi::evbuffer,
    pub(crate) bytes: Vec<u8>,
    /// Those that are registered; their memory is the world's.
    pub(crate) callbacks: Vec<(*const Callback, *mut ffi::evbuffer_cb_entry)>,
    pub(crate) deferred: bool,
    pub(crate) frozen_end: bool,
    /// Something was done to it: it may have chains without bytes.
    pub(crate) touched: bool,
}

/// What a registered callback has seen.
pub(crate) struct Callback {
    slot: usize,
    id: usize,
    /// Length when it was registered.
    at: usize,
    /// Added less deleted, as it was told.
    sum: Cell<i64>,
    /// It was enabled all the time.
    pub(crate) whole: Cell<bool>,
    /// How often it is called is a matter of how bytes are read and written in pieces.
    pieces: *const Cell<bool>,
}

/// Bytes that a buffer refers to.
struct Lent {
    id: usize,
    data: Vec<u8>,
    expected: Data,
    returned: *const Cell<usize>,
}

/// A file segment of the user.
pub(crate) struct Segment {
    pub(crate) raw: *mut ffi::evbuffer_file_segment,
    pub(crate) offset: usize,
    pub(crate) len: usize,
}

/// Everything of a case.
pub(crate) struct World {
    pub(crate) slots: Vec<Slot>,
    pub(crate) base: *mut ffi::event_base,
    /// Ours and the peer's, non-blocking.
    pub(crate) near: UnixStream,
    pub(crate) far: UnixStream,
    pub(crate) file: File,
    pub(crate) segment: Option<Segment>,
    pub(crate) pieces: Box<Cell<bool>>,
    /// Chains of one buffer may keep another one alive, or the same: then nothing is freed by freeing buffers alone.
    pub(crate) multicast: bool,
    #[expect(clippy::vec_box, reason = "libevent keeps their addresses")]
    graveyard: Vec<Box<Callback>>,
    lent: usize,
    returned: Box<Cell<usize>>,
    /// Bytes that buffers refer to and never give back.
    kept: Vec<*mut Lent>,
}

impl World {
    pub(crate) fn new() -> Result<World, String> {
        let text = |error: std::io::Error| error.to_string();
        let (near, far) = UnixStream::pair().map_err(text)?;
        for end in [&near, &far] {
            end.set_nonblocking(true).map_err(text)?;
            let size = ptr::from_ref(&SOCKET_BYTES).cast();
            // SAFETY: an integer option, from a live integer.
            unsafe { libc::setsockopt(end.as_raw_fd(), libc::SOL_SOCKET, libc::SO_SNDBUF, size, 4) };
        }
        // SAFETY: a name and flags; the descriptor is new.
        let mut file = unsafe { File::from_raw_fd(libc::memfd_create(c"segments".as_ptr(), libc::MFD_CLOEXEC)) };
        file.write_all(&file_bytes()).map_err(text)?;
        let slots = (0..BUFFERS).map(|_| Slot::new()).collect::<Result<_, _>>()?;
        Ok(World {
            slots,
            base: ptr::null_mut(),
            near,
            far,
            file,
            segment: None,
            pieces: Box::default(),
            multicast: false,
            graveyard: Vec::new(),
            lent: 0,
            returned: Box::default(),
            kept: Vec::new(),
        })
    }

    /// A descriptor of the file that libevent may close.
    pub(crate) fn file_descriptor(&self) -> RawFd {
        // SAFETY: a live descriptor.
        unsafe { libc::dup(self.file.as_raw_fd()) }
    }

    pub(crate) fn add_callback(&mut self, b: usize) {
        let (slot, id) = (&mut self.slots[b], self.graveyard.len());
        let pieces = ptr::from_ref(&*self.pieces);
        let callback =
            Callback { slot: b, id, at: slot.bytes.len(), sum: Cell::new(0), whole: Cell::new(true), pieces };
        let callback = Box::new(callback);
        let arg = ptr::from_ref(&*callback);
        // SAFETY: the buffer is alive; the world keeps the argument to its end.
        let entry = unsafe { ffi::evbuffer_add_cb(slot.raw, Some(called), arg.cast_mut().cast()) };
        slot.callbacks.push((arg, entry));
        self.graveyard.push(callback);
    }

    /// `evbuffer_add_reference`; `cleanup`: the buffer tells when it is done.
    pub(crate) fn reference(&mut self, b: usize, expected: Data, cleanup: bool) -> bool {
        let lent =
            Box::new(Lent { id: self.lent, data: expected.bytes(), expected, returned: &raw const *self.returned });
        let (data, len) = (lent.data.as_ptr().cast(), lent.data.len());
        let arg = Box::into_raw(lent);
        let function: ffi::evbuffer_ref_cleanup_cb = if cleanup { Some(returned) } else { None };
        // SAFETY: the bytes live until `returned` takes the box back, or for ever.
        let added = unsafe { ffi::evbuffer_add_reference(self.slots[b].raw, data, len, function, arg.cast()) } == 0;
        if !added {
            // SAFETY: libevent did not take it.
            drop(unsafe { Box::from_raw(arg) });
        } else if cleanup {
            self.lent += 1;
        } else {
            self.kept.push(arg);
        }
        added
    }

    /// Lengths and contents of all buffers, and what callbacks were told.
    pub(crate) fn check(&self) -> Verdict {
        for (index, slot) in self.slots.iter().enumerate() {
            slot.check(index)?;
        }
        let lengths: Vec<usize> = self.slots.iter().map(|slot| slot.bytes.len()).collect();
        observe!("lengths {lengths:?}, returned {}", self.returned.get());
        Ok(())
    }

    /// Frees everything; what was lent must have come back.
    pub(crate) fn finish(mut self) -> Verdict {
        // SAFETY: each is alive and freed once; deferred callbacks run before the base goes.
        unsafe {
            if let Some(segment) = self.segment.take() {
                ffi::evbuffer_file_segment_free(segment.raw);
            }
            if self.multicast {
                self.slots.iter().for_each(Slot::empty);
            }
            for slot in &self.slots {
                ffi::evbuffer_free(slot.raw);
            }
            if !self.base.is_null() {
                ffi::event_base_loop(self.base, ffi::EVLOOP_NONBLOCK as i32);
                ffi::event_base_free(self.base);
            }
        }
        for kept in &self.kept {
            // SAFETY: no buffer is left that refers to it.
            drop(unsafe { Box::from_raw(*kept) });
        }
        let (lent, returned) = (self.lent, self.returned.get());
        if lent == returned { Ok(()) } else { Err(format!("{returned} of {lent} references were given back")) }
    }
}

impl Slot {
    pub(crate) fn new() -> Result<Slot, String> {
        // SAFETY: no precondition.
        let raw = unsafe { ffi::evbuffer_new() };
        if raw.is_null() {
            return Err("evbuffer_new failed".to_owned());
        }
        Ok(Slot { raw, bytes: Vec::new(), callbacks: Vec::new(), deferred: false, frozen_end: false, touched: false })
    }

    /// Drains it, frozen or not.
    pub(crate) fn empty(&self) {
        // SAFETY: the buffer is alive.
        unsafe {
            ffi::evbuffer_unfreeze(self.raw, 1);
            ffi::evbuffer_drain(self.raw, usize::MAX);
        }
    }

    /// Looks at the buffer without changing it.
    fn check(&self, index: usize) -> Verdict {
        // SAFETY: the buffer is alive.
        let (len, front) =
            unsafe { (ffi::evbuffer_get_length(self.raw), ffi::evbuffer_get_contiguous_space(self.raw)) };
        if len != self.bytes.len() {
            return Err(format!("buffer {index} has {len} bytes, not {}", self.bytes.len()));
        }
        if front > len || (front == 0) != (len == 0) {
            return Err(format!("buffer {index} of {len} bytes has {front} contiguous ones in front"));
        }
        let seen = contents(self.raw)?;
        if seen != self.bytes {
            let at = seen.iter().zip(&self.bytes).position(|(seen, model)| seen != model);
            let at = at.unwrap_or(seen.len().min(self.bytes.len()));
            return Err(format!("buffer {index} of {len} bytes differs at {at} ({} bytes are seen)", seen.len()));
        }
        for (callback, _) in &self.callbacks {
            // SAFETY: the world keeps all callbacks.
            let callback = unsafe { &**callback };
            let told = callback.at as i64 + callback.sum.get();
            if !self.deferred && callback.whole.get() && told != len as i64 {
                return Err(format!("callback {} of buffer {index} was told of {told} bytes, not {len}", callback.id));
            }
        }
        Ok(())
    }
}

/// All bytes of a buffer, through `evbuffer_peek`.
pub(crate) fn contents(raw: *mut ffi::evbuffer) -> Result<Vec<u8>, String> {
    // SAFETY: the buffer is alive; the pieces are read before anything changes it.
    unsafe {
        let count = ffi::evbuffer_peek(raw, -1, ptr::null_mut(), ptr::null_mut(), 0);
        let none = libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 };
        let mut pieces = vec![none; usize::try_from(count).map_err(|_| "evbuffer_peek failed".to_owned())?];
        let again = ffi::evbuffer_peek(raw, -1, ptr::null_mut(), pieces.as_mut_ptr().cast(), count);
        if again != count {
            return Err(format!("evbuffer_peek says {count} pieces, then {again}"));
        }
        Ok(pieces.iter().flat_map(|piece| bytes_of(piece)).copied().collect())
    }
}

/// # Safety
/// The piece is libevent's, and the buffer does not change while the bytes are used.
pub(crate) unsafe fn bytes_of<'a>(piece: &libc::iovec) -> &'a [u8] {
    if piece.iov_len == 0 {
        return &[];
    }
    // SAFETY: as the caller says.
    unsafe { std::slice::from_raw_parts(piece.iov_base.cast(), piece.iov_len) }
}

/// What the file holds.
pub(crate) fn file_bytes() -> Vec<u8> {
    Data { len: FILE_BYTES, salt: 77 }.bytes()
}

/// A callback of a buffer.
unsafe extern "C" fn called(raw: *mut ffi::evbuffer, info: *const ffi::evbuffer_cb_info, arg: *mut c_void) {
    // SAFETY: libevent hands over the world's callback and a live buffer.
    let (callback, info, len) = unsafe { (&*arg.cast::<Callback>(), &*info, ffi::evbuffer_get_length(raw)) };
    let ffi::evbuffer_cb_info { orig_size, n_added, n_deleted } = *info;
    if orig_size + n_added != len + n_deleted {
        violate!("callback {}: {orig_size} bytes + {n_added} - {n_deleted}, but there are {len}", callback.id);
    }
    callback.sum.set(callback.sum.get() + n_added as i64 - n_deleted as i64);
    // SAFETY: the world's cell outlives its callbacks.
    let pieces = unsafe { (*callback.pieces).get() };
    let text = format!("callback {} of {}: {orig_size} +{n_added} -{n_deleted}", callback.id, callback.slot);
    if pieces {
        soft!("callbacks-per-transfer", "{text}");
    } else {
        observe!("{text}");
    }
}

/// A reference comes back: once, with what was given, unchanged.
unsafe extern "C" fn returned(data: *const c_void, len: usize, arg: *mut c_void) {
    // SAFETY: made by `reference`; libevent gives it back once, else the allocator finds it freed twice.
    let lent = unsafe { Box::from_raw(arg.cast::<Lent>()) };
    observe!("reference {} of {len} bytes is given back", lent.id);
    if data.cast() != lent.data.as_ptr() || len != lent.data.len() {
        violate!("reference {} comes back as another one", lent.id);
    }
    if lent.data != lent.expected.bytes() {
        violate!("the bytes of reference {} were changed", lent.id);
    }
    // SAFETY: the world's cell outlives its references.
    let count = unsafe { &*lent.returned };
    count.set(count.get() + 1);
}
