//! What a case observes, from operations and from callbacks alike: each case has its process, so
//! that there is one trace.

use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::fmt::{Arguments, Debug};
use std::io::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

static TRACE: Mutex<Option<Trace>> = Mutex::new(None);
/// Where the number of the operation is written for the parent to see: memory shared with it.
static STEP: AtomicPtr<AtomicU64> = AtomicPtr::new(std::ptr::null_mut());

struct Trace {
    hasher: Sha256,
    /// Lines are printed as they come, so that those before a crash are there.
    print: bool,
    violation: Option<String>,
    /// What users can see and nobody promised, by kind.
    soft: BTreeMap<&'static str, Sha256>,
}

/// Something that must be the same for every correct library: it goes into the digest.
#[macro_export]
macro_rules! observe {
    ($($arg:tt)*) => { $crate::observe::add(format_args!($($arg)*)) };
}

/// Something that users can see, but that no interface promises, such as the bytes of one read: each
/// kind (the first argument) has a digest of its own, and a difference is a change to be decided on.
#[macro_export]
macro_rules! soft {
    ($kind:expr, $($arg:tt)*) => { $crate::observe::add_soft($kind, format_args!($($arg)*)) };
}

/// Something for readers of a trace alone.
#[macro_export]
macro_rules! note {
    ($($arg:tt)*) => { $crate::observe::remark(format_args!($($arg)*)) };
}

/// A contradiction to the model that is found where no `Err` can be returned, as in a callback.
#[macro_export]
macro_rules! violate {
    ($($arg:tt)*) => { $crate::observe::violated(format!($($arg)*)) };
}

/// Starts the trace of this process.
pub(crate) fn begin(print: bool, step: *mut AtomicU64) {
    STEP.store(step, Ordering::Relaxed);
    *lock() = Some(Trace { hasher: Sha256::new(), print, violation: None, soft: BTreeMap::new() });
}

/// The digest of everything observed since `begin`, and those of what is not promised.
pub(crate) fn digests() -> (String, BTreeMap<String, String>) {
    let hex = |hasher: Sha256| hasher.finalize()[..8].iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let Some(trace) = lock().take() else { return Default::default() };
    (hex(trace.hasher), trace.soft.into_iter().map(|(kind, hasher)| (kind.to_owned(), hex(hasher))).collect())
}

/// What `observe!` calls.
pub fn add(text: Arguments<'_>) {
    if let Some(trace) = lock().as_mut() {
        // A line end separates observations; none contains one after this.
        let text = text.to_string().replace('\n', "\\n");
        trace.hasher.update(text.as_bytes());
        trace.hasher.update(b"\n");
        if trace.print {
            print(&text);
        }
    }
}

/// What `soft!` calls.
pub fn add_soft(kind: &'static str, text: Arguments<'_>) {
    if let Some(trace) = lock().as_mut() {
        let text = text.to_string().replace('\n', "\\n");
        let hasher = trace.soft.entry(kind).or_default();
        hasher.update(text.as_bytes());
        hasher.update(b"\n");
        if trace.print {
            print(&format!("~{kind}: {text}"));
        }
    }
}

/// What `note!` calls.
pub fn remark(text: Arguments<'_>) {
    if let Some(trace) = lock().as_mut()
        && trace.print
    {
        print(&format!("    ({text})"));
    }
}

/// What `violate!` calls; the first one counts.
pub fn violated(text: String) {
    remark(format_args!("violation: {text}"));
    if let Some(trace) = lock().as_mut() {
        trace.violation.get_or_insert(text);
    }
}

/// The violation that was recorded, if any.
pub(crate) fn violation() -> Result<(), String> {
    lock().as_mut().and_then(|trace| trace.violation.take()).map_or(Ok(()), Err)
}

/// Operation `index` begins.
pub(crate) fn step(index: usize, op: &impl Debug) {
    set_step(index);
    add(format_args!("#{index} {op:?}"));
}

/// All operations are done; the end of the case begins.
pub(crate) fn step_end(index: usize) {
    set_step(index);
    add(format_args!("#end"));
}

fn set_step(index: usize) {
    // SAFETY: null, or shared memory that the parent mapped and that outlives this process.
    if let Some(step) = unsafe { STEP.load(Ordering::Relaxed).as_ref() } {
        step.store(index as u64, Ordering::Relaxed);
    }
}

fn print(text: &str) {
    let mut stdout = std::io::stdout().lock();
    // A reader that went away ends the parent; nothing to say here.
    let _ = writeln!(stdout, "{text}").and_then(|()| stdout.flush());
}

fn lock() -> std::sync::MutexGuard<'static, Option<Trace>> {
    TRACE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
