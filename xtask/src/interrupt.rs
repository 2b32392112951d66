//! Ctrl-C and SIGTERM: set a flag that every loop and every wait for a child looks at.

use crate::exit::{Exit, failure};
use anyhow::Result;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

static ASKED: AtomicBool = AtomicBool::new(false);
static INSTALL: Once = Once::new();

/// From now on an interrupt asks the run to end with what it has. A second one ends it at once, with every group of
/// processes that it has started.
pub(crate) fn install() -> Result<()> {
    let mut result = Ok(());
    INSTALL.call_once(|| {
        result = ctrlc::set_handler(|| {
            if ASKED.swap(true, Ordering::SeqCst) {
                // On a thread of its own, not in a signal handler: locks may be taken. Nothing is dropped any more.
                crate::process::live::kill_all();
                std::process::exit(Exit::Interrupted as i32);
            }
            eprintln!("\ninterrupted: ending with what there is (again to end at once)");
        });
    });
    Ok(result?)
}

/// Whether an interrupt was received.
pub(crate) fn asked() -> bool {
    ASKED.load(Ordering::SeqCst)
}

/// Sleeps; an interrupt ends the sleep with its error.
pub(crate) fn sleep(time: Duration) -> Result<()> {
    let end = Instant::now() + time;
    loop {
        check()?;
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        std::thread::sleep(left.min(Duration::from_millis(50)));
    }
}

/// An error with exit code 130 if an interrupt was received.
pub(crate) fn check() -> Result<()> {
    if asked() { Err(failure(Exit::Interrupted, "interrupted")) } else { Ok(()) }
}
