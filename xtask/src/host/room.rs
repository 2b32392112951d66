//! What is left of a disk.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// What this user may still use of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Room {
    /// In bytes.
    pub(crate) bytes: u64,
    /// Files that can be made; null where the file system has no bound of its own.
    pub(crate) files: Option<u64>,
}

/// Of the disk that a folder or file is on; `None` if there is none, or it does not tell.
pub(crate) fn of(path: &Path) -> Option<Room> {
    let path = CString::new(path.as_os_str().as_bytes()).ok()?;
    // SAFETY: an all-zero statvfs is a valid value of the type.
    let mut stat: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: the path ends with a zero byte, and the structure is valid for writing.
    if unsafe { libc::statvfs(path.as_ptr(), &raw mut stat) } != 0 {
        return None;
    }
    let files = (stat.f_files > 0).then_some(stat.f_favail);
    Some(Room { bytes: stat.f_bavail.saturating_mul(stat.f_frsize), files })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_tells_what_is_left_of_it() {
        let folder = tempfile::tempdir().unwrap();
        assert!(of(folder.path()).is_some_and(|room| room.bytes > 0), "this test has just made a folder there");
        assert_eq!(of(&folder.path().join("absent")), None);
        // A file system of nothing has neither bytes nor a number of files.
        assert_eq!(of(Path::new("/proc/self")), Some(Room { bytes: 0, files: None }));
    }
}
