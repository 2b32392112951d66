//! Workloads written in C: the Rust side of include/bench_workload.h.

use super::UserWorkload;
use crate::Workload;
use anyhow::{Context, Result, bail, ensure};
use model::workload::{Checksum, Metric, WorkloadSpec};
use std::ffi::{CStr, c_char, c_void};
use std::ptr;

/// BENCH_WORKLOAD_ABI that this worker understands.
const ABI: u32 = 1;
const WALL_TIME: u32 = 1;
const THREADS: u32 = 1;
const EXACT_COUNTS: u32 = 2;
/// Workloads of one file; an array without its final entry must not be read for ever.
const MOST_WORKLOADS: usize = 1000;

/// NULL, or what went wrong.
type Message = *const c_char;

/// `struct bench_workload`, field by field.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Descriptor {
    abi: u32,
    metric: u32,
    flags: u32,
    name: *const c_char,
    event: *const c_char,
    batch_events: u64,
    checksum: u64,
    setup: Option<unsafe extern "C" fn(*mut *mut c_void) -> Message>,
    prepare: Option<unsafe extern "C" fn(*mut c_void) -> Message>,
    run: Option<unsafe extern "C" fn(*mut c_void, *mut u64) -> Message>,
    finish: Option<unsafe extern "C" fn(*mut c_void, *mut u64) -> Message>,
    teardown: Option<unsafe extern "C" fn(*mut c_void)>,
}

/// Reads entries up to the one without a name.
///
/// # Safety
/// `array` must point to an array of `struct bench_workload` whose last entry has no name, all of
/// static lifetime.
pub(super) unsafe fn read_array(array: *const Descriptor) -> Result<Vec<UserWorkload>> {
    let mut workloads = Vec::new();
    for index in 0..MOST_WORKLOADS {
        // SAFETY: all earlier entries have a name, so the array goes on; descriptors are plain data.
        let descriptor = unsafe { *array.add(index) };
        if descriptor.name.is_null() {
            return Ok(workloads);
        }
        // SAFETY: the caller promises static strings.
        let name = unsafe { string(descriptor.name) }.context("the name of a workload")?;
        let spec = spec(name, &descriptor).with_context(|| format!("workload `{name}`"))?;
        let set_up = move || Ok(Box::new(CWorkload::set_up(descriptor)?) as Box<dyn Workload>);
        workloads.push(UserWorkload { spec, set_up: Box::new(set_up) });
    }
    bail!("more than {MOST_WORKLOADS} workloads, or the final entry `{{ 0 }}` is missing")
}

fn spec(name: &str, descriptor: &Descriptor) -> Result<WorkloadSpec> {
    ensure!(descriptor.abi == ABI, "it was written for version {} of the interface, not {ABI}", descriptor.abi);
    ensure!(descriptor.run.is_some() && descriptor.finish.is_some(), "`run` and `finish` are required");
    ensure!(descriptor.metric <= WALL_TIME, "metric {} is not one of enum bench_metric", descriptor.metric);
    ensure!(descriptor.flags & !(THREADS | EXACT_COUNTS) == 0, "flags {:#x} hold unknown bits", descriptor.flags);
    ensure!(!descriptor.event.is_null(), "`event` must say what one event is");
    Ok(WorkloadSpec {
        name: name.to_owned(),
        kind: "user_c".to_owned(),
        params: toml::Table::new(),
        // SAFETY: not null, and the interface asks for a string.
        event: unsafe { string(descriptor.event) }.context("`event`")?.to_owned(),
        batch_events: descriptor.batch_events,
        checksum: Checksum(descriptor.checksum),
        metric: if descriptor.metric == WALL_TIME { Metric::WallTime } else { Metric::CpuTime },
        peer_process: false,
        threads: descriptor.flags & THREADS != 0,
        needs: None,
        exact_counts: descriptor.flags & EXACT_COUNTS != 0,
    })
}

/// A C workload that is set up.
struct CWorkload {
    descriptor: Descriptor,
    state: *mut c_void,
}

impl CWorkload {
    fn set_up(descriptor: Descriptor) -> Result<Self> {
        let mut state = ptr::null_mut();
        if let Some(setup) = descriptor.setup {
            // SAFETY: the function's contract, as the header states it.
            check(unsafe { setup(&raw mut state) }).context("setup")?;
        }
        Ok(CWorkload { descriptor, state })
    }
}

impl Workload for CWorkload {
    fn prepare(&mut self) -> Result<()> {
        match self.descriptor.prepare {
            // SAFETY: `state` comes from setup.
            Some(prepare) => check(unsafe { prepare(self.state) }),
            None => Ok(()),
        }
    }

    fn run(&mut self) -> Result<u64> {
        let run = self.descriptor.run.context("`run` is missing")?;
        let mut events = 0;
        // SAFETY: `state` comes from setup, `events` outlives the call.
        check(unsafe { run(self.state, &raw mut events) })?;
        Ok(events)
    }

    fn finish(&mut self) -> Result<u64> {
        let finish = self.descriptor.finish.context("`finish` is missing")?;
        let mut checksum = 0;
        // SAFETY: `state` comes from setup, `checksum` outlives the call.
        check(unsafe { finish(self.state, &raw mut checksum) })?;
        Ok(checksum)
    }

    fn expected_checksum(&self) -> u64 {
        self.descriptor.checksum
    }
}

impl Drop for CWorkload {
    fn drop(&mut self) {
        if let Some(teardown) = self.descriptor.teardown {
            // SAFETY: `state` comes from a setup that succeeded, and this is its only teardown.
            unsafe { teardown(self.state) };
        }
    }
}

fn check(message: Message) -> Result<()> {
    if message.is_null() {
        return Ok(());
    }
    // SAFETY: not null, and the interface asks for a string that lives on after the call.
    bail!("{}", unsafe { CStr::from_ptr(message) }.to_string_lossy())
}

/// SAFETY: `text` must be a string of static lifetime that ends in NUL.
unsafe fn string(text: *const c_char) -> Result<&'static str> {
    // SAFETY: promised by the caller.
    Ok(unsafe { CStr::from_ptr(text) }.to_str()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    unsafe extern "C" fn run(_: *mut c_void, events: *mut u64) -> Message {
        // SAFETY: the caller hands in a place for the count.
        unsafe { *events = 3 };
        ptr::null()
    }
    unsafe extern "C" fn finish(_: *mut c_void, _: *mut u64) -> Message {
        c"the bytes differ".as_ptr()
    }

    const END: Descriptor = Descriptor {
        abi: 0,
        metric: 0,
        flags: 0,
        name: ptr::null(),
        event: ptr::null(),
        batch_events: 0,
        checksum: 0,
        setup: None,
        prepare: None,
        run: None,
        finish: None,
        teardown: None,
    };
    const GOOD: Descriptor = Descriptor {
        abi: ABI,
        metric: WALL_TIME,
        flags: THREADS,
        name: c"a.b".as_ptr(),
        event: c"one call".as_ptr(),
        batch_events: 3,
        checksum: 9,
        run: Some(run),
        finish: Some(finish),
        ..END
    };

    fn read(array: &[Descriptor]) -> Result<Vec<UserWorkload>> {
        // SAFETY: every array of these tests ends with `END` or is refused before its end.
        unsafe { read_array(array.as_ptr()) }
    }

    #[test]
    fn a_descriptor_becomes_a_workload() {
        let workloads = read(&[GOOD, END]).unwrap();
        let [one] = workloads.as_slice() else { panic!("one workload") };
        assert_eq!((one.spec.name.as_str(), one.spec.metric, one.spec.threads), ("a.b", Metric::WallTime, true));
        let mut workload = (one.set_up)().unwrap();
        workload.prepare().unwrap();
        assert_eq!(workload.run().unwrap(), 3);
        assert_eq!(workload.finish().unwrap_err().to_string(), "the bytes differ");
        assert_eq!(workload.expected_checksum(), 9);
    }

    #[test]
    fn a_descriptor_that_makes_no_sense_is_refused() {
        for (wrong, named) in [
            (Descriptor { abi: 2, ..GOOD }, "version 2"),
            (Descriptor { run: None, ..GOOD }, "`run`"),
            (Descriptor { metric: 7, ..GOOD }, "metric 7"),
            (Descriptor { flags: 8, ..GOOD }, "0x8"),
            (Descriptor { event: ptr::null(), ..GOOD }, "`event`"),
        ] {
            let error = format!("{:#}", read(&[wrong, END]).err().expect(named));
            assert!(error.contains(named) && error.contains("a.b"), "{error}");
        }
    }
}
