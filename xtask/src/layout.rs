//! Layout of the linked worker: libevent's functions in one random order, the same for both sides.
//!
//! Where a function lies decides up to 15% of its time (docs/BIAS.md), so one order is one sample of
//! many. A function's place is the hash of the seed and its name: two builds that share a function
//! agree on its rank, and a function that only one side has falls anywhere among them. Optimisers move
//! functions to other object files and sections and number their copies: the name is the one in the source.

use anyhow::{Context as _, Result, bail};
use object::read::archive::ArchiveFile;
use object::{Object as _, ObjectSection as _, ObjectSymbol as _, SectionKind, SymbolKind};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A page, or a part of a larger one.
const PAGE_BYTES: u32 = 4096;

/// Alignment of the ordered section; functions within it keep the alignment of their own section.
const ALIGN_BYTES: u32 = 64;
/// How the name of a function's section begins.
const PREFIX: &str = ".text.";

/// A function section of one object file in one library.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Function {
    /// The name that both sides know it by, such as `evbuffer_add`.
    name: String,
    /// File name of the library, such as `libevent_core.a`.
    library: String,
    /// Member of the library, such as `buffer.c.o`.
    member: String,
    /// Section, such as `.text.evbuffer_add`.
    section: String,
    /// Symbol at the section's beginning, such as `evbuffer_add`; none: the section cannot be verified.
    symbol: Option<String>,
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
            all.extend(functions_of(&object, &library, &name)?);
        }
    }
    if all.is_empty() {
        bail!("the libraries have no function sections; config/build.toml must keep -ffunction-sections");
    }
    all.sort();
    Ok(all)
}

/// The function sections of one object file.
fn functions_of(object: &object::File<'_>, library: &str, member: &str) -> Result<Vec<Function>> {
    // The first symbol of each section; where several have one address, a global one.
    let mut symbols: BTreeMap<usize, (u64, bool, &str)> = BTreeMap::new();
    for symbol in object.symbols().filter(|symbol| symbol.kind() == SymbolKind::Text && symbol.is_definition()) {
        let Some(section) = symbol.section_index() else { continue };
        let this = (symbol.address(), symbol.is_local(), symbol.name()?);
        let first = symbols.entry(section.0).or_insert(this);
        *first = this.min(*first);
    }
    let mut found = Vec::new();
    for section in object.sections().filter(|section| section.size() > 0) {
        let section_name = section.name()?.to_owned();
        let Some(rest) = section_name.strip_prefix(PREFIX) else {
            if section.kind() == SectionKind::Text && section_name != ".text" {
                bail!(
                    "{library}: {member} has code in a section of its own, {section_name}, which no order of functions \
                     reaches: it would be measured in one layout only. Leave section attributes out"
                );
            }
            continue;
        };
        let symbol = symbols.get(&section.index().0).map(|(_, _, name)| (*name).to_owned());
        found.push(Function {
            name: name_in_source(symbol.as_deref().unwrap_or(rest)),
            library: library.to_owned(),
            member: member.to_owned(),
            section: section_name,
            symbol,
        });
    }
    Ok(found)
}

/// Without what optimisers add to the name of a function that they moved (`foo.lto_priv.0`) or specialised
/// (`foo.isra.0`, `foo.constprop.1`). Parts that were cut off keep theirs: `foo.cold`, `foo.part.0`.
fn name_in_source(symbol: &str) -> String {
    let mut words = symbol.split('.').peekable();
    let mut kept = Vec::new();
    while let Some(word) = words.next() {
        if kept.is_empty() || !matches!(word, "lto_priv" | "isra" | "constprop" | "llvm") {
            kept.push(word);
        } else {
            words.next_if(|number| number.bytes().all(|byte| byte.is_ascii_digit()));
        }
    }
    kept.join(".")
}

/// The functions in the order that `seed` draws.
pub(crate) fn order(functions: &[Function], seed: u64) -> Vec<Function> {
    let mut sorted: Vec<&Function> = functions.iter().collect();
    sorted.sort();
    let mut ranked = Vec::with_capacity(sorted.len());
    // Functions of one name, such as static ones of several files, each have a place of their own.
    for same in sorted.chunk_by(|one, other| one.name == other.name) {
        ranked
            .extend(same.iter().enumerate().map(|(number, function)| (rank(&function.name, number, seed), *function)));
    }
    ranked.sort();
    ranked.into_iter().map(|(_, function)| function.clone()).collect()
}

/// Of a name alone, not of the object file: link-time optimisation makes one of all.
fn rank(name: &str, number: usize, seed: u64) -> [u8; 32] {
    let parts = [&seed.to_le_bytes(), &(number as u64).to_le_bytes(), name.as_bytes()];
    let mut hash = Sha256::new();
    parts.iter().for_each(|part| hash.update(part));
    hash.finalize().into()
}

/// A linker script that places the functions in this order, before the rest of the code: behind it, the default
/// script would have taken them. The rest begins on a page of its own, so that a larger candidate moves the worker's
/// code by whole pages only.
pub(crate) fn linker_script(ordered: &[Function]) -> String {
    let lines: String = ordered.iter().map(|f| format!("    *{}:{}({})\n", f.library, f.member, f.section)).collect();
    format!(
        "SECTIONS\n{{\n  .text.libevent : ALIGN({ALIGN_BYTES})\n  {{\n{lines}    . = ALIGN({PAGE_BYTES});\n  }}\n}}\nINSERT BEFORE .text;\n"
    )
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
        .filter_map(|f| addresses.get(f.symbol.as_deref()?))
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

    fn function(symbol: &str) -> Function {
        compiled("l.a", "m.c.o", &format!(".text.{symbol}"), symbol)
    }

    fn compiled(library: &str, member: &str, section: &str, symbol: &str) -> Function {
        Function {
            name: name_in_source(symbol),
            library: library.into(),
            member: member.into(),
            section: section.into(),
            symbol: Some(symbol.into()),
        }
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

    #[test]
    fn names_are_those_of_the_source() {
        for (symbol, name) in [
            ("evbuffer_add", "evbuffer_add"),
            ("list.lto_priv.3", "list"),
            ("do_write.constprop.0.isra.0", "do_write"),
            ("add.part.0.constprop.1", "add.part.0"),
            ("add.isra.0.cold", "add.cold"),
            ("add.cold", "add.cold"),
            ("add.llvm.1234", "add"),
        ] {
            assert_eq!(name_in_source(symbol), name);
        }
    }

    #[test]
    fn an_optimised_side_has_the_shared_functions_in_the_same_order() {
        let plain: Vec<Function> = (0..60)
            .map(|i| compiled("core.a", &format!("{}.c.o", i % 7), &format!(".text.f{i}"), &format!("f{i}")))
            .collect();
        // One object file, other sections, renamed copies, some inlined, some cut in two.
        let optimised: Vec<Function> = (0..60)
            .filter(|i| i % 5 != 0)
            .flat_map(|i| {
                let one = |section: &str, suffix: &str| {
                    compiled("all.a", "libevent.o", &format!("{section}f{i}{suffix}"), &format!("f{i}{suffix}"))
                };
                match i % 4 {
                    0 => vec![one(".text.hot.", "")],
                    1 => vec![one(".text.", ".lto_priv.0"), one(".text.unlikely.", ".cold")],
                    2 => vec![one(".text.", ".constprop.0")],
                    _ => vec![one(".text.unlikely.", "")],
                }
            })
            .collect();
        for seed in 0..10 {
            let names = |side: &[Function], other: &[Function]| -> Vec<String> {
                let shared = |f: &Function| other.iter().any(|o| o.name == f.name);
                order(side, seed).into_iter().filter(shared).map(|f| f.name).collect()
            };
            let shared = names(&plain, &optimised);
            assert_eq!(shared.len(), 48);
            assert_eq!(shared, names(&optimised, &plain), "seed {seed}");
        }
    }

    #[test]
    fn functions_of_one_name_have_places_of_their_own() {
        let same: Vec<Function> = (0..4).map(|i| compiled("l.a", &format!("{i}.c.o"), ".text.init", "init")).collect();
        let all: Vec<Function> = (0..200).map(|i| function(&format!("f{i}"))).chain(same).collect();
        let ordered = order(&all, 3);
        let places: Vec<usize> = (0..ordered.len()).filter(|&i| ordered[i].name == "init").collect();
        assert!(places.windows(2).any(|pair| pair[1] - pair[0] > 1), "{places:?}");
    }
}
