//! Tests that wrong bytes are noticed: a buffer that spoils one of the pieces added to it.

use crate::Workload;
use crate::params::Params;
use crate::registry;
use libevent_sys::{EvBufferRef, ffi};
use std::cell::Cell;
use std::ffi::c_void;
use std::ptr;
use std::rc::Rc;

/// Which piece is spoiled, counted from 0: neither the first nor the last of any workload.
pub(super) const SPOILED: u64 = 5;

/// What happens to a piece when it is added.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// One bit in its middle is flipped.
    Flip,
    /// It is replaced by a copy of itself.
    Copy,
}

/// Damage to one buffer. It must outlive the buffer.
pub(super) struct Damage(Rc<Plan>);

struct Plan {
    kind: Kind,
    additions: Cell<u64>,
}

impl Damage {
    pub(super) fn new(kind: Kind) -> Self {
        Damage(Rc::new(Plan { kind, additions: Cell::new(0) }))
    }

    /// Lets libevent report every addition to the buffer.
    pub(super) fn attach(&self, buffer: &EvBufferRef) {
        // SAFETY: the plan outlives the buffer, as every test declares it first.
        let entry =
            unsafe { ffi::evbuffer_add_cb(buffer.as_ptr(), Some(on_change), Rc::as_ptr(&self.0).cast_mut().cast()) };
        assert!(!entry.is_null(), "evbuffer_add_cb");
    }

    /// An ordinary batch cannot tell, but `verify` can; returns what it says.
    pub(super) fn is_seen_by_verify_only(&self, workload: &mut dyn Workload) -> String {
        self.0.additions.set(0);
        workload.prepare().unwrap();
        workload.run().unwrap();
        assert_eq!(workload.finish().unwrap(), workload.expected_checksum(), "then verify has nothing to add");
        assert!(self.0.additions.get() > SPOILED, "nothing was spoiled");
        self.is_seen_by_verify(workload)
    }

    /// What `verify` says to it.
    pub(super) fn is_seen_by_verify(&self, workload: &mut dyn Workload) -> String {
        self.0.additions.set(0);
        let error = workload.verify().expect_err("a spoiled piece in the middle must be noticed");
        assert!(self.0.additions.get() > SPOILED, "nothing was spoiled");
        format!("{error:#}")
    }
}

/// Makes a workload of the manifest with a constructor that keeps its type.
pub(super) fn made<W>(name: &str, new: fn(&Params<'_>) -> anyhow::Result<W>) -> W {
    let specs = registry::all().unwrap();
    let spec = specs.iter().find(|spec| spec.name == name).unwrap_or_else(|| panic!("no workload {name}"));
    new(&Params::new(spec)).unwrap()
}

unsafe extern "C" fn on_change(buffer: *mut ffi::evbuffer, info: *const ffi::evbuffer_cb_info, arg: *mut c_void) {
    // SAFETY: the plan outlives the buffer; libevent passes what changed.
    let (plan, info) = unsafe { (&*arg.cast::<Plan>(), &*info) };
    if info.n_added == 0 {
        return;
    }
    let addition = plan.additions.replace(plan.additions.get() + 1);
    if addition != SPOILED {
        return;
    }
    match plan.kind {
        // SAFETY: libevent passes a live buffer, which holds what was added; nobody else uses it meanwhile.
        Kind::Flip => unsafe { flip(buffer, ffi::evbuffer_get_length(buffer) - info.n_added / 2 - 1) },
        // SAFETY: as above.
        Kind::Copy => copy(unsafe { EvBufferRef::from_ptr_mut(buffer) }),
    }
}

/// Flips a bit of byte `at`.
///
/// # Safety
/// The buffer is alive, longer than `at`, and its memory there is its own.
unsafe fn flip(buffer: *mut ffi::evbuffer, at: usize) {
    // SAFETY: all-zero bytes are a valid position, which evbuffer_ptr_set fills.
    let mut position = unsafe { std::mem::zeroed::<ffi::evbuffer_ptr>() };
    let mut piece = libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 };
    let how = ffi::evbuffer_ptr_how::EVBUFFER_PTR_SET;
    // SAFETY: as the caller says; one vector is given.
    unsafe {
        assert_eq!(ffi::evbuffer_ptr_set(buffer, &raw mut position, at, how), 0);
        assert!(ffi::evbuffer_peek(buffer, 1, &raw mut position, &raw mut piece, 1) >= 1);
        *piece.iov_base.cast::<u8>() ^= 1;
    }
}

/// Replaces what the buffer holds by a copy.
fn copy(buffer: &mut EvBufferRef) {
    let mut content = vec![0; buffer.len()];
    buffer.copyout(&mut content).unwrap();
    buffer.drain(content.len()).unwrap();
    buffer.add(&content).unwrap();
}
