//! Parts of files: mapped, read, or sent by the kernel.

use super::at;
use super::calls::same;
use super::op::Op;
use super::sockets::{receive, write_at_most};
use super::world::{FILE_BYTES, Segment, World, file_bytes};
use crate::family::Verdict;
use crate::observe;
use libevent_sys::ffi;

/// Flags of `evbuffer_file_segment_new`, as in `event2/buffer.h`.
const EVBUF_FS_CLOSE_ON_FREE: u32 = 1;
const EVBUF_FS_DISABLE_MMAP: u32 = 2;
const EVBUF_FS_DISABLE_SENDFILE: u32 = 4;

pub(crate) fn apply(world: &mut World, op: &Op) -> Verdict {
    match op {
        Op::AddFile { b, offset, len } => {
            let (offset, len) = part(*offset, *len, FILE_BYTES);
            let fd = world.file_descriptor();
            let slot = &mut world.slots[at(*b)];
            if slot.frozen_end {
                // On failure it is unclear who closes the descriptor.
                // SAFETY: ours, handed to nobody.
                unsafe { libc::close(fd) };
                return Ok(());
            }
            // SAFETY: the buffer is alive; the descriptor is libevent's from here.
            let result = unsafe { ffi::evbuffer_add_file(slot.raw, fd, offset as i64, len as i64) };
            observe!("file {result}");
            if result == 0 {
                slot.bytes.extend(&file_bytes()[offset..offset + len]);
            }
        }
        Op::NewSegment { offset, len, mmap, sendfile } => {
            let (offset, len) = part(*offset, *len, FILE_BYTES);
            free_segment(world);
            let mut flags = EVBUF_FS_CLOSE_ON_FREE;
            flags |= if *mmap { 0 } else { EVBUF_FS_DISABLE_MMAP };
            flags |= if *sendfile { 0 } else { EVBUF_FS_DISABLE_SENDFILE };
            // SAFETY: a descriptor that is libevent's from here.
            let raw =
                unsafe { ffi::evbuffer_file_segment_new(world.file_descriptor(), offset as i64, len as i64, flags) };
            if raw.is_null() {
                return Err("evbuffer_file_segment_new failed".to_owned());
            }
            world.segment = Some(Segment { raw, offset, len });
        }
        Op::AddSegment { b, offset, len } => {
            let Some(segment) = &world.segment else { return Ok(()) };
            let (offset, len) = part(*offset, *len, segment.len);
            let slot = &mut world.slots[at(*b)];
            if slot.frozen_end {
                // Pristine frees what it has not made yet, and crashes.
                return Ok(());
            }
            // SAFETY: buffer and segment are alive; the buffer takes a reference.
            let result = unsafe { ffi::evbuffer_add_file_segment(slot.raw, segment.raw, offset as i64, len as i64) };
            observe!("segment {result}");
            if result == 0 {
                let from = segment.offset + offset;
                slot.bytes.extend(&file_bytes()[from..from + len]);
            }
        }
        Op::FreeSegment => free_segment(world),
        Op::SendFile { offset, len, data } => {
            let (offset, len) = part(*offset, *len, FILE_BYTES);
            send(world, offset, len, &data.bytes())?;
        }
        _ => {}
    }
    Ok(())
}

/// A part that is there, of at least one byte.
fn part(offset: usize, len: usize, all: usize) -> (usize, usize) {
    let offset = offset % all;
    (offset, len.clamp(1, all - offset))
}

fn free_segment(world: &mut World) {
    if let Some(segment) = world.segment.take() {
        // SAFETY: ours; buffers hold references of their own.
        unsafe { ffi::evbuffer_file_segment_free(segment.raw) };
    }
}

/// In a buffer that drains to a descriptor the file's bytes need never be in memory.
fn send(world: &mut World, offset: usize, len: usize, around: &[u8]) -> Verdict {
    let fd = world.file_descriptor();
    // SAFETY: a buffer that lives until the end of this function; the descriptor is libevent's.
    let (raw, result) = unsafe {
        let raw = ffi::evbuffer_new();
        ffi::evbuffer_set_flags(raw, u64::from(ffi::EVBUFFER_FLAG_DRAINS_TO_FD));
        ffi::evbuffer_add(raw, around.as_ptr().cast(), around.len());
        let result = ffi::evbuffer_add_file(raw, fd, offset as i64, len as i64);
        ffi::evbuffer_add(raw, around.as_ptr().cast(), around.len());
        (raw, result)
    };
    let mut expected = around.to_vec();
    if result == 0 {
        expected.extend(&file_bytes()[offset..offset + len]);
    }
    expected.extend(around);
    let mut received = Vec::new();
    while received.len() < expected.len() {
        if write_at_most(raw, &world.near, 1500) == 0 {
            break;
        }
        received.extend(receive(&world.far));
    }
    // SAFETY: alive until here.
    let left = unsafe {
        let left = ffi::evbuffer_get_length(raw);
        ffi::evbuffer_free(raw);
        left
    };
    observe!("sent {result} {} {left}", received.len());
    same("what was sent of a file", &received, &expected)
}
