//! libevent's memory: every block counted, guarded and, on demand, refused.
//!
//! Without a sanitizer a block is filled with a pattern when it is handed out and with another when
//! it is given back, ends in a guard, and is kept aside for a while after its end, so that reads of
//! fresh or dead memory misbehave and writes to it are found. Under a sanitizer blocks go straight
//! to the allocator, whose checks are better.

use crate::violate;
use libevent_sys::ffi;
use std::collections::{HashMap, VecDeque};
use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What fresh memory holds.
const FRESH: u8 = 0xA5;
/// What dead memory holds.
const DEAD: u8 = 0xDD;
/// What stands behind each block.
const GUARD: u8 = 0xC3;
const GUARD_BYTES: usize = 16;
/// Dead blocks that are kept aside.
const MOST_DEAD_BYTES: usize = 8 << 20;

static MEMORY: Mutex<Option<Memory>> = Mutex::new(None);

unsafe extern "C" {
    fn model_tests_sanitizer() -> *const c_char;
    fn model_tests_leaks() -> c_int;
    fn model_tests_purge();
}

#[derive(Default)]
struct Memory {
    /// Sizes of live blocks and the numbers of their allocations.
    live: HashMap<usize, (usize, u64)>,
    dead: VecDeque<(usize, usize)>,
    dead_bytes: usize,
    live_bytes: usize,
    peak_bytes: usize,
    allocations: u64,
    refusals: u64,
    refuse: Option<Refuse>,
    guarded: bool,
}

/// Which allocations fail, counted from 1 at the time of [`refuse`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refuse {
    /// That one alone.
    Once(u64),
    /// That one and all that follow.
    From(u64),
}

/// Puts libevent's allocator under control; before anything else is called.
pub(crate) fn install() {
    *lock() = Some(Memory { guarded: sanitizer() == "none", ..Memory::default() });
    // SAFETY: three functions that fit together, before libevent has allocated anything.
    unsafe { ffi::event_set_mem_functions(Some(allocate), Some(reallocate), Some(release)) };
}

/// Allocations from now on that fail; `None`: none.
pub fn refuse(which: Option<Refuse>) {
    with(|memory| {
        memory.refuse = which;
        (memory.allocations, memory.refusals) = (0, 0);
    });
}

/// Ends refusals, but keeps the counts.
pub fn refuse_no_more() {
    with(|memory| memory.refuse = None);
}

/// Allocations since [`refuse`] was called last, or since the start.
pub fn allocations() -> u64 {
    with(|memory| memory.allocations)
}

/// How many of them failed on purpose.
pub fn refusals() -> u64 {
    with(|memory| memory.refusals)
}

/// Frees what libevent hands out for its user to free, such as a line.
///
/// # Safety
/// `block` was handed out and is freed once.
pub unsafe fn free(block: *mut c_void) {
    // SAFETY: as the caller says.
    unsafe { release(block) }
}

/// Blocks that libevent holds.
pub fn live_blocks() -> usize {
    with(|memory| memory.live.len())
}

/// Bytes that libevent holds.
pub fn live_bytes() -> usize {
    with(|memory| memory.live_bytes)
}

/// Most bytes that libevent held at any time.
pub fn peak_bytes() -> usize {
    with(|memory| memory.peak_bytes)
}

/// `none`, `address` or `thread`: the sanitizer whose runtime is linked.
pub fn sanitizer() -> &'static str {
    // SAFETY: one of three string constants.
    unsafe { CStr::from_ptr(model_tests_sanitizer()) }.to_str().unwrap_or("none")
}

/// Gives back what this process has freed and a sanitizer keeps, up to 256 MiB: a case begins as a copy of this process, and copying,
/// scanning and ending it costs as much as it is large.
pub(crate) fn purge() {
    // SAFETY: no precondition.
    unsafe { model_tests_purge() };
}

/// After the end of a case: nothing may be left, no dead block may have been written to.
pub(crate) fn check_end() -> Result<(), String> {
    // SAFETY: the case is over, nobody uses libevent any more.
    unsafe { ffi::libevent_global_shutdown() };
    let mut left: Vec<(u64, usize)> = with(|memory| {
        while memory.evict() {}
        memory.live.values().map(|(size, number)| (*number, *size)).collect()
    });
    if !left.is_empty() {
        left.sort_unstable();
        let sizes: Vec<String> = left.iter().take(8).map(|(_, size)| size.to_string()).collect();
        return Err(format!("leak: {} blocks are left, of {} bytes", left.len(), sizes.join(", ")));
    }
    // SAFETY: no precondition; prints to standard error what it finds.
    if unsafe { model_tests_leaks() } == 1 { Err("leak: found by the leak sanitizer".to_owned()) } else { Ok(()) }
}

impl Memory {
    fn refused(&mut self) -> bool {
        self.allocations += 1;
        let refused = match self.refuse {
            None => false,
            Some(Refuse::Once(number)) => self.allocations == number,
            Some(Refuse::From(number)) => self.allocations >= number,
        };
        self.refusals += u64::from(refused);
        refused
    }

    fn extra(&self) -> usize {
        if self.guarded { GUARD_BYTES } else { 0 }
    }

    fn take(&mut self, size: usize) -> *mut c_void {
        // SAFETY: no precondition. A block of no bytes still has an address of its own.
        let block = unsafe { libc::malloc((size + self.extra()).max(1)) };
        if block.is_null() {
            return block;
        }
        if self.guarded {
            // SAFETY: the block has that many bytes.
            unsafe {
                std::ptr::write_bytes(block.cast::<u8>(), FRESH, size);
                std::ptr::write_bytes(block.cast::<u8>().add(size), GUARD, GUARD_BYTES);
            }
        }
        self.live.insert(block as usize, (size, self.allocations));
        self.live_bytes += size;
        self.peak_bytes = self.peak_bytes.max(self.live_bytes);
        block
    }

    /// Ends a block; false if it is none of ours.
    fn give(&mut self, block: *mut c_void) -> bool {
        let Some((size, _)) = self.live.remove(&(block as usize)) else { return false };
        self.live_bytes -= size;
        if !self.guarded {
            // SAFETY: it was live.
            unsafe { libc::free(block) };
            return true;
        }
        // SAFETY: a live block with its guard.
        unsafe {
            if !holds(block.cast::<u8>().add(size), GUARD_BYTES, GUARD) {
                violate!("something was written behind a block of {size} bytes");
            }
            std::ptr::write_bytes(block.cast::<u8>(), DEAD, size);
        }
        self.dead.push_back((block as usize, size));
        self.dead_bytes += size;
        while self.dead_bytes > MOST_DEAD_BYTES && self.evict() {}
        true
    }

    /// Really frees the block that is dead for the longest time; false if there is none.
    fn evict(&mut self) -> bool {
        let Some((block, size)) = self.dead.pop_front() else { return false };
        self.dead_bytes -= size;
        let block = block as *mut c_void;
        // SAFETY: dead for libevent, alive for the allocator, with its guard.
        unsafe {
            if !holds(block.cast(), size, DEAD) || !holds(block.cast::<u8>().add(size), GUARD_BYTES, GUARD) {
                violate!("something was written to a block of {size} bytes after it was freed");
            }
            libc::free(block);
        }
        true
    }
}

/// # Safety
/// `len` bytes can be read.
unsafe fn holds(bytes: *const u8, len: usize, value: u8) -> bool {
    // SAFETY: as the caller says.
    unsafe { std::slice::from_raw_parts(bytes, len) }.iter().all(|byte| *byte == value)
}

unsafe extern "C" fn allocate(size: usize) -> *mut c_void {
    with(|memory| if memory.refused() { out_of_memory() } else { memory.take(size) })
}

unsafe extern "C" fn reallocate(old: *mut c_void, size: usize) -> *mut c_void {
    with(|memory| {
        if memory.refused() {
            return out_of_memory();
        }
        let new = memory.take(size);
        if old.is_null() || new.is_null() {
            return new;
        }
        match memory.live.get(&(old as usize)).copied() {
            Some((old_size, _)) => {
                // SAFETY: both blocks have that many bytes and are different ones.
                unsafe { std::ptr::copy_nonoverlapping(old.cast::<u8>(), new.cast::<u8>(), old_size.min(size)) };
                memory.give(old);
            }
            None => unknown(memory.guarded, old),
        }
        new
    })
}

unsafe extern "C" fn release(block: *mut c_void) {
    with(|memory| {
        if !block.is_null() && !memory.give(block) {
            unknown(memory.guarded, block);
        }
    });
}

/// A block that is not live: freed twice, or never handed out. The sanitizer says it better.
fn unknown(guarded: bool, block: *mut c_void) {
    violate!("a block was freed that is not live: freed twice, or none of libevent's");
    if !guarded {
        // SAFETY: none; this is reported and ends the process.
        unsafe { libc::free(block) };
    }
}

fn out_of_memory() -> *mut c_void {
    // SAFETY: errno of this thread.
    unsafe { *libc::__errno_location() = libc::ENOMEM };
    std::ptr::null_mut()
}

fn with<T>(use_it: impl FnOnce(&mut Memory) -> T) -> T {
    use_it(lock().get_or_insert_with(Memory::default))
}

fn lock() -> MutexGuard<'static, Option<Memory>> {
    MEMORY.lock().unwrap_or_else(PoisonError::into_inner)
}
