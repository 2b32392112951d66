//! A file tree of its own: the system's folders, what the policy names, an empty /tmp. Nothing else is there,
//! so nothing else can be read, whatever its permissions say; and folders that only root may enter do not
//! stand between confined code and its own files.

use super::Policy;
use anyhow::{Context as _, Result};
use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::File;
use std::io::Error;
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// What programs, libraries and compilers are made of, where the host has it.
pub(super) const SYSTEM: &[&str] = &[
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/etc",
    "/opt",
    "/nix",
    "/gnu",
    "/run/current-system",
];
/// Devices that programs may expect.
const DEVICES: &[&str] = &["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"];
/// Where the tree is put together: there is such a folder everywhere.
const BASE: &str = "/tmp";

/// Leads to a file whatever is mounted over its path by now.
struct Source {
    handle: File,
    folder: bool,
    writable: bool,
}

/// Moves this process into a tree of its own.
pub(super) fn own_tree(policy: &Policy, program: &Path) -> Result<()> {
    // SAFETY: no pointers; this process has one thread.
    if unsafe { libc::unshare(libc::CLONE_NEWNS) } != 0 {
        return Err(Error::last_os_error()).context("unshare(CLONE_NEWNS)");
    }
    mount("none", Path::new("/"), "", libc::MS_REC | libc::MS_PRIVATE, "")?;
    let mut links = BTreeMap::new();
    let mut sources = BTreeMap::new();
    let system = SYSTEM.iter().chain(DEVICES).map(Path::new).filter(|path| path.symlink_metadata().is_ok());
    let readable = policy.readable.iter().map(PathBuf::as_path).chain([program, Path::new("/proc")]).chain(system);
    let writable = policy.writable.iter().map(|path| (path.as_path(), true));
    for (path, writable) in readable.map(|path| (path, false)).chain(writable) {
        let real = path.canonicalize().with_context(|| format!("cannot find {}", path.display()))?;
        if real != path {
            links.insert(path.to_owned(), real.clone());
        }
        let handle = std::fs::OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_PATH | libc::O_CLOEXEC)
            .open(&real)
            .with_context(|| format!("cannot open {}", real.display()))?;
        let folder = handle.metadata()?.is_dir();
        let writable = writable || real.starts_with("/dev") || real == Path::new("/proc");
        // Folders sort before what is in them.
        sources.insert(real, Source { handle, folder, writable });
    }

    let flags = libc::MS_NOSUID | libc::MS_NODEV;
    let base = Path::new(BASE);
    mount("tmpfs", base, "tmpfs", flags, "mode=755,size=16m")?;
    for (folder, most_bytes) in [("tmp", 4 * policy.file_bytes), ("dev/shm", policy.file_bytes)] {
        let folder = base.join(folder);
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        mount("tmpfs", &folder, "tmpfs", flags, &format!("mode=1777,size={most_bytes}"))?;
    }
    for (path, source) in &sources {
        let place = base.join(path.strip_prefix("/")?);
        make_place(&place, source.folder)?;
        let handle = format!("/proc/self/fd/{}", source.handle.as_raw_fd());
        mount(&handle, &place, "", libc::MS_BIND | libc::MS_REC, "")
            .with_context(|| format!("cannot show {}", path.display()))?;
        if !source.writable {
            read_only(&place, true).with_context(|| format!("cannot protect {}", path.display()))?;
        }
    }
    for (path, real) in &links {
        let place = base.join(path.strip_prefix("/")?);
        if place.symlink_metadata().is_err() {
            make_parents(&place)?;
            std::os::unix::fs::symlink(real, &place).with_context(|| format!("cannot link {}", path.display()))?;
        }
    }
    for (name, target) in [("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")] {
        let place = base.join("dev").join(name);
        std::os::unix::fs::symlink(target, &place).with_context(|| format!("cannot link {}", place.display()))?;
    }
    read_only(base, false)?;
    enter(base)
}

/// Makes `base` the root, and lets go of the old one.
fn enter(base: &Path) -> Result<()> {
    std::env::set_current_dir(base).with_context(|| format!("cannot enter {}", base.display()))?;
    // The old root comes to lie on the new one, and is taken off it.
    // SAFETY: both paths are strings of this program's own.
    if unsafe { libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()) } != 0 {
        return Err(Error::last_os_error()).context("pivot_root");
    }
    // SAFETY: the same.
    if unsafe { libc::umount2(c".".as_ptr(), libc::MNT_DETACH) } != 0 {
        return Err(Error::last_os_error()).context("umount of the old root");
    }
    std::env::set_current_dir("/").context("cannot enter the new root")
}

fn make_parents(place: &Path) -> Result<()> {
    let parent = place.parent().context("a place has a parent")?;
    std::fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))
}

/// Something to mount on.
fn make_place(place: &Path, folder: bool) -> Result<()> {
    if place.exists() {
        return Ok(());
    }
    if folder {
        return std::fs::create_dir_all(place).with_context(|| format!("cannot create {}", place.display()));
    }
    make_parents(place)?;
    File::create(place).map(drop).with_context(|| format!("cannot create {}", place.display()))
}

fn mount(source: &str, target: &Path, kind: &str, flags: libc::c_ulong, options: &str) -> Result<()> {
    let text = |bytes: &[u8]| CString::new(bytes).context("a path with a zero byte");
    let shown = target.display();
    let [source, target, kind, options] = [
        text(source.as_bytes())?,
        text(target.as_os_str().as_bytes())?,
        text(kind.as_bytes())?,
        text(options.as_bytes())?,
    ];
    // SAFETY: four strings that live until the call returns.
    let result =
        unsafe { libc::mount(source.as_ptr(), target.as_ptr(), kind.as_ptr(), flags, options.as_ptr().cast()) };
    if result == 0 { Ok(()) } else { Err(Error::last_os_error()).with_context(|| format!("mount on {shown}")) }
}

/// As mount_setattr(2) wants it.
#[repr(C)]
struct Attributes {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

/// Refuses writes through a mount, and through those below it, without touching its other attributes.
fn read_only(target: &Path, recursive: bool) -> Result<()> {
    const READ_ONLY: u64 = 1;
    let path = CString::new(target.as_os_str().as_bytes()).context("a path with a zero byte")?;
    let attributes = Attributes { set: READ_ONLY, clear: 0, propagation: 0, user_namespace: 0 };
    let flags = if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path and the structure live until the call returns; its size is given.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            path.as_ptr(),
            flags,
            &raw const attributes,
            size_of::<Attributes>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(Error::last_os_error()).context("mount_setattr") }
}
