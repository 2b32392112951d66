//! One section of code for valgrind.
//!
//! Workers have libevent's functions in a section of their own beside `.text` (layout.rs). valgrind believes line numbers
//! of code in `.text` alone, so it would know no line of libevent. Section headers are for tools and not for running: the one
//! of `.text` is made to span both, and the program stays the same, to the byte of what is loaded.

use anyhow::{Context as _, Result, bail};
use object::read::elf::{ElfFile64, FileHeader as _, SectionHeader as _};
use object::{Endianness, elf};
use std::path::Path;

/// The section that layout.rs makes.
const LIBEVENT: &str = ".text.libevent";
/// Offsets in a section header of 64-bit ELF.
const TYPE: usize = 4;
const ADDRESS: usize = 16;
const OFFSET: usize = 24;
const SIZE: usize = 32;

/// Makes `.text` of the program span libevent's section, too.
pub(super) fn join(program: &Path) -> Result<()> {
    let mut bytes = std::fs::read(program).with_context(|| format!("cannot read {}", program.display()))?;
    join_in(&mut bytes)
        .with_context(|| format!("callgrind would know no line of libevent in {}", program.display()))?;
    std::fs::write(program, &bytes).with_context(|| format!("cannot write {}", program.display()))
}

/// Where a section is, and where its header.
#[derive(Clone, Copy)]
struct Section {
    header: usize,
    address: u64,
    offset: u64,
    size: u64,
}

fn join_in(bytes: &mut [u8]) -> Result<()> {
    let libevent = find(bytes, LIBEVENT)?.with_context(|| format!("it has no {LIBEVENT}"))?;
    let text = find(bytes, ".text")?.context("it has no .text")?;
    // Both in one segment, one behind the other: what is between them is no other code.
    let ordered = libevent.address + libevent.size <= text.address
        && libevent.address - libevent.offset == text.address - text.offset;
    if !ordered {
        bail!("its {LIBEVENT} is not right before .text");
    }
    let size = text.address + text.size - libevent.address;
    for (field, value) in [(ADDRESS, libevent.address), (OFFSET, libevent.offset), (SIZE, size)] {
        put(bytes, text.header + field, &value.to_le_bytes());
    }
    // Two sections over the same bytes would be one too many.
    put(bytes, libevent.header + TYPE, &elf::SHT_NULL.0.to_le_bytes());
    Ok(())
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

fn find(bytes: &[u8], name: &str) -> Result<Option<Section>> {
    let file = ElfFile64::<Endianness>::parse(bytes)?;
    let (endian, header) = (file.endian(), file.elf_header());
    if endian != Endianness::Little {
        bail!("valgrind's counts are of x86-64, and this program is of another machine");
    }
    let sections = header.sections(endian, bytes)?;
    let table = usize::try_from(header.e_shoff(endian))?;
    let each = usize::from(header.e_shentsize(endian));
    for (index, section) in sections.iter().enumerate() {
        if sections.section_name(endian, section)? == name.as_bytes() && section.sh_type(endian) == elf::SHT_PROGBITS {
            let header = table + index * each;
            let (address, offset) = (section.sh_addr(endian), section.sh_offset(endian));
            return Ok(Some(Section { header, address, offset, size: section.sh_size(endian) }));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::compiler;
    use crate::process;
    use std::process::Command;
    use std::time::Duration;

    #[test]
    fn text_spans_both_and_the_program_is_what_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let source = "int apart(void);\n\
                      __attribute__((section(\".text.apart\"), noinline)) int apart(void) { return 7; }\n\
                      int main(void) { return apart(); }\n";
        std::fs::write(path("program.c"), source).unwrap();
        let script =
            format!("SECTIONS\n{{\n  {LIBEVENT} : {{ *(.text.apart) . = ALIGN(4096); }}\n}}\nINSERT BEFORE .text;\n");
        std::fs::write(path("script.ld"), script).unwrap();
        let mut cc = Command::new(compiler());
        cc.arg("-O1").arg("-o").arg(path("program")).arg(path("program.c"));
        cc.args(["-Xlinker", "-T", "-Xlinker"]).arg(path("script.ld"));
        let got = process::capture(&mut cc, Duration::from_secs(60)).unwrap();
        assert!(got.status.success(), "{}", got.stderr);

        let before = std::fs::read(path("program")).unwrap();
        let (libevent, text) = (find(&before, LIBEVENT).unwrap().unwrap(), find(&before, ".text").unwrap().unwrap());
        join(&path("program")).unwrap();
        let after = std::fs::read(path("program")).unwrap();
        let joined = find(&after, ".text").unwrap().unwrap();
        assert_eq!((joined.address, joined.offset), (libevent.address, libevent.offset));
        assert_eq!(joined.address + joined.size, text.address + text.size);
        assert!(find(&after, LIBEVENT).unwrap().is_none());
        let changed = before.iter().zip(&after).filter(|(a, b)| a != b).count();
        assert!(before.len() == after.len() && changed <= 28, "{changed} bytes changed");
        let ran = process::capture(&mut Command::new(path("program")), Duration::from_secs(10)).unwrap();
        assert_eq!(ran.status.code(), Some(7));
        // A second time there is nothing to join, and that is an error: the program is not the one that was linked.
        assert!(format!("{:#}", join(&path("program")).unwrap_err()).contains("no .text.libevent"));
    }
}
