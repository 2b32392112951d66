//! Files of one JSON line for each thing that was done: a soak may be ended at any instant and goes on with the next.

use crate::files;
use anyhow::{Context as _, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// An open file, to which lines are added.
pub(crate) struct Lines {
    path: PathBuf,
    file: File,
}

impl Lines {
    /// Opens the file `name` in `folder`, and returns what is in it. A line that a kill or a full disk cut off is cut off
    /// entirely: what it stood for is done again.
    pub(crate) fn open<T: DeserializeOwned>(folder: &Path, name: &str) -> Result<(Lines, Vec<T>)> {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        let path = folder.join(name);
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => vec![],
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        if whole < text.len() {
            files::write_atomic(&path, &text[..whole])?;
        }
        let lines = text[..whole].split(|byte| *byte == b'\n').enumerate().filter(|(_, line)| !line.is_empty());
        let parsed = lines.map(|(number, line)| {
            serde_json::from_slice(line)
                .with_context(|| format!("{}, line {}, is damaged; remove the file", path.display(), number + 1))
        });
        let parsed = parsed.collect::<Result<Vec<T>>>()?;
        let file = OpenOptions::new().create(true).append(true).open(&path);
        let file = file.with_context(|| format!("cannot write {}", path.display()))?;
        Ok((Lines { path, file }, parsed))
    }

    /// Adds a line, whole or not at all.
    pub(crate) fn add(&mut self, line: &impl Serialize) -> Result<()> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        let unwritable = || format!("cannot write {}; free space there and run the same command", self.path.display());
        let complete = self.file.metadata().with_context(unwritable)?.len();
        let written = self.file.write_all(&text).with_context(unwritable);
        if written.is_err() {
            // If that fails too, opening cuts the rest of the line off.
            drop(self.file.set_len(complete));
        }
        written
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}
