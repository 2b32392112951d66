//! Symbols of static libraries.

use anyhow::{Context as _, Result};
use model::abi::{Symbol, Symbols};
use object::read::archive::ArchiveFile;
use object::{Object as _, ObjectSection as _, ObjectSymbol as _, SymbolFlags, SymbolKind};
use std::path::PathBuf;

/// How sections begin whose content is called before `main` or after it.
const CONSTRUCTORS: &[&str] = &[".init", ".fini", ".preinit_array", ".ctors", ".dtors"];

/// What the libraries define and use, all together.
pub(super) fn of(libraries: &[PathBuf]) -> Result<Symbols> {
    let mut symbols = Symbols::default();
    for path in libraries {
        let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let archive = ArchiveFile::parse(&*bytes).with_context(|| format!("{} is no archive", path.display()))?;
        for member in archive.members() {
            let member = member?;
            let name = String::from_utf8_lossy(member.name()).into_owned();
            let object = object::File::parse(member.data(&*bytes)?)
                .with_context(|| format!("{}: {name} is no object file", path.display()))?;
            add(&mut symbols, &object, &name)?;
        }
    }
    symbols.undefined.retain(|name| !symbols.defined.contains_key(name));
    Ok(symbols)
}

fn add(symbols: &mut Symbols, object: &object::File<'_>, member: &str) -> Result<()> {
    for section in object.sections() {
        let name = section.name()?;
        if CONSTRUCTORS.iter().any(|start| name.starts_with(start)) {
            symbols.constructors.insert(format!("{member}: {name}"));
        }
    }
    for symbol in object.symbols() {
        let name = symbol.name()?;
        // Not `is_definition`: labels of assembler code, common and indirect functions are none by that.
        if symbol.is_local() || name.is_empty() || matches!(symbol.kind(), SymbolKind::File | SymbolKind::Section) {
            continue;
        }
        if symbol.is_undefined() {
            symbols.undefined.insert(name.to_owned());
            continue;
        }
        let kind = match symbol.kind() {
            SymbolKind::Text => "function",
            SymbolKind::Data => "data",
            SymbolKind::Tls => "thread-local data",
            _ => "other",
        };
        let size_bytes = (kind != "function").then(|| symbol.size());
        symbols.defined.insert(
            name.to_owned(),
            Symbol { kind, size_bytes, weak: symbol.is_weak(), hidden: is_hidden(symbol.flags()) },
        );
    }
    Ok(())
}

fn is_hidden(flags: SymbolFlags<object::SectionIndex, object::SymbolIndex>) -> bool {
    // Visibility is in the two lowest bits: default, internal, hidden, protected.
    matches!(flags, SymbolFlags::Elf { st_other, .. } if matches!(st_other.0 & 3, 1 | 2))
}
