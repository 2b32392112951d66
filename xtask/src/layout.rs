//! Layout of the linked worker: libevent's functions in one random order, the same for both sides.
//!
//! Where a function lies decides up to 15% of its time (docs/BIAS.md), so one order is one sample of
//! many. A function's place is the hash of the seed and its name: two builds that share a function
//! agree on its rank, and a function that only one side has falls anywhere among them.

use anyhow::{Context as _, Result, bail};
use object::read::archive::ArchiveFile;
use object::{Object as _, ObjectSection as _, ObjectSymbol as _};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Alignment of the ordered section; functions within it keep the alignment of their own section.
const ALIGN_BYTES: u32 = 64;

/// A function section of one object file in one library.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Function {
    /// File name of the library, such as `libevent_core.a`.
    library: String,
    /// Member of the library, such as `buffer.c.o`.
    member: String,
    /// Section, such as `.text.evbuffer_add`.
    section: String,
}

/// Every function section of the libraries.
pub(crate) fn functions(libraries: &[PathBuf]) -> Result<Vec<Function>> {
    let mut all = Vec::new();
    for path in libraries {
        let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let archive = ArchiveFile::parse(&*bytes).with_context(|| format!("{} is no archive", path.display()))?;
        let library = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        for member in archive.members() {
            let member = member?;
            let name = String::from_utf8_lossy(member.name()).into_owned();
            let object = object::File::parse(member.data(&*bytes)?)
                .with_context(|| format!("{}: {name} is no object file", path.display()))?;
            for section in object.sections() {
                let section = section.name()?.to_owned();
                if section.starts_with(".text.") {
                    all.push(Function { library: library.clone(), member: name.clone(), section });
                }
            }
        }
    }
    if all.is_empty() {
        bail!("the libraries have no function sections; config/build.toml must keep -ffunction-sections");
    }
    all.sort();
    Ok(all)
}

/// The functions in the order that `seed` draws.
pub(crate) fn order(functions: &[Function], seed: u64) -> Vec<Function> {
    let mut ranked: Vec<([u8; 32], &Function)> = functions.iter().map(|f| (rank(f, seed), f)).collect();
    ranked.sort();
    ranked.into_iter().map(|(_, function)| function.clone()).collect()
}

fn rank(function: &Function, seed: u64) -> [u8; 32] {
    // Not the library: a source may move an object from one to another.
    let parts = [&seed.to_le_bytes(), function.member.as_bytes(), b"\0", function.section.as_bytes()];
    let mut hash = Sha256::new();
    parts.iter().for_each(|part| hash.update(part));
    hash.finalize().into()
}

/// A linker script that places the functions in this order, before the rest of the code.
pub(crate) fn linker_script(ordered: &[Function]) -> String {
    let lines: String = ordered.iter().map(|f| format!("    *{}:{}({})\n", f.library, f.member, f.section)).collect();
    format!("SECTIONS\n{{\n  .text.libevent : ALIGN({ALIGN_BYTES})\n  {{\n{lines}  }}\n}}\nINSERT BEFORE .text;\n")
}

/// Fails unless the linked program has libevent's functions in the order that was asked for: a
/// linker that ignored the script would make every launch the same layout, unnoticed.
pub(crate) fn verify(program: &Path, ordered: &[Function]) -> Result<()> {
    let bytes = std::fs::read(program).with_context(|| format!("cannot read {}", program.display()))?;
    let object = object::File::parse(&*bytes)?;
    // A name that two object files share has two addresses; it cannot tell an order.
    let mut addresses: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for symbol in object.symbols().filter(|symbol| symbol.is_definition()) {
        addresses.entry(symbol.name()?).or_default().push(symbol.address());
    }
    let placed: Vec<u64> = ordered
        .iter()
        .filter_map(|f| addresses.get(f.section.trim_start_matches(".text.")))
        .filter(|places| places.len() == 1)
        .map(|places| places[0])
        .collect();
    if placed.len() < 20 || !placed.is_sorted() {
        bail!(
            "{}: the linker did not place {} functions in the order asked for; use GNU ld or lld",
            program.display(),
            placed.len()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn function(name: &str) -> Function {
        Function { library: "l.a".into(), member: "m.c.o".into(), section: format!(".text.{name}") }
    }

    #[test]
    fn seeds_draw_different_orders_and_a_new_function_leaves_the_rest_alone() {
        let all: Vec<Function> = (0..50).map(|i| function(&format!("f{i:02}"))).collect();
        assert_eq!(order(&all, 1), order(&all, 1));
        assert_ne!(order(&all, 1), order(&all, 2));
        let mut more = all.clone();
        more.push(function("new"));
        let without: Vec<Function> = order(&more, 1).into_iter().filter(|f| *f != function("new")).collect();
        assert_eq!(without, order(&all, 1));
        let places: std::collections::BTreeSet<usize> =
            (0..40).map(|seed| order(&more, seed).iter().position(|f| *f == function("new")).unwrap()).collect();
        assert!(places.len() > 15, "a new function falls anywhere: {places:?}");
    }
}
