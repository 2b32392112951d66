//! Removes what a seeded defect leaves behind: worktrees and builds that nobody asks for again.

use crate::context::Context;
use anyhow::{Context as _, Result};
use model::variant::Variant;
use std::path::Path;

/// Folders of builds, each with a folder for every build.
const BUILDS: &[&str] = &["builds", "gate/builds"];

/// Removes worktrees and builds of a variant. Only folders whose record names the variant are touched.
pub(super) fn forget(context: &Context, variant: &Variant) -> Result<()> {
    for builds in BUILDS {
        let Ok(entries) = std::fs::read_dir(context.work.join(builds)) else { continue };
        for folder in entries.flatten().map(|entry| entry.path()).filter(|path| is_of(path, &variant.id)) {
            std::fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
        }
    }
    let worktree = context.work.join("variants").join(&variant.id);
    match std::fs::remove_dir_all(&worktree) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", worktree.display()))
        }
        _ => Ok(()),
    }
}

/// Whether a record in a build's folder says that it was built from the variant.
fn is_of(folder: &Path, id: &str) -> bool {
    let Ok(entries) = std::fs::read_dir(folder) else { return false };
    let records = entries.flatten().filter(|entry| entry.path().extension().is_some_and(|end| end == "json"));
    let names = |entry: std::fs::DirEntry| {
        let record: Option<serde_json::Value> =
            std::fs::read(entry.path()).ok().and_then(|text| serde_json::from_slice(&text).ok());
        record.is_some_and(|record| record.pointer("/variant/id").and_then(|found| found.as_str()) == Some(id))
    };
    records.into_iter().any(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::variant::Source;

    #[test]
    fn only_what_is_the_variants_goes() {
        let folder = tempfile::tempdir().unwrap();
        let context = Context {
            root: folder.path().into(),
            work: folder.path().into(),
            runs: folder.path().into(),
            calibrations: folder.path().into(),
            install: false,
            json: false,
            sandbox_without: vec![],
        };
        let source = Source {
            label: "x".into(),
            tree: "t".into(),
            root_commit: "c".into(),
            upstream_commit: None,
            pinned: false,
        };
        let (id, name) = ("mine".to_owned(), "m.patch".to_owned());
        let variant = Variant { id, name, source, patches: vec![], tree: "t".into(), commit: "c".into() };
        for (build, of) in [("one", "mine"), ("two", "other")] {
            let path = folder.path().join("gate/builds").join(build);
            std::fs::create_dir_all(&path).unwrap();
            std::fs::write(path.join("gate.json"), format!("{{\"variant\":{{\"id\":\"{of}\"}}}}")).unwrap();
        }
        std::fs::create_dir_all(folder.path().join("variants/mine/src")).unwrap();
        std::fs::create_dir_all(folder.path().join("variants/other")).unwrap();
        forget(&context, &variant).unwrap();
        let there = |path: &str| folder.path().join(path).exists();
        assert!(!there("gate/builds/one") && there("gate/builds/two"));
        assert!(!there("variants/mine") && there("variants/other"));
        forget(&context, &variant).unwrap();
    }
}
