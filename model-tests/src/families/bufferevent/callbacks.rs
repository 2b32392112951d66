//! What libevent calls in family `bufferevent`.

use super::Reader;
use super::link::{CHANGE, bev, with_link};
use crate::{clock, violate};
use libevent_sys::{READ, ffi};
use std::ffi::{c_short, c_void};
use std::ptr::{null_mut, without_provenance_mut};

/// The argument of an end's callbacks.
pub(crate) fn argument(link: usize, end: usize) -> *mut c_void {
    without_provenance_mut(link % 2 * 2 + end % 2 + 1)
}

fn place(arg: *mut c_void) -> (usize, usize) {
    ((arg.addr() - 1) / 2, (arg.addr() - 1) % 2)
}

pub(crate) unsafe extern "C" fn read(called: *mut ffi::bufferevent, arg: *mut c_void) {
    let (link, end) = place(arg);
    if called != bev(link, end) {
        return violate!("end {end} of link {link}: read callback after it was freed");
    }
    let reader = with_link(link, |it| {
        it.ends[end].read_called = true;
        it.ends[end].reader
    });
    let Some(reader) = reader.filter(|reader| *reader != Reader::Leave) else { return };
    take(link, end, usize::MAX);
    // SAFETY: alive: nothing has freed it since the check above.
    unsafe {
        match reader {
            Reader::Answer(len) => {
                let before = with_link(link, |link| std::mem::replace(&mut link.ends[end].answered, true));
                if before == Some(false) {
                    write(link, end, len);
                }
            }
            Reader::Free => free(link, end),
            Reader::Stop => drop(ffi::bufferevent_disable(called, READ)),
            Reader::Drain | Reader::Leave => {}
        }
    }
}

pub(crate) unsafe extern "C" fn wrote(called: *mut ffi::bufferevent, arg: *mut c_void) {
    let (link, end) = place(arg);
    if called != bev(link, end) {
        return violate!("end {end} of link {link}: write callback after it was freed");
    }
    with_link(link, |link| link.ends[end].write_called = true);
}

pub(crate) unsafe extern "C" fn event(called: *mut ffi::bufferevent, what: c_short, arg: *mut c_void) {
    let (link, end) = place(arg);
    if called != bev(link, end) {
        return violate!("end {end} of link {link}: event {what:#x} after it was freed");
    }
    let now = clock::now_ms();
    with_link(link, |link| link.ends[end].events.push(format!("{what:#x} at {now}")));
}

/// Changes every byte; takes at most what the other side has room for.
pub(crate) unsafe extern "C" fn filter(
    from: *mut ffi::evbuffer,
    to: *mut ffi::evbuffer,
    limit: isize,
    _mode: ffi::bufferevent_flush_mode::Type,
    _arg: *mut c_void,
) -> ffi::bufferevent_filter_result::Type {
    // SAFETY: both alive; room for as many bytes as are removed.
    unsafe {
        let there = ffi::evbuffer_get_length(from);
        let len = usize::try_from(limit).map_or(there, |limit| limit.min(there));
        if len == 0 {
            return ffi::bufferevent_filter_result::BEV_NEED_MORE;
        }
        let mut bytes = vec![0_u8; len];
        ffi::evbuffer_remove(from, bytes.as_mut_ptr().cast(), len);
        bytes.iter_mut().for_each(|byte| *byte ^= CHANGE);
        ffi::evbuffer_add(to, bytes.as_ptr().cast(), len);
        ffi::bufferevent_filter_result::BEV_OK
    }
}

/// Reads from an end, at most `most` bytes, and checks them.
pub(crate) fn take(link: usize, end: usize, most: usize) -> usize {
    let bev = bev(link, end);
    if bev.is_null() {
        return 0;
    }
    // SAFETY: alive; room for as many bytes as are asked for.
    let bytes = unsafe {
        let there = ffi::evbuffer_get_length(ffi::bufferevent_get_input(bev));
        let mut bytes = vec![0_u8; there.min(most)];
        let got = ffi::bufferevent_read(bev, bytes.as_mut_ptr().cast(), bytes.len());
        bytes.truncate(got);
        bytes
    };
    if let Some(Err(error)) = with_link(link, |link| link.receive(end % 2, &bytes)) {
        violate!("{error}");
    }
    bytes.len()
}

/// Writes the next bytes of an end's stream.
pub(crate) fn write(link: usize, end: usize, len: usize) {
    let bev = bev(link, end);
    if bev.is_null() {
        return;
    }
    let bytes = with_link(link, |link| link.send(end % 2, len)).unwrap_or_default();
    // SAFETY: alive; libevent copies the bytes.
    if unsafe { ffi::bufferevent_write(bev, bytes.as_ptr().cast(), len) } != 0 {
        with_link(link, |link| link.unsend(end % 2, len));
    }
}

pub(crate) fn free(link: usize, end: usize) {
    let bev = bev(link, end);
    if !bev.is_null() {
        let group = with_link(link, |link| {
            let end = &mut link.ends[end % 2];
            (end.bev, link.torn) = (null_mut(), true);
            std::mem::replace(&mut end.group, null_mut())
        });
        // SAFETY: alive, and the link has forgotten it.
        unsafe {
            if group.is_some_and(|group| !group.is_null()) {
                ffi::bufferevent_remove_from_rate_limit_group(bev);
            }
            ffi::bufferevent_free(bev);
        }
    }
}
