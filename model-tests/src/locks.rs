//! libevent's locks, counted: after a call that has returned, none may be held.

use libevent_sys::ffi;
use std::ffi::{c_int, c_uint, c_ulong, c_void};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

static INSTALLED: AtomicBool = AtomicBool::new(false);
static HELD: AtomicI64 = AtomicI64::new(0);
static ALIVE: AtomicI64 = AtomicI64::new(0);

/// Makes libevent use counted locks for what is made from now on; once a process.
pub fn install() {
    if INSTALLED.swap(true, Ordering::Relaxed) {
        return;
    }
    let callbacks = ffi::evthread_lock_callbacks {
        lock_api_version: ffi::EVTHREAD_LOCK_API_VERSION as c_int,
        supported_locktypes: ffi::EVTHREAD_LOCKTYPE_RECURSIVE,
        alloc: Some(alloc),
        free: Some(free),
        lock: Some(lock),
        unlock: Some(unlock),
    };
    // SAFETY: libevent copies the table; the functions live for ever.
    unsafe {
        ffi::evthread_set_lock_callbacks(&raw const callbacks);
        ffi::evthread_set_id_callback(Some(id));
    }
}

/// Locks that are held now, recursion included, by any thread.
pub fn held() -> i64 {
    HELD.load(Ordering::Relaxed)
}

/// Locks that were made and not freed.
pub fn alive() -> i64 {
    ALIVE.load(Ordering::Relaxed)
}

unsafe extern "C" fn alloc(_kind: c_uint) -> *mut c_void {
    // SAFETY: a mutex is initialised in place and never moved; attributes end with this function.
    unsafe {
        let mutex = libc::malloc(size_of::<libc::pthread_mutex_t>()).cast::<libc::pthread_mutex_t>();
        let mut attributes: libc::pthread_mutexattr_t = std::mem::zeroed();
        libc::pthread_mutexattr_init(&raw mut attributes);
        libc::pthread_mutexattr_settype(&raw mut attributes, libc::PTHREAD_MUTEX_RECURSIVE);
        libc::pthread_mutex_init(mutex, &raw const attributes);
        libc::pthread_mutexattr_destroy(&raw mut attributes);
        ALIVE.fetch_add(1, Ordering::Relaxed);
        mutex.cast()
    }
}

unsafe extern "C" fn free(mutex: *mut c_void, _kind: c_uint) {
    ALIVE.fetch_sub(1, Ordering::Relaxed);
    // SAFETY: made by `alloc`; libevent frees it once.
    unsafe {
        libc::pthread_mutex_destroy(mutex.cast());
        libc::free(mutex);
    }
}

unsafe extern "C" fn lock(mode: c_uint, mutex: *mut c_void) -> c_int {
    // SAFETY: made by `alloc` and alive.
    let result = unsafe {
        if mode & ffi::EVTHREAD_TRY != 0 {
            libc::pthread_mutex_trylock(mutex.cast())
        } else {
            libc::pthread_mutex_lock(mutex.cast())
        }
    };
    HELD.fetch_add(i64::from(result == 0), Ordering::Relaxed);
    result
}

unsafe extern "C" fn unlock(_mode: c_uint, mutex: *mut c_void) -> c_int {
    // SAFETY: made by `alloc` and alive; an error of a thread that does not hold it is returned.
    let result = unsafe { libc::pthread_mutex_unlock(mutex.cast()) };
    if result == 0 {
        HELD.fetch_sub(1, Ordering::Relaxed);
    } else {
        crate::violate!("a lock was released that its thread does not hold");
    }
    result
}

unsafe extern "C" fn id() -> c_ulong {
    // SAFETY: no precondition.
    unsafe { libc::pthread_self() }
}
