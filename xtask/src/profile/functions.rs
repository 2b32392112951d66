//! Functions of a build of libevent, and the file of each: what of a profile is libevent's.

use crate::build;
use anyhow::{Context as _, Result};
use model::variant::Build;
use object::read::archive::ArchiveFile;
use object::{Object as _, ObjectSymbol as _, SymbolKind};
use std::collections::BTreeMap;

/// Every function that the libraries define, static ones included, with the file that it was compiled from. Files are
/// named as members of the libraries are, without folders: `buffer.c`. Where two files have static functions of one name,
/// the first file by name stands for both. Functions that were inlined everywhere are not there.
pub(crate) fn of_libevent(build: &Build) -> Result<BTreeMap<String, String>> {
    let mut files: BTreeMap<String, String> = BTreeMap::new();
    for path in build::library_paths(build) {
        let bytes = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let archive = ArchiveFile::parse(&*bytes).with_context(|| format!("{} is no archive", path.display()))?;
        for member in archive.members() {
            let member = member?;
            let name = String::from_utf8_lossy(member.name()).into_owned();
            let file = name.strip_suffix(".o").unwrap_or(&name).to_owned();
            let object = object::File::parse(member.data(&*bytes)?)
                .with_context(|| format!("{}: {name} is no object file", path.display()))?;
            for symbol in object.symbols().filter(|s| s.kind() == SymbolKind::Text && s.is_definition()) {
                let known = files.entry(symbol.name()?.to_owned()).or_insert_with(|| file.clone());
                if file < *known {
                    known.clone_from(&file);
                }
            }
        }
    }
    Ok(files)
}
