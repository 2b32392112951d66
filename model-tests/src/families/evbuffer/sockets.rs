//! Reading and writing: whole, in pieces, on sockets that are empty, full or closed.
//!
//! How many bytes go in one call is the library's choice; how many there are in the end is not.

use super::at;
use super::calls::same;
use super::op::Op;
use super::world::World;
use crate::family::Verdict;
use crate::{observe, soft};
use libevent_sys::ffi;
use std::io::{Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;

/// More calls than any transfer here takes.
const MOST_CALLS: usize = 10_000;

pub(crate) fn read(world: &mut World, op: &Op) -> Verdict {
    world.pieces.set(true);
    let done = match op {
        Op::Read { b, data, at_most } => read_all(world, at(*b), &data.bytes(), *at_most),
        Op::ReadNothing { b } => {
            // SAFETY: buffer and socket are alive.
            let result = unsafe { ffi::evbuffer_read(world.slots[at(*b)].raw, world.near.as_raw_fd(), -1) };
            observe!("read nothing {result}");
            Ok(())
        }
        Op::ReadEof { b } => {
            let (near, far) = UnixStream::pair().map_err(|error| error.to_string())?;
            drop(far);
            // SAFETY: buffer and socket are alive.
            let result = unsafe { ffi::evbuffer_read(world.slots[at(*b)].raw, near.as_raw_fd(), 100) };
            observe!("read the end {result}");
            Ok(())
        }
        _ => Ok(()),
    };
    world.pieces.set(false);
    done
}

fn read_all(world: &mut World, b: usize, sent: &[u8], at_most: i32) -> Verdict {
    let mut got = 0;
    for piece in sent.chunks(2000) {
        world.far.write_all(piece).map_err(|error| format!("the peer cannot write: {error}"))?;
        let wanted = got + piece.len();
        for _ in 0..MOST_CALLS {
            if got == wanted {
                break;
            }
            // SAFETY: buffer and socket are alive.
            let result = unsafe { ffi::evbuffer_read(world.slots[b].raw, world.near.as_raw_fd(), at_most) };
            soft!("bytes-per-read", "{result}");
            if result <= 0 {
                observe!("read refused {result}");
                receive(&world.near);
                return Ok(());
            }
            let limit = usize::try_from(at_most).unwrap_or(usize::MAX);
            let result = result as usize;
            if result > limit || got + result > wanted {
                return Err(format!("{result} bytes are read, {} were there, at most {limit}", wanted - got));
            }
            world.slots[b].bytes.extend(&sent[got..got + result]);
            got += result;
        }
    }
    observe!("read {got}");
    if got == sent.len() { Ok(()) } else { Err(format!("{got} of {} bytes are read", sent.len())) }
}

pub(crate) fn write(world: &mut World, op: &Op) -> Verdict {
    world.pieces.set(true);
    let done = match op {
        Op::Write { b, len } => write_some(world, at(*b), *len),
        Op::WriteFull { b } => write_full(world, at(*b)),
        Op::WriteBlocked { b } => write_blocked(world, at(*b)),
        _ => Ok(()),
    };
    world.pieces.set(false);
    done
}

fn write_some(world: &mut World, b: usize, len: usize) -> Verdict {
    let (mut received, want) = (Vec::new(), len.min(world.slots[b].bytes.len()));
    while received.len() < want {
        if write_at_most(world.slots[b].raw, &world.near, (want - received.len()).min(1500)) == 0 {
            break;
        }
        received.extend(receive(&world.far));
    }
    observe!("written {}", received.len());
    if received.len() > want {
        return Err(format!("{} bytes are written, not {want}", received.len()));
    }
    let model: Vec<u8> = world.slots[b].bytes.drain(..received.len()).collect();
    same("what was written", &received, &model)
}

/// Calls until that many bytes are written, or all; 0 if it is refused. A part of a file goes as a whole.
pub(crate) fn write_at_most(raw: *mut ffi::evbuffer, socket: &UnixStream, len: usize) -> usize {
    let mut done = 0;
    for _ in 0..MOST_CALLS {
        if done >= len {
            break;
        }
        // SAFETY: buffer and socket are alive.
        let result = unsafe { ffi::evbuffer_write_atmost(raw, socket.as_raw_fd(), (len - done) as isize) };
        soft!("bytes-per-write", "{result}");
        match usize::try_from(result) {
            Ok(result) if result > 0 => done += result,
            _ => break,
        }
    }
    done
}

/// Writes without a limit, each time until the socket takes no more.
fn write_full(world: &mut World, b: usize) -> Verdict {
    let mut received = Vec::new();
    for _ in 0..MOST_CALLS {
        // SAFETY: buffer and socket are alive.
        let result = unsafe { ffi::evbuffer_write(world.slots[b].raw, world.near.as_raw_fd()) };
        soft!("bytes-per-write", "{result}");
        if result <= 0 {
            let now = receive(&world.far);
            if now.is_empty() {
                break;
            }
            received.extend(now);
            continue;
        }
        // Partly written: what is left must still be right.
        let written = (result as usize).min(world.slots[b].bytes.len());
        let model: Vec<u8> = world.slots[b].bytes.drain(..written).collect();
        let seen = super::world::contents(world.slots[b].raw);
        if let Ok(seen) = seen {
            same("what is left after a write", &seen, &world.slots[b].bytes)?;
        }
        let now = receive(&world.far);
        same("what was written to a socket that was filled", &now, &model)?;
        received.extend(now);
    }
    observe!("written {}", received.len());
    Ok(())
}

fn write_blocked(world: &mut World, b: usize) -> Verdict {
    let mut filled = 0;
    while let Ok(more) = world.near.write(&[0; 512]) {
        filled += more;
    }
    // SAFETY: buffer and socket are alive.
    let result = unsafe { ffi::evbuffer_write(world.slots[b].raw, world.near.as_raw_fd()) };
    observe!("write blocked {result}");
    let received = receive(&world.far);
    if received.len() == filled { Ok(()) } else { Err(format!("{} bytes, not {filled}", received.len())) }
}

/// Everything that is there.
pub(crate) fn receive(mut socket: &UnixStream) -> Vec<u8> {
    let (mut all, mut piece) = (Vec::new(), [0; 8192]);
    while let Ok(len @ 1..) = socket.read(&mut piece) {
        all.extend(&piece[..len]);
    }
    all
}
