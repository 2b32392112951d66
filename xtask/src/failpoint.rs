//! A write that fails, for tests of what is left then: `LIBEVENT_PERF_FAIL_WRITE=N:KIND[:PART]` lets the N-th write of a whole
//! file, or of an entry of the ledger, fail in this process; of those whose path has PART in it, if that is given. KIND is
//! `full` (no space is left) or `broken` (the disk fails). Only programs compiled with debug assertions look at it.

use std::io;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

const VARIABLE: &str = "LIBEVENT_PERF_FAIL_WRITE";

static ASKED: OnceLock<Option<Failpoint>> = OnceLock::new();

/// Fails where a write to `path` is to fail, and says so on standard error.
pub(crate) fn write(path: &Path) -> io::Result<()> {
    if !cfg!(debug_assertions) {
        return Ok(());
    }
    let asked = ASKED.get_or_init(|| Failpoint::parse(&std::env::var(VARIABLE).ok()?));
    let Some(error) = asked.as_ref().and_then(|failpoint| failpoint.count(path)) else { return Ok(()) };
    eprintln!("failpoint: {}", path.display());
    Err(io::Error::from_raw_os_error(error))
}

struct Failpoint {
    number: u64,
    error: i32,
    part: String,
    seen: AtomicU64,
}

impl Failpoint {
    fn parse(text: &str) -> Option<Failpoint> {
        let mut parts = text.splitn(3, ':');
        let number = parts.next()?.parse().ok()?;
        let error = match parts.next()? {
            "full" => libc::ENOSPC,
            "broken" => libc::EIO,
            _ => return None,
        };
        Some(Failpoint { number, error, part: parts.next().unwrap_or_default().to_owned(), seen: AtomicU64::new(0) })
    }

    /// The error of a write to `path`, if it is the one that fails.
    fn count(&self, path: &Path) -> Option<i32> {
        let is_meant = path.to_string_lossy().contains(&self.part);
        (is_meant && self.seen.fetch_add(1, Ordering::Relaxed) + 1 == self.number).then_some(self.error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nth_write_fails_and_no_other() {
        let failpoint = Failpoint::parse("2:full:steps/").unwrap();
        let of = |path: &str| failpoint.count(Path::new(path));
        assert_eq!(
            [of("/w/steps/a"), of("/w/b"), of("/w/steps/b"), of("/w/steps/c")],
            [None, None, Some(libc::ENOSPC), None]
        );
        assert_eq!(Failpoint::parse("1:broken").unwrap().count(Path::new("x")), Some(libc::EIO));
        for wrong in ["", "1", "x:full", "1:odd"] {
            assert!(Failpoint::parse(wrong).is_none(), "{wrong}");
        }
    }
}
