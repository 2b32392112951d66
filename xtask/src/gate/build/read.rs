//! What a compiler says that it has read, looked at by the harness, which is not confined: only ordinary files where
//! headers belong are opened, and none without a bound.

use crate::exit::{Exit, failure};
use crate::{files, sandbox};
use anyhow::Result;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// No source file or header is a tenth of this.
const MOST_BYTES: u64 = 32 << 20;

/// Where source files and headers are.
pub(super) struct Places {
    /// The source, and what was generated for it.
    own: Vec<PathBuf>,
    /// The system and the compiler's installation, of which only what is for programs to include counts.
    system: Vec<PathBuf>,
}

impl Places {
    /// For a compiler that reads these folders besides the system's.
    pub(super) fn new<'a>(cc: &str, own: impl Iterator<Item = &'a Path>) -> Result<Places> {
        Ok(Places {
            own: own.filter_map(|folder| folder.canonicalize().ok()).collect(),
            system: sandbox::header_folders(cc)?.into_iter().filter_map(|folder| folder.canonicalize().ok()).collect(),
        })
    }

    /// The file that a compiler read under this name, if it is one that it may read.
    fn file(&self, name: &Path) -> Result<PathBuf> {
        let no = |why: &str| {
            let message = format!(
                "{} was read by the compiler: {why}; sources include their own headers and the system's, and nothing else",
                name.display()
            );
            Err(failure(Exit::Failed, message))
        };
        // Nothing is opened by these: a device or a pipe would wait, or never end.
        let Ok(real) = name.canonicalize() else { return no("it is no file that is to be found") };
        let of_programs =
            |part: std::path::Component<'_>| matches!(part.as_os_str().to_str(), Some("include" | "include-fixed"));
        let own = self.own.iter().any(|folder| real.starts_with(folder));
        let system = self.system.iter().any(|folder| real.starts_with(folder));
        let belongs = own || system && real.components().any(of_programs);
        if !name.is_absolute() || !belongs {
            return no("it is neither of the source nor a header of the system");
        }
        match real.symlink_metadata() {
            Ok(metadata) if !metadata.is_file() => no("it is no regular file"),
            Ok(metadata) if metadata.len() > MOST_BYTES => no(&format!("it has {} bytes", metadata.len())),
            Ok(_) => Ok(real),
            Err(_) => no("it cannot be looked at"),
        }
    }
}

/// Hashes of such files, each read once.
pub(super) struct Hashes {
    places: Places,
    known: Mutex<BTreeMap<PathBuf, String>>,
}

impl Hashes {
    pub(super) fn new(places: Places) -> Hashes {
        Hashes { places, known: Mutex::default() }
    }

    /// SHA-256 of a file that a compiler read; [`Exit::Failed`] if it is none that it may read.
    pub(super) fn of(&self, path: &Path) -> Result<String> {
        if let Some(known) = self.known.lock().ok().and_then(|known| known.get(path).cloned()) {
            return Ok(known);
        }
        let sha256 = files::sha256_file(&self.places.file(path)?)?;
        if let Ok(mut known) = self.known.lock() {
            known.insert(path.to_owned(), sha256.clone());
        }
        Ok(sha256)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::exit::exit_of;
    use std::os::unix::fs::symlink;

    /// Everything below a folder.
    pub(in crate::gate::build) fn below(folder: &Path) -> Hashes {
        Hashes::new(Places { own: vec![folder.canonicalize().unwrap()], system: vec![] })
    }

    #[test]
    fn only_ordinary_files_where_headers_belong_are_opened() {
        let scratch = tempfile::tempdir().unwrap();
        let folder = scratch.path().canonicalize().unwrap();
        let (own, system) = (folder.join("source"), folder.join("usr"));
        for path in ["source/a.h", "usr/include/x.h", "usr/share/x.h", "outside.h"] {
            std::fs::create_dir_all(folder.join(path).parent().unwrap()).unwrap();
            std::fs::write(folder.join(path), "int x;\n").unwrap();
        }
        std::fs::File::create(own.join("large.h")).unwrap().set_len(MOST_BYTES + 1).unwrap();
        let fifo = std::ffi::CString::new(own.join("fifo.h").to_str().unwrap()).unwrap();
        // SAFETY: a path that lives until the call returns.
        assert_eq!(unsafe { libc::mkfifo(fifo.as_ptr(), 0o600) }, 0);
        symlink("/dev/stdin", own.join("stdin.h")).unwrap();
        symlink("/dev/zero", own.join("zero.h")).unwrap();
        symlink(folder.join("outside.h"), own.join("link.h")).unwrap();
        symlink("a.h", own.join("inner.h")).unwrap();
        let hashes = Hashes::new(Places { own: vec![own.clone()], system: vec![system.clone()] });
        for path in [own.join("a.h"), own.join("inner.h"), system.join("include/x.h"), own.join("../source/a.h")] {
            hashes.of(&path).unwrap();
        }
        for path in [
            PathBuf::from("/dev/stdin"),
            "/proc/self/environ".into(),
            "/dev/zero".into(),
            "a.h".into(),
            own.clone(),
            own.join("fifo.h"),
            own.join("large.h"),
            own.join("stdin.h"),
            own.join("zero.h"),
            own.join("link.h"),
            own.join("../outside.h"),
            own.join("none.h"),
            system.join("share/x.h"),
        ] {
            let error = hashes.of(&path).unwrap_err();
            assert_eq!(exit_of(&error), Exit::Failed);
            assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
        }
    }

    #[test]
    fn headers_of_this_system_are_found_where_headers_belong() {
        let hashes = Hashes::new(Places::new(&crate::build::compiler(), std::iter::empty()).unwrap());
        for header in ["/usr/include/stdio.h", "/usr/include/linux/version.h"] {
            if Path::new(header).exists() {
                hashes.of(Path::new(header)).unwrap();
            }
        }
        assert!(hashes.of(Path::new("/etc/hostname")).is_err());
    }
}
