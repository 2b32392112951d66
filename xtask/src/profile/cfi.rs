//! Whether unwind tables can be followed without end.
//!
//! Tables may hold little programs (DWARF expressions), and those may jump back. framehop runs them without a bound, and the
//! candidate's assembler writes its tables as it likes (`.cfi_escape`): a profile would hang. So the tables of the worker are
//! read beforehand, whole. They are followed only if no expression jumps, and if everything in them is what compilers and linkers
//! write: what is read here in another way than by framehop could hide something.
//!
//! The format is that of the LSB's `.eh_frame` with DWARF 5, section 6.4.

use std::collections::BTreeMap;

/// Formats and applications of pointers (`DW_EH_PE_*`).
const FORMAT: u8 = 0x0f;
const APPLICATION: u8 = 0xf0;

/// Whether every expression in an `.eh_frame` ends.
pub(super) fn is_bounded(eh_frame: &[u8]) -> bool {
    entries(eh_frame).is_some()
}

/// What entries have in common (CIE), as far as it is needed to find the instructions of another (FDE).
#[derive(Clone, Copy)]
struct Common {
    /// Bytes of an address in it.
    pointer_bytes: usize,
    /// Its entries have data before their instructions.
    augmented: bool,
}

fn entries(eh_frame: &[u8]) -> Option<()> {
    let mut commons: BTreeMap<usize, Common> = BTreeMap::new();
    let mut all = Bytes(eh_frame);
    while !all.0.is_empty() {
        let begin = eh_frame.len() - all.0.len();
        let length = all.u32()?;
        // What ends a table; another one may stand behind it. And a longer form that nobody writes.
        if length == 0 {
            continue;
        }
        if length == u32::MAX {
            return None;
        }
        let place = begin + 4;
        let mut entry = Bytes(all.take(usize::try_from(length).ok()?)?);
        match usize::try_from(entry.u32()?).ok()? {
            0 => drop(commons.insert(begin, common(&mut entry)?)),
            back => {
                let common = commons.get(&place.checked_sub(back)?)?;
                // First address, and how many there are.
                entry.take(2 * common.pointer_bytes)?;
                if common.augmented {
                    let bytes = entry.number()?;
                    entry.take(bytes)?;
                }
            }
        }
        instructions(entry)?;
    }
    Some(())
}

/// Reads a CIE up to its instructions.
fn common(entry: &mut Bytes<'_>) -> Option<Common> {
    let version = entry.u8()?;
    let mut letters = Vec::new();
    loop {
        match entry.u8()? {
            0 => break,
            letter => letters.push(letter),
        }
    }
    // Units of code and data.
    entry.leb()?;
    entry.leb()?;
    match version {
        1 => drop(entry.u8()?),
        3 => entry.leb()?,
        _ => return None,
    }
    let Some((first, letters)) = letters.split_first() else {
        return Some(Common { pointer_bytes: 8, augmented: false });
    };
    if *first != b'z' {
        return None;
    }
    let bytes = entry.number()?;
    let mut data = Bytes(entry.take(bytes)?);
    let mut pointer_bytes = 8;
    for letter in letters {
        match letter {
            b'R' => pointer_bytes = pointer(data.u8()?)?,
            b'L' => drop(data.u8()?),
            b'P' => {
                // Called through a pointer in memory, mostly.
                let bytes = pointer(data.u8()? & !0x80)?;
                data.take(bytes)?;
            }
            b'S' | b'B' | b'G' => {}
            _ => return None,
        }
    }
    Some(Common { pointer_bytes, augmented: true })
}

/// Bytes of a pointer in such a form.
fn pointer(form: u8) -> Option<usize> {
    // As it is, or counted from where it stands or from the data.
    if !matches!(form & APPLICATION, 0x00 | 0x10 | 0x30) {
        return None;
    }
    match form & FORMAT {
        0x00 | 0x04 | 0x0c => Some(8),
        0x02 | 0x0a => Some(2),
        0x03 | 0x0b => Some(4),
        _ => None,
    }
}

/// `DW_CFA_*`.
fn instructions(mut code: Bytes<'_>) -> Option<()> {
    while !code.0.is_empty() {
        let instruction = code.u8()?;
        match (instruction >> 6, instruction & 0x3f) {
            // advance_loc, restore; nop, remember_state, restore_state, and the signed return address of aarch64.
            (1 | 3, _) | (0, 0x00 | 0x0a | 0x0b | 0x2d) => {}
            (2, _) => code.leb()?,
            (0, one) => match one {
                0x02 => drop(code.take(1)?),
                0x03 => drop(code.take(2)?),
                0x04 => drop(code.take(4)?),
                0x06 | 0x07 | 0x08 | 0x0d | 0x0e | 0x13 | 0x2e => code.leb()?,
                0x05 | 0x09 | 0x0c | 0x11 | 0x12 | 0x14 | 0x15 => {
                    code.leb()?;
                    code.leb()?;
                }
                0x0f => expression(&mut code)?,
                0x10 | 0x16 => {
                    code.leb()?;
                    expression(&mut code)?;
                }
                _ => return None,
            },
            _ => return None,
        }
    }
    Some(())
}

/// `DW_OP_*`, without those that jump or call, and those that no compiler needs here.
fn expression(code: &mut Bytes<'_>) -> Option<()> {
    let bytes = code.number()?;
    let mut code = Bytes(code.take(bytes)?);
    while !code.0.is_empty() {
        match code.u8()? {
            // deref; dup, drop, over; swap, rot; arithmetic; comparisons; literals; registers; nop; stack_value.
            0x06 | 0x12..=0x14 | 0x16 | 0x17 | 0x19..=0x22 | 0x24..=0x27 | 0x29..=0x2e | 0x30..=0x6f | 0x96 | 0x9f => {}
            // One byte: const1, pick, deref_size.
            0x08 | 0x09 | 0x15 | 0x94 => drop(code.take(1)?),
            0x0a | 0x0b => drop(code.take(2)?),
            0x0c | 0x0d => drop(code.take(4)?),
            // addr, const8.
            0x03 | 0x0e | 0x0f => drop(code.take(8)?),
            // const, plus_uconst, a register with an offset.
            0x10 | 0x11 | 0x23 | 0x70..=0x8f => code.leb()?,
            _ => return None,
        }
    }
    Some(())
}

/// What is left.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    /// A number in pieces of seven bits, whatever it is.
    fn leb(&mut self) -> Option<()> {
        (0..10).any(|_| self.u8().is_none_or(|byte| byte & 0x80 == 0)).then_some(())
    }

    /// The same as a length.
    fn number(&mut self) -> Option<usize> {
        let mut number = 0;
        // No section has as much as four pieces can say.
        for piece in 0..4 {
            let byte = self.u8()?;
            number |= usize::from(byte & 0x7f) << (7 * piece);
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::compiler;
    use crate::process;
    use object::{Object as _, ObjectSection as _};
    use std::process::Command;
    use std::time::Duration;

    fn entry(body: &[u8]) -> Vec<u8> {
        [&u32::try_from(body.len()).unwrap().to_le_bytes(), body].concat()
    }

    /// A CIE as compilers write it, and one entry with these instructions.
    fn table(instructions: &[u8]) -> Vec<u8> {
        let head = [0, 0, 0, 0, 1, b'z', b'R', 0, 1, 0x78, 16, 1, 0x1b, 0x0c, 7, 8, 0x90, 1];
        let first = entry(&head);
        let back = u32::try_from(first.len() + 4).unwrap().to_le_bytes();
        let one = entry(&[&back[..], &[0; 8], &[0], instructions].concat());
        [first, one, vec![0; 4]].concat()
    }

    #[test]
    fn what_compilers_and_linkers_write_is_bounded() {
        // advance, def_cfa_offset, offset; what stands for the linker's stubs.
        assert!(is_bounded(&table(&[0x41, 0x0e, 16, 0x86, 2, 0, 0])));
        let stubs = [0x0f, 11, 0x77, 8, 0x80, 0, 0x3f, 0x1a, 0x3b, 0x2a, 0x33, 0x24, 0x22];
        assert!(is_bounded(&table(&stubs)));
        assert!(is_bounded(&[]) && is_bounded(&[0; 4]));
        // This very program: some ten thousand functions in Rust and C.
        let bytes = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let file = object::File::parse(&*bytes).unwrap();
        assert!(is_bounded(file.section_by_name(".eh_frame").unwrap().data().unwrap()));
    }

    #[test]
    fn what_jumps_or_cannot_be_read_is_not() {
        for jump in [0x28, 0x2f] {
            assert!(!is_bounded(&table(&[0x0f, 3, jump, 0xfd, 0xff])), "{jump:#x}");
            assert!(!is_bounded(&table(&[0x16, 6, 3, jump, 0xfd, 0xff])), "{jump:#x} of a register");
        }
        assert!(is_bounded(&table(&[0x0f, 2, 0x77, 0x28])), "an offset of 40 is no jump");
        let whole = table(&[0x41, 0x0e, 16]);
        let ends = (1..whole.len()).filter(|end| is_bounded(&whole[..*end])).collect::<Vec<_>>();
        assert_eq!(ends, [22, whole.len() - 4], "cut short between two entries alone");
        // An entry of no table, another version, letters that nobody knows, a longer form.
        let with = |place: usize, byte: u8| {
            let mut bytes = whole.clone();
            bytes[place] = byte;
            is_bounded(&bytes)
        };
        assert!(with(8, 3) && !with(8, 4) && !with(9, b'y') && !with(10, b'Q') && !with(26, 9));
        assert!(!is_bounded(&[0xff; 12]));
        assert!(!is_bounded(&table(&[0x3c])) && !is_bounded(&table(&[0x0f, 0x80, 0x80, 0x80, 0x80, 1])));
    }

    /// As a candidate's assembler would write it.
    #[test]
    fn an_endless_expression_in_a_program_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let program = |escape: &str| {
            let source = format!(
                "void spin(void) {{ __asm__ volatile(\"{escape}nop\"); }}\nint main(void) {{ spin(); return 0; }}\n"
            );
            std::fs::write(path("spin.c"), source).unwrap();
            let mut cc = Command::new(compiler());
            cc.args(["-O1", "-fno-inline", "-fasynchronous-unwind-tables", "-o"]).arg(path("spin")).arg(path("spin.c"));
            let got = process::capture(&mut cc, Duration::from_secs(60)).unwrap();
            assert!(got.status.success(), "{}", got.stderr);
            let bytes = std::fs::read(path("spin")).unwrap();
            let file = object::File::parse(&*bytes).unwrap();
            is_bounded(file.section_by_name(".eh_frame").unwrap().data().unwrap())
        };
        assert!(program(""));
        assert!(!program(".cfi_escape 0x0f, 0x03, 0x2f, 0xfd, 0xff\\n"));
    }
}
