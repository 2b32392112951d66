//! One line at the end of a file: whole and on the disk, or not at all.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;

/// What a line is appended to; a trait so that tests can let each step fail, or end the process there.
pub(super) trait Sink {
    /// Adds bytes at the end.
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Waits until everything written is on the disk.
    fn sync(&mut self) -> io::Result<()>;
    /// Cuts the file off.
    fn set_len(&mut self, length: u64) -> io::Result<()>;
}

impl Sink for File {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Err(error) = crate::failpoint::write(Path::new("ledger.jsonl")) {
            // As a disk does it that is full in the middle of a line.
            (&*self).write_all(&bytes[..bytes.len() / 2])?;
            return Err(error);
        }
        (&*self).write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_all()
    }

    fn set_len(&mut self, length: u64) -> io::Result<()> {
        File::set_len(self, length)
    }
}

/// Appends a line and its end to a file of `whole` bytes that is open for appending. If it returns, the line is on the disk;
/// if it fails, the file is what it was, or, where even that failed, has an unfinished line, which whoever opens it next sets
/// aside. The line end is part of the one write, so that a line without one was never acknowledged.
pub(super) fn append(sink: &mut impl Sink, whole: u64, line: &str) -> io::Result<()> {
    debug_assert!(!line.contains('\n'), "an entry is one line");
    let written = sink.write_all(format!("{line}\n").as_bytes()).and_then(|()| sink.sync());
    if written.is_err() {
        // What was said to have failed must not be found there later.
        drop(sink.set_len(whole).and_then(|()| sink.sync()));
    }
    written
}
