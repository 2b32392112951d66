//! Whose fault is it that a compiler failed? A full disk and a kernel that is out of memory say nothing about the source.
//!
//! Part of what a compiler prints is the source's own (`#error`, `#pragma message`, names after `#line`), so words alone are no
//! evidence. The disk is asked how much room it has, and the kernel how many processes it has killed since the compiler was
//! started; words only decide where these leave a doubt.

use crate::exit::{Exit, failure};
use crate::host::room;
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::ExitStatus;

/// With less room than this, no compiler can be expected to end well, whatever it says: one object file with debug information
/// takes megabytes.
const NO_ROOM_BYTES: u64 = 16 << 20;
/// With less room than this, a compiler that says that there was none is believed: what it had written is removed when it fails, so
/// that there is some again.
const LITTLE_ROOM_BYTES: u64 = 512 << 20;

/// What compilers, assemblers and linkers say of a full disk.
const NO_SPACE: &[&str] = &["No space left on device", "Disk quota exceeded"];
/// What their drivers say of a part that was killed, gcc's and clang's, and ninja of both.
const KILLED: &[&str] = &["Killed signal terminated program", "unable to execute command: Killed", "[code=137]"];

/// What the host was when a tool was started.
pub(crate) struct Outside<'a> {
    place: &'a Path,
    kills: Option<u64>,
}

impl<'a> Outside<'a> {
    /// Before a tool is started that writes to the disk of `place`.
    pub(crate) fn begin(place: &'a Path) -> Outside<'a> {
        Outside { place, kills: kills() }
    }

    /// The error of that tool, which ended with `status` and printed `said`: [`Exit::Failed`] with `message`, unless the host is
    /// to blame. Of a full disk, the error has [`io::ErrorKind::StorageFull`] among its causes.
    pub(crate) fn error(&self, status: ExitStatus, said: &str, message: String) -> anyhow::Error {
        let seen = Seen {
            said,
            room: room::of(self.place),
            kills: [self.kills, kills()],
            // By nobody of this harness: whom that kills for its time or memory, it names itself.
            was_killed: status.signal() == Some(libc::SIGKILL) || status.code() == Some(128 + libc::SIGKILL),
        };
        error_of(cause(&seen), self.place, message)
    }
}

/// What is known of a tool that failed.
struct Seen<'a> {
    /// What it printed.
    said: &'a str,
    /// Afterwards; null where the disk does not tell.
    room: Option<room::Room>,
    /// Processes that the kernel has killed for want of memory, before and after; null where it does not tell.
    kills: [Option<u64>; 2],
    /// The tool itself was killed, not one that it had started.
    was_killed: bool,
}

/// What of the host ended a tool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    FullDisk,
    Killed,
}

fn cause(seen: &Seen<'_>) -> Option<Cause> {
    let says = |words: &[&str]| words.iter().any(|words| seen.said.contains(words));
    let is_full = seen.room.is_some_and(|room| {
        let has_little = room.bytes < LITTLE_ROOM_BYTES || room.files == Some(0);
        room.bytes < NO_ROOM_BYTES || (says(NO_SPACE) && has_little)
    });
    let has_killed = matches!(seen.kills, [Some(before), Some(after)] if after > before);
    if is_full {
        Some(Cause::FullDisk)
    } else if seen.was_killed || (has_killed && says(KILLED)) {
        Some(Cause::Killed)
    } else {
        None
    }
}

fn error_of(cause: Option<Cause>, place: &Path, message: String) -> anyhow::Error {
    match cause {
        None => failure(Exit::Failed, message),
        Some(Cause::FullDisk) => anyhow::Error::new(io::Error::from(io::ErrorKind::StorageFull)).context(format!(
            "the disk of {} is full, which says nothing about the source; free space there and run the same command. {message}",
            place.display()
        )),
        Some(Cause::Killed) => failure(
            Exit::Infrastructure,
            format!(
                "something outside killed the compiler, most likely the kernel for want of memory, which says nothing about the \
                 source; see that there is memory for it. {message}"
            ),
        ),
    }
}

/// Processes that the kernel has killed for want of memory since it was started.
fn kills() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/vmstat").ok()?;
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::exit_of;

    const FULL: &str =
        "/tmp/ccx.s: Fatal error: can't write 41 bytes to section .text of a.o: 'No space left on device'\n";
    const KILL: &str = "gcc: fatal error: Killed signal terminated program cc1\ncompilation terminated.\n";

    fn seen(said: &str, mib: u64, kills: [u64; 2]) -> Seen<'_> {
        let room = Some(room::Room { bytes: mib << 20, files: Some(1000) });
        Seen { said, room, kills: kills.map(Some), was_killed: false }
    }

    #[test]
    fn words_of_a_source_make_no_host_guilty() {
        // `#error No space left on device` and its like, on a host with room and memory.
        for said in ["a.c:1:2: error: #error No space left on device\n", FULL, KILL, "[code=137]"] {
            assert_eq!(cause(&seen(said, 10_000, [3, 3])), None, "{said}");
        }
        let unknown = Seen { room: None, kills: [None, None], ..seen(KILL, 1, [0, 0]) };
        assert_eq!(cause(&unknown), None);
    }

    #[test]
    fn a_full_disk_and_a_kernel_without_memory_are_found() {
        assert_eq!(cause(&seen(FULL, 100, [0, 0])), Some(Cause::FullDisk), "there is some again since it was removed");
        assert_eq!(cause(&seen("a.c:1: error: x", 100, [0, 0])), None);
        assert_eq!(cause(&seen("", 1, [0, 0])), Some(Cause::FullDisk), "nothing could be said");
        let mut without_files = seen(FULL, 10_000, [0, 0]);
        without_files.room = Some(room::Room { bytes: 10_000 << 20, files: Some(0) });
        assert_eq!(cause(&without_files), Some(Cause::FullDisk));
        assert_eq!(cause(&seen(KILL, 10_000, [3, 4])), Some(Cause::Killed));
        assert_eq!(cause(&seen("a.c:1: error: x", 10_000, [3, 4])), None, "somebody else was killed");
        assert_eq!(cause(&Seen { was_killed: true, ..seen("", 10_000, [3, 3]) }), Some(Cause::Killed));
    }

    #[test]
    fn the_hosts_fault_is_no_answer_of_a_candidate() {
        let folder = tempfile::tempdir().unwrap();
        let of = |cause| error_of(cause, folder.path(), "variant a: x.c does not compile".to_owned());
        assert_eq!(exit_of(&of(None)), Exit::Failed);
        assert_eq!(exit_of(&of(Some(Cause::Killed))), Exit::Infrastructure);
        let full = of(Some(Cause::FullDisk));
        assert_eq!(exit_of(&full), Exit::Infrastructure);
        let kinds = full.chain().filter_map(|cause| cause.downcast_ref::<io::Error>()).map(io::Error::kind);
        assert!(kinds.into_iter().any(|kind| kind == io::ErrorKind::StorageFull), "{full:#}");
        assert!(
            full.to_string().contains("x.c does not compile") && full.to_string().contains("free space"),
            "{full:#}"
        );
        // A tool that really fails here is at fault itself: there is room, and nobody was killed.
        let status = std::process::Command::new("false").status().unwrap();
        let error = Outside::begin(folder.path()).error(status, FULL, "x".to_owned());
        let has_room = room::of(folder.path()).is_some_and(|room| room.bytes >= LITTLE_ROOM_BYTES);
        assert!(!has_room || exit_of(&error) == Exit::Failed, "{error:#}");
    }
}
