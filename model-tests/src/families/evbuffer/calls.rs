//! Operations that need nothing but buffers.

use super::at;
use super::model::{Data, find};
use super::op::Op;
use super::world::{Slot, World, bytes_of};
use crate::family::Verdict;
use crate::{locks, memory, note, observe};
use libevent_sys::ffi;
use std::ffi::{CString, c_int};
use std::ptr;

/// Does one operation and carries the model along where libevent says that it worked.
pub(crate) fn apply(world: &mut World, op: &Op) -> Verdict {
    match op {
        Op::Add { b, data } => add(&mut world.slots[at(*b)], *data),
        Op::AddPrintf { b, width } => printf(&mut world.slots[at(*b)], usize::from(*width))?,
        Op::AddIovec { b, parts } => add_iovec(&mut world.slots[at(*b)], parts),
        Op::Prepend { b, data } => prepend(&mut world.slots[at(*b)], *data),
        Op::Drain { b, len } => drain(&mut world.slots[at(*b)], *len),
        Op::Remove { b, len } => remove(&mut world.slots[at(*b)], *len)?,
        Op::Copyout { b, len } => copyout(&world.slots[at(*b)], None, *len)?,
        Op::CopyoutFrom { b, pos, len } => copyout(&world.slots[at(*b)], Some(*pos), *len)?,
        Op::Pullup { b, len } => pullup(&world.slots[at(*b)], *len)?,
        Op::Expand { b, len } => {
            // SAFETY: the buffer is alive.
            observe!("expand {}", unsafe { ffi::evbuffer_expand(world.slots[at(*b)].raw, *len) });
        }
        Op::Huge { b, call, less } => huge(&world.slots[at(*b)], *call, usize::MAX - less)?,
        Op::Reserve { b, want, vecs, commit, salt } => {
            reserve(&mut world.slots[at(*b)], *want, usize::from(*vecs), Data { len: *commit, salt: *salt })?;
        }
        Op::Peek { b, pos, len, vecs } => peek(&world.slots[at(*b)], *pos, *len, usize::from(*vecs))?,
        Op::Pointer { b, pos, add } => pointer_moves(&world.slots[at(*b)], *pos, *add)?,
        Op::Search { .. } | Op::SearchEol { .. } => search(world, op)?,
        Op::Readln { b, eol } => {
            let slot = &mut world.slots[at(*b)];
            let mut len = 0;
            // SAFETY: the buffer is alive; the line is libevent's until it is freed below.
            let line = unsafe { ffi::evbuffer_readln(slot.raw, &raw mut len, eol.raw()) };
            observe!("readln {}", if line.is_null() { -1 } else { len as i64 });
            if line.is_null() {
                return Ok(());
            }
            // SAFETY: `len` bytes and a NUL.
            let got = unsafe { std::slice::from_raw_parts(line.cast::<u8>(), len + 1) }.to_vec();
            // SAFETY: handed out to be freed.
            unsafe { memory::free(line.cast()) };
            let (end, ends) = eol.find(&slot.bytes, 0).ok_or("a line is read where there is none")?;
            let model: Vec<u8> = slot.bytes.drain(..end + ends).take(end).chain([0]).collect();
            same("the line", &got, &model)?;
        }
        Op::AddBuffer { .. } | Op::PrependBuffer { .. } | Op::RemoveBuffer { .. } | Op::Multicast { .. } => {
            moves(world, op)?;
        }
        Op::Reference { b, data, cleanup } => {
            let added = world.reference(at(*b), *data, *cleanup);
            observe!("reference {added}");
            if added {
                world.slots[at(*b)].bytes.extend(data.bytes());
            }
        }
        Op::Freeze { b, front } => {
            let slot = &mut world.slots[at(*b)];
            // SAFETY: the buffer is alive.
            observe!("freeze {}", unsafe { ffi::evbuffer_freeze(slot.raw, c_int::from(*front)) });
            slot.frozen_end |= !front;
        }
        Op::Unfreeze { b, front } => {
            let slot = &mut world.slots[at(*b)];
            // SAFETY: the buffer is alive.
            observe!("unfreeze {}", unsafe { ffi::evbuffer_unfreeze(slot.raw, c_int::from(*front)) });
            slot.frozen_end &= *front;
        }
        Op::AddCallback { b } => world.add_callback(at(*b)),
        Op::RemoveCallback { .. } | Op::CallbackFlags { .. } => callbacks(world, op),
        Op::Threads => locks::install(),
        Op::EnableLocking { b } => {
            // SAFETY: the buffer is alive; libevent makes and owns the lock.
            observe!("locking {}", unsafe { ffi::evbuffer_enable_locking(world.slots[at(*b)].raw, ptr::null_mut()) });
        }
        // Once: a second time forgets what is pending.
        Op::Defer { b } if world.slots[at(*b)].deferred => {}
        Op::Defer { b } => {
            if world.base.is_null() {
                // SAFETY: no precondition.
                world.base = unsafe { ffi::event_base_new() };
            }
            let slot = &mut world.slots[at(*b)];
            // SAFETY: base and buffer are alive; the base goes last.
            observe!("defer {}", unsafe { ffi::evbuffer_defer_callbacks(slot.raw, world.base) });
            slot.deferred = true;
        }
        Op::Loop if world.base.is_null() => {}
        Op::Loop => {
            // SAFETY: the base is alive.
            observe!("loop {}", unsafe { ffi::event_base_loop(world.base, ffi::EVLOOP_NONBLOCK as c_int) });
        }
        Op::Free { b } => {
            if world.multicast {
                world.slots[at(*b)].empty();
            }
            let slot = &mut world.slots[at(*b)];
            // SAFETY: alive until here; a new one takes its place.
            unsafe { ffi::evbuffer_free(slot.raw) };
            *slot = Slot::new()?;
        }
        other => note!("{other:?} is done elsewhere"),
    }
    Ok(())
}

fn add(slot: &mut Slot, data: Data) {
    let bytes = data.bytes();
    // SAFETY: the buffer is alive; the bytes are copied.
    let result = unsafe { ffi::evbuffer_add(slot.raw, bytes.as_ptr().cast(), bytes.len()) };
    observe!("add {result}");
    if result == 0 {
        slot.bytes.extend(bytes);
    }
}

fn prepend(slot: &mut Slot, data: Data) {
    let bytes = data.bytes();
    // SAFETY: the buffer is alive; the bytes are copied.
    let result = unsafe { ffi::evbuffer_prepend(slot.raw, bytes.as_ptr().cast(), bytes.len()) };
    observe!("prepend {result}");
    if result == 0 {
        slot.bytes.splice(..0, bytes);
    }
}

fn printf(slot: &mut Slot, width: usize) -> Verdict {
    let text = CString::new("p".repeat(width)).map_err(|error| error.to_string())?;
    // SAFETY: the buffer is alive; the format takes a string and a number.
    let result = unsafe { ffi::evbuffer_add_printf(slot.raw, c"<%s|%d>".as_ptr(), text.as_ptr(), width as c_int) };
    observe!("printf {result}");
    if result >= 0 {
        let model = format!("<{}|{width}>", "p".repeat(width));
        slot.bytes.extend(model.bytes());
        if result as usize != model.len() {
            return Err(format!("evbuffer_add_printf says {result} for {} bytes", model.len()));
        }
    }
    Ok(())
}

fn add_iovec(slot: &mut Slot, parts: &[Data]) {
    let parts: Vec<Vec<u8>> = parts.iter().map(|part| part.bytes()).collect();
    let piece = |part: &Vec<u8>| libc::iovec { iov_base: part.as_ptr().cast_mut().cast(), iov_len: part.len() };
    let mut pieces: Vec<libc::iovec> = parts.iter().map(piece).collect();
    // SAFETY: the buffer is alive; the pieces are copied.
    let added = unsafe { ffi::evbuffer_add_iovec(slot.raw, pieces.as_mut_ptr(), pieces.len() as c_int) };
    observe!("iovec {added}");
    // It says how much of them it took.
    slot.bytes.extend(parts.concat().into_iter().take(added));
}

/// It must be refused, before a byte of the data is looked at.
fn huge(slot: &Slot, call: u8, len: usize) -> Verdict {
    if call % 3 == 1 && slot.bytes.len() <= usize::MAX - len {
        // Pristine checks the sum alone, and takes leave of its memory where that is no overflow.
        return Ok(());
    }
    let data = [0_u8; 8];
    // SAFETY: the buffer is alive; no call may come to read the data.
    let refused = unsafe {
        match call % 3 {
            0 => ffi::evbuffer_add(slot.raw, data.as_ptr().cast(), len) != 0,
            1 => ffi::evbuffer_prepend(slot.raw, data.as_ptr().cast(), len) != 0,
            _ => ffi::evbuffer_expand(slot.raw, len) != 0,
        }
    };
    if refused { Ok(()) } else { Err(format!("call {call} takes {len} bytes")) }
}

fn drain(slot: &mut Slot, len: usize) {
    // SAFETY: the buffer is alive.
    let result = unsafe { ffi::evbuffer_drain(slot.raw, len) };
    observe!("drain {result}");
    if result == 0 {
        slot.bytes.drain(..len.min(slot.bytes.len()));
    }
}

fn remove(slot: &mut Slot, len: usize) -> Verdict {
    let mut got = vec![0; len];
    // SAFETY: the buffer is alive; it writes at most `len` bytes.
    let result = unsafe { ffi::evbuffer_remove(slot.raw, got.as_mut_ptr().cast(), len) };
    observe!("remove {result}");
    if result >= 0 {
        let model: Vec<u8> = slot.bytes.drain(..len.min(slot.bytes.len())).collect();
        got.truncate(result as usize);
        same("what was removed", &got, &model)?;
    }
    Ok(())
}

fn copyout(slot: &Slot, pos: Option<usize>, len: usize) -> Verdict {
    let mut got = vec![0; len];
    let into = got.as_mut_ptr().cast();
    let result = match pos {
        // SAFETY: the buffer is alive; it writes at most `len` bytes.
        None => unsafe { ffi::evbuffer_copyout(slot.raw, into, len) },
        Some(pos) => match pointer(slot, pos) {
            // SAFETY: the same; the pointer is fresh.
            Some(at) => unsafe { ffi::evbuffer_copyout_from(slot.raw, &raw const at, into, len) },
            None => return Ok(()),
        },
    };
    observe!("copyout {result}");
    if result >= 0 {
        got.truncate(result as usize);
        let from = &slot.bytes[pos.unwrap_or(0)..];
        same("what was copied out", &got, &from[..len.min(from.len())])?;
    }
    Ok(())
}

fn pullup(slot: &Slot, len: i64) -> Verdict {
    // SAFETY: the buffer is alive.
    let front = unsafe { ffi::evbuffer_pullup(slot.raw, len as isize) };
    let want = usize::try_from(len).unwrap_or(slot.bytes.len());
    observe!("pullup {}", !front.is_null());
    if front.is_null() {
        let fine = want > slot.bytes.len() || want == 0;
        return if fine { Ok(()) } else { Err(format!("no {want} bytes in front, of {}", slot.bytes.len())) };
    }
    if want > slot.bytes.len() {
        return Err(format!("{want} bytes in front, where there are {}", slot.bytes.len()));
    }
    // SAFETY: that many bytes are contiguous, and nothing changes them before they are compared.
    same("the front", unsafe { std::slice::from_raw_parts(front, want) }, &slot.bytes[..want])
}

fn reserve(slot: &mut Slot, want: usize, count: usize, fill: Data) -> Verdict {
    let none = libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 };
    let mut pieces = vec![none; count.max(1)];
    // SAFETY: the buffer is alive; at most that many pieces are filled in.
    let got =
        unsafe { ffi::evbuffer_reserve_space(slot.raw, want as isize, pieces.as_mut_ptr(), pieces.len() as c_int) };
    observe!("reserve {}", got > 0);
    let Ok(got) = usize::try_from(got) else { return Ok(()) };
    if got > pieces.len() || pieces[..got].iter().map(|piece| piece.iov_len).sum::<usize>() < want {
        return Err(format!("less than {want} bytes were reserved, in {got} pieces of at most {}", pieces.len()));
    }
    let data = Data { len: fill.len.min(want), ..fill }.bytes();
    let mut left = data.as_slice();
    for piece in &mut pieces[..got] {
        let (now, later) = left.split_at(left.len().min(piece.iov_len));
        // SAFETY: reserved, that many bytes.
        unsafe { ptr::copy_nonoverlapping(now.as_ptr(), piece.iov_base.cast(), now.len()) };
        (piece.iov_len, left) = (now.len(), later);
    }
    // SAFETY: the pieces are those that were reserved, made shorter.
    let result = unsafe { ffi::evbuffer_commit_space(slot.raw, pieces.as_mut_ptr(), got as c_int) };
    observe!("commit {result}");
    if result == 0 {
        slot.bytes.extend(data);
    }
    Ok(())
}

fn peek(slot: &Slot, pos: usize, len: i64, count: usize) -> Verdict {
    let Some(mut from) = pointer(slot, pos) else { return Ok(()) };
    let none = libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 };
    let mut pieces = vec![none; count];
    // SAFETY: the buffer is alive, the pointer fresh; at most that many pieces are filled in.
    let needed =
        unsafe { ffi::evbuffer_peek(slot.raw, len as isize, &raw mut from, pieces.as_mut_ptr(), count as c_int) };
    let needed = usize::try_from(needed).map_err(|_| "evbuffer_peek failed".to_owned())?;
    let shown = &pieces[..needed.min(count)];
    // SAFETY: nothing changes the buffer before they are compared.
    let got: Vec<u8> = shown.iter().flat_map(|piece| unsafe { bytes_of(piece) }).copied().collect();
    let model = &slot.bytes[pos.min(slot.bytes.len())..];
    // Without a length it shows what fits.
    let want = usize::try_from(len).unwrap_or(0).min(model.len());
    if needed <= count && got.len() < want {
        return Err(format!("{} bytes are shown, not {want}", got.len()));
    }
    same("what is shown", &got, &model[..got.len().min(model.len())])
}

/// A pointer before it is set.
fn no_place() -> ffi::evbuffer_ptr {
    // SAFETY: numbers and pointers; all zero is what C programs start with.
    unsafe { std::mem::zeroed() }
}

/// A fresh pointer, or none where libevent says that there is no such place.
fn pointer(slot: &Slot, pos: usize) -> Option<ffi::evbuffer_ptr> {
    let (mut place, how) = (no_place(), ffi::evbuffer_ptr_how::EVBUFFER_PTR_SET);
    // SAFETY: the buffer is alive; the pointer is filled in.
    let result = unsafe { ffi::evbuffer_ptr_set(slot.raw, &raw mut place, pos, how) };
    observe!("pointer {result} {}", place.pos);
    (result == 0).then_some(place)
}

fn pointer_moves(slot: &Slot, pos: usize, add: usize) -> Verdict {
    let Some(mut place) = pointer(slot, pos) else {
        let there = pos <= slot.bytes.len();
        return if there { Err(format!("no place {pos} of {} bytes", slot.bytes.len())) } else { Ok(()) };
    };
    if place.pos != pos as isize {
        return Err(format!("the pointer is at {}, not {pos}", place.pos));
    }
    let how = ffi::evbuffer_ptr_how::EVBUFFER_PTR_ADD;
    // SAFETY: the buffer is alive, the pointer fresh.
    let result = unsafe { ffi::evbuffer_ptr_set(slot.raw, &raw mut place, add, how) };
    observe!("pointer moved {result} {}", place.pos);
    let there = pos.checked_add(add).is_some_and(|place| place <= slot.bytes.len());
    if (result == 0) != there || (there && place.pos != (pos + add) as isize) {
        return Err(format!("{add} on from {pos} of {}: {result}, at {}", slot.bytes.len(), place.pos));
    }
    if !there {
        return Ok(());
    }
    let mut got = [0; 16];
    // SAFETY: the pointer was moved to a place that exists; 16 bytes at most.
    let copied = unsafe { ffi::evbuffer_copyout_from(slot.raw, &raw const place, got.as_mut_ptr().cast(), 16) };
    let Ok(copied) = usize::try_from(copied) else { return Ok(()) };
    let model = &slot.bytes[pos + add..];
    same("what is at the pointer", &got[..copied], &model[..model.len().min(16)])
}

fn search(world: &World, op: &Op) -> Verdict {
    let (found, model, slot) = match op {
        Op::SearchEol { b, start, eol } => {
            let slot = &world.slots[at(*b)];
            let Some(mut from) = pointer(slot, *start) else { return Ok(()) };
            let mut ends = 0;
            // SAFETY: the buffer is alive, the pointer fresh.
            let found = unsafe { ffi::evbuffer_search_eol(slot.raw, &raw mut from, &raw mut ends, eol.raw()) };
            let model = eol.find(&slot.bytes, *start);
            if model.is_some_and(|(_, model)| found.pos >= 0 && model != ends) {
                return Err(format!("an end of a line of {ends} bytes at {}, not {model:?}", found.pos));
            }
            (found, model.map(|(place, _)| place), slot)
        }
        Op::Search { b, at: place, len, miss, start, end } => {
            let slot = &world.slots[at(*b)];
            let bytes = &slot.bytes;
            let from = place % bytes.len().max(1);
            let mut needle = bytes[from..bytes.len().min(from + len)].to_vec();
            let Some(last) = needle.last_mut() else { return Ok(()) };
            *last ^= u8::from(*miss);
            let [mut first, mut last] = [*start, *end].map(|place| place.and_then(|place| pointer(slot, place)));
            let begins = first.as_ref().map_or(0, |place| place.pos as usize);
            let ends = last.as_ref().map_or(bytes.len(), |place| place.pos as usize);
            let (what, size) = (needle.as_ptr().cast(), needle.len());
            let [first, last] =
                [&mut first, &mut last].map(|place| place.as_mut().map_or(ptr::null_mut(), ptr::from_mut));
            // SAFETY: the buffer is alive, the pointers are fresh or null.
            let found = unsafe { ffi::evbuffer_search_range(slot.raw, what, size, first, last) };
            let model = bytes.get(begins..ends).and_then(|range| find(range, &needle)).map(|place| begins + place);
            (found, model, slot)
        }
        _ => return Ok(()),
    };
    observe!("found {}", found.pos);
    if found.pos as i64 != model.map_or(-1, |place| place as i64) {
        return Err(format!("found at {}, not {model:?}, of {} bytes", found.pos, slot.bytes.len()));
    }
    Ok(())
}

fn moves(world: &mut World, op: &Op) -> Verdict {
    let (Op::AddBuffer { to, from }
    | Op::PrependBuffer { to, from }
    | Op::RemoveBuffer { to, from, .. }
    | Op::Multicast { to, from }) = op
    else {
        return Ok(());
    };
    let (to, from) = (at(*to), at(*from));
    let (into, out) = (world.slots[to].raw, world.slots[from].raw);
    if matches!(op, Op::Multicast { .. }) {
        world.multicast = true;
        if world.slots[to].touched && world.slots[to].bytes.is_empty() {
            // Pristine loses its way in a buffer that has chains and no bytes; that is nobody's regression.
            add(&mut world.slots[to], Data { len: 1, salt: 0 });
        }
    }
    // SAFETY: both buffers are alive.
    let result = unsafe {
        match op {
            Op::AddBuffer { .. } => ffi::evbuffer_add_buffer(into, out),
            Op::PrependBuffer { .. } => ffi::evbuffer_prepend_buffer(into, out),
            Op::RemoveBuffer { len, .. } => ffi::evbuffer_remove_buffer(out, into, *len),
            _ => ffi::evbuffer_add_buffer_reference(into, out),
        }
    };
    observe!("moved {result}");
    if result < 0 || (to == from && !matches!(op, Op::Multicast { .. })) {
        return Ok(());
    }
    match op {
        Op::AddBuffer { .. } => {
            let bytes = std::mem::take(&mut world.slots[from].bytes);
            world.slots[to].bytes.extend(bytes);
        }
        Op::PrependBuffer { .. } => {
            let bytes = std::mem::take(&mut world.slots[from].bytes);
            world.slots[to].bytes.splice(..0, bytes);
        }
        Op::RemoveBuffer { len, .. } => {
            let moved = (*len).min(world.slots[from].bytes.len());
            if moved != result as usize {
                return Err(format!("{result} bytes were moved, not {moved}"));
            }
            let bytes: Vec<u8> = world.slots[from].bytes.drain(..moved).collect();
            world.slots[to].bytes.extend(bytes);
        }
        _ => {
            let bytes = world.slots[from].bytes.clone();
            world.slots[to].bytes.extend(bytes);
        }
    }
    Ok(())
}

fn callbacks(world: &mut World, op: &Op) {
    let (Op::RemoveCallback { b, index } | Op::CallbackFlags { b, index, .. }) = op else { return };
    let slot = &mut world.slots[at(*b)];
    if slot.callbacks.is_empty() {
        return;
    }
    let index = usize::from(*index) % slot.callbacks.len();
    let (callback, entry) = slot.callbacks[index];
    if let Op::CallbackFlags { enabled, .. } = op {
        let (on, off) = if *enabled { (ffi::EVBUFFER_CB_ENABLED, 0) } else { (0, ffi::EVBUFFER_CB_ENABLED) };
        // SAFETY: buffer, entry and callback are alive.
        unsafe {
            ffi::evbuffer_cb_clear_flags(slot.raw, entry, off);
            ffi::evbuffer_cb_set_flags(slot.raw, entry, on);
            (*callback).whole.set(false);
        }
    } else {
        // SAFETY: buffer and entry are alive; the entry is not used again.
        observe!("removed {}", unsafe { ffi::evbuffer_remove_cb_entry(slot.raw, entry) });
        slot.callbacks.remove(index);
    }
}

/// Bytes against bytes, in words that do not show them.
pub(crate) fn same(what: &str, got: &[u8], model: &[u8]) -> Verdict {
    if got == model {
        return Ok(());
    }
    let at = got.iter().zip(model).take_while(|(got, model)| got == model).count();
    Err(format!("{what}: {} bytes, not {}, or others from {at} on", got.len(), model.len()))
}
