//! From addresses to functions: of the worker and its libraries by their symbol tables, of the kernel by /proc/kallsyms.
//!
//! A name is given only where the symbol covers the address: a stripped library has no names, and the one before an address
//! in it would be a lie.

use crate::host::Facts;
use anyhow::{Context as _, Result, bail};
use model::profile::stacks::{Frame, Origin, name_in_source};
use object::{Object as _, ObjectSection as _, ObjectSegment as _, ObjectSymbol as _, SymbolKind};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Largest file whose symbols are read.
const MOST_FILE_BYTES: u64 = 1 << 30;
/// Where libraries are that both this program and the sandbox see.
const SYSTEM: &[&str] = &["/usr/", "/lib/", "/lib32/", "/lib64/", "/opt/", "/nix/", "/gnu/"];
/// Name of code that only calls other files.
const STUBS: &str = "[plt]";
/// Where distributions put symbols that they have stripped from libraries.
const DEBUG: &str = "/usr/lib/debug/.build-id";

/// A file that is mapped to be executed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mapping {
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) offset: u64,
    /// As the process sees it, or `[vdso]`.
    pub(super) path: String,
}

/// Executable mappings of /proc/PID/maps; lines that are none are skipped.
pub(super) fn mappings(text: &str) -> Vec<Mapping> {
    let mapping = |line: &str| -> Option<Mapping> {
        let mut words = line.split_ascii_whitespace();
        let (start, end) = words.next()?.split_once('-')?;
        let executable = words.next()?.as_bytes().get(2) == Some(&b'x');
        let offset = words.next()?;
        let path = words.skip(2).collect::<Vec<_>>().join(" ");
        let hex = |text: &str| u64::from_str_radix(text, 16).ok();
        executable.then_some(())?;
        Some(Mapping { start: hex(start)?, end: hex(end)?, offset: hex(offset)?, path })
    };
    text.lines().filter_map(mapping).collect()
}

/// Names of a table, by address.
#[derive(Debug, Default)]
struct Table {
    /// Begin, end, name; by begin, none twice.
    symbols: Vec<(u64, u64, String)>,
}

impl Table {
    /// Of several names for one address, the one that people know: a library's aliases begin with underscores. A size of 0 reaches to
    /// the next symbol if `open_ended`, else it covers nothing.
    fn new(mut symbols: Vec<(u64, u64, String)>, open_ended: bool) -> Table {
        let rank = |name: &str| (name.len() - name.trim_start_matches('_').len(), name.len());
        symbols.sort_by_key(|symbol| (symbol.0, rank(&symbol.2)));
        symbols.dedup_by(|later, first| {
            let same = later.0 == first.0;
            if same {
                first.1 = first.1.max(later.1);
            }
            same
        });
        if open_ended {
            let next: Vec<u64> = symbols.iter().skip(1).map(|symbol| symbol.0).chain([u64::MAX]).collect();
            for (symbol, next) in symbols.iter_mut().zip(next) {
                if symbol.1 == symbol.0 {
                    symbol.1 = next;
                }
            }
        }
        Table { symbols }
    }

    fn find(&self, address: u64) -> Option<&str> {
        let after = self.symbols.partition_point(|symbol| symbol.0 <= address);
        let (_, end, name) = self.symbols.get(after.checked_sub(1)?)?;
        (address < *end).then_some(name.as_str())
    }
}

/// A mapped file with its names.
pub(super) struct Module {
    pub(super) mapping: Mapping,
    /// What is added to the file's own addresses.
    pub(super) bias: u64,
    pub(super) is_worker: bool,
    /// Its content; empty if it could not be read.
    pub(super) bytes: Vec<u8>,
    table: Table,
}

/// Names for one process.
pub(super) struct Symbolizer {
    pub(super) modules: Vec<Module>,
    kernel: Table,
    kernel_named: bool,
    libevent: BTreeMap<String, String>,
    cache: HashMap<u64, Frame>,
}

/// The kernel's names, read once: the same for every worker.
pub(super) struct Kernel(Vec<(u64, u64, String)>);

impl Kernel {
    pub(super) fn read(facts: &Facts) -> Kernel {
        Kernel(kallsyms(&facts.read("/proc/kallsyms").unwrap_or_default()))
    }

    /// Whether this user is told any.
    pub(super) fn is_named(&self) -> bool {
        !self.0.is_empty()
    }
}

impl Symbolizer {
    /// For the process `pid`, which runs `program`. `libevent` are the functions of the library, by name.
    pub(super) fn of(
        pid: u32,
        program: &Path,
        libevent: &BTreeMap<String, String>,
        kernel: &Kernel,
    ) -> Result<Symbolizer> {
        let path = format!("/proc/{pid}/maps");
        let maps = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}; the worker ended"))?;
        let modules = mappings(&maps).into_iter().map(|mapping| module(mapping, program)).collect();
        // In the form in which they are looked up.
        let libevent = libevent.iter().map(|(name, file)| (name_in_source(name).to_owned(), file.clone())).collect();
        Ok(Symbolizer {
            modules,
            kernel_named: kernel.is_named(),
            kernel: Table::new(kernel.0.clone(), true),
            libevent,
            cache: HashMap::new(),
        })
    }

    /// The function at an address of user space. For a return address, give the one before it.
    pub(super) fn user(&mut self, address: u64) -> Frame {
        if let Some(frame) = self.cache.get(&address) {
            return frame.clone();
        }
        let frame = self.find_user(address);
        self.cache.insert(address, frame.clone());
        frame
    }

    fn find_user(&self, address: u64) -> Frame {
        let inside = |module: &&Module| (module.mapping.start..module.mapping.end).contains(&address);
        let Some(module) = self.modules.iter().find(inside) else { return Frame::new("[unknown]", Origin::Unknown) };
        let file = module.mapping.path.rsplit('/').next().unwrap_or_default();
        let name = module.table.find(address.wrapping_sub(module.bias));
        match (name, module.is_worker) {
            (Some(STUBS), _) => Frame::new(STUBS, Origin::Library),
            (Some(name), true) => {
                let bare = name_in_source(name);
                match self.libevent.contains_key(bare) {
                    true => Frame::new(bare, Origin::Libevent),
                    false => Frame::new(format!("{:#}", rustc_demangle::demangle(name)), Origin::Workload),
                }
            }
            (Some(name), false) => Frame::new(name.split('@').next().unwrap_or(name), Origin::Library),
            (None, true) => Frame::new("[worker]", Origin::Workload),
            (None, false) if file.starts_with('[') => Frame::new(file, Origin::Library),
            (None, false) => Frame::new(format!("[{file}]"), Origin::Library),
        }
    }

    /// The kernel's function at an address; one name for all where names are hidden.
    pub(super) fn kernel(&mut self, address: u64) -> Frame {
        if !self.kernel_named {
            return Frame::new("[kernel]", Origin::Kernel);
        }
        if let Some(frame) = self.cache.get(&address) {
            return frame.clone();
        }
        let frame = Frame::new(self.kernel.find(address).unwrap_or("[kernel]"), Origin::Kernel);
        self.cache.insert(address, frame.clone());
        frame
    }

    /// Where the worker returns to from the function `name`: behind each call of it. That function itself is not on
    /// stacks where the compiler made its last call a jump.
    pub(super) fn returns_from(&self, name: &str) -> HashSet<u64> {
        let worker = self.modules.iter().filter(|module| module.is_worker);
        let sites = worker.filter_map(|module| {
            let target = module.table.symbols.iter().find(|symbol| symbol.2 == name)?.0;
            let file = object::File::parse(&*module.bytes).ok()?;
            let text = file.section_by_name(".text")?;
            let behind = calls_of(text.data().ok()?, text.address(), target, &slots_of(&file, target));
            Some(behind.into_iter().map(|address| address.wrapping_add(module.bias)).collect::<Vec<_>>())
        });
        sites.flatten().collect()
    }

    /// Whether the worker itself has names: without, nothing of libevent can be told apart.
    pub(super) fn worker_is_named(&self) -> bool {
        self.modules
            .iter()
            .any(|module| module.is_worker && module.table.symbols.iter().any(|symbol| symbol.2 != STUBS))
    }
}

/// Places in memory that hold the address of a function: calls may go through them (the global offset table).
fn slots_of(file: &object::File<'_>, target: u64) -> HashSet<u64> {
    let written =
        file.section_by_name(".got").and_then(|got| Some((got.address(), got.data().ok()?))).map(|(base, data)| {
            let words = data.chunks_exact(8).enumerate();
            let held = words.filter(|(_, word)| u64::from_le_bytes((*word).try_into().unwrap_or_default()) == target);
            held.map(|(index, _)| base.wrapping_add(index as u64 * 8)).collect::<HashSet<u64>>()
        });
    let relocated = file.dynamic_relocations().into_iter().flatten();
    let relocated = relocated.filter(|(_, relocation)| relocation.addend().cast_unsigned() == target);
    written.unwrap_or_default().into_iter().chain(relocated.map(|(slot, _)| slot)).collect()
}

/// Addresses behind each call of `target`, direct or through one of `slots`, in code that begins at `base`.
#[cfg(target_arch = "x86_64")]
fn calls_of(code: &[u8], base: u64, target: u64, slots: &HashSet<u64>) -> Vec<u64> {
    // `call rel32` is e8 and four bytes, `call [rip + rel32]` is ff 15 and four bytes. That other bytes look like a call of
    // just this target is as likely as a prize in a lottery.
    let call = |(place, bytes): (usize, &[u8])| {
        let [one, two, a, b, c, d] = *bytes else { return None };
        let behind = base.wrapping_add(place as u64 + 6);
        let there = behind.wrapping_add_signed(i64::from(i32::from_le_bytes([a, b, c, d])));
        let found = (two == 0xe8 && there == target) || (one == 0xff && two == 0x15 && slots.contains(&there));
        found.then_some(behind)
    };
    code.windows(6).enumerate().filter_map(call).collect()
}

/// The same for `bl`.
#[cfg(target_arch = "aarch64")]
fn calls_of(code: &[u8], base: u64, target: u64, _slots: &HashSet<u64>) -> Vec<u64> {
    let call = |(place, bytes): (usize, &[u8])| {
        let word = u32::from_le_bytes(bytes.try_into().ok()?);
        let here = base.wrapping_add(place as u64 * 4);
        let distance = i64::from((word << 6).cast_signed() >> 6) * 4;
        (word >> 26 == 0b10_0101 && here.wrapping_add_signed(distance) == target).then_some(here.wrapping_add(4))
    };
    code.chunks_exact(4).enumerate().filter_map(call).collect()
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn calls_of(_code: &[u8], _base: u64, _target: u64, _slots: &HashSet<u64>) -> Vec<u64> {
    vec![]
}

fn module(mapping: Mapping, program: &Path) -> Module {
    let name = |path: &Path| path.file_name().unwrap_or_default().to_owned();
    // The sandbox shows it in the place where it is; no other file has its name.
    let is_worker = name(Path::new(&mapping.path)) == name(program);
    let place = if is_worker { Some(program.to_owned()) } else { system_file(&mapping.path) };
    let bytes = place.and_then(|place| read(&place)).unwrap_or_default();
    let (bias, table) = parse(&bytes, &mapping, is_worker).unwrap_or_default();
    Module { mapping, bias, is_worker, bytes, table }
}

/// Only what the host itself has there: the process decides what it maps.
pub(super) fn system_file(path: &str) -> Option<PathBuf> {
    let real = Path::new(path).canonicalize().ok()?;
    SYSTEM.iter().any(|folder| real.starts_with(folder)).then_some(real)
}

/// The content of a program or library; nothing if it is none.
pub(super) fn read(path: &Path) -> Option<Vec<u8>> {
    read_at_most(path, MOST_FILE_BYTES, 0).ok()
}

/// The content of a file that somebody else may have put there or named: a device, a pipe, or one that grows is refused, and opening it
/// does not wait. `flags` are of open(2), beside that.
pub(super) fn read_at_most(path: &Path, most: u64, flags: i32) -> Result<Vec<u8>> {
    let mut options = std::fs::OpenOptions::new();
    let file = options.read(true).custom_flags(libc::O_NONBLOCK | flags).open(path);
    let file = file.with_context(|| format!("cannot open {}", path.display()))?;
    if !file.metadata()?.is_file() {
        bail!("{} is no file", path.display());
    }
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes).with_context(|| format!("cannot read {}", path.display()))?;
    if bytes.len() as u64 > most {
        bail!("{} has more than {most} bytes", path.display());
    }
    Ok(bytes)
}

fn parse(bytes: &[u8], mapping: &Mapping, is_worker: bool) -> Option<(u64, Table)> {
    let file = object::File::parse(bytes).ok()?;
    let bias = bias(&file, mapping)?;
    let mut symbols = symbols_of(&file);
    if !is_worker && let Some(debug) = debug_file(&file).and_then(|path| read(&path)) {
        symbols.extend(object::File::parse(&*debug).map(|file| symbols_of(&file)).unwrap_or_default());
    }
    symbols.extend(stubs_of(&file));
    Some((bias, Table::new(symbols, false)))
}

/// What calls of other files go through has no symbols.
fn stubs_of(file: &object::File<'_>) -> Vec<(u64, u64, String)> {
    let named = file.sections().filter(|section| section.name().is_ok_and(|name| name.starts_with(".plt")));
    named
        .filter_map(|section| Some((section.address(), end(section.address(), section.size())?, STUBS.to_owned())))
        .collect()
}

/// Where the file's own address 0 is in memory.
fn bias(file: &object::File<'_>, mapping: &Mapping) -> Option<u64> {
    let executable = |segment: &object::Segment<'_, '_>| {
        // Segments share pages: those before it reach into its first one.
        matches!(segment.flags(), object::SegmentFlags::Elf { p_flags, .. } if p_flags.0 & object::elf::PF_X.0 != 0)
    };
    let segment = file.segments().filter(executable).find(|segment| {
        let (offset, size) = segment.file_range();
        // Mappings begin at pages, segments need not.
        (offset & !0xfff) <= mapping.offset && mapping.offset < offset.saturating_add(size)
    })?;
    let (offset, _) = segment.file_range();
    Some(mapping.start.wrapping_sub(segment.address().wrapping_add(mapping.offset).wrapping_sub(offset)))
}

/// Functions with a size. A stripped file has those that others may call, at most.
fn symbols_of(file: &object::File<'_>) -> Vec<(u64, u64, String)> {
    let function = |symbol: object::Symbol<'_, '_>| {
        let whole = symbol.kind() == SymbolKind::Text && symbol.is_definition() && symbol.size() > 0;
        let end = end(symbol.address(), symbol.size()).filter(|_| whole)?;
        Some((symbol.address(), end, symbol.name().ok()?.to_owned()))
    };
    file.symbols().chain(file.dynamic_symbols()).filter_map(function).collect()
}

/// Where something ends; null beyond all addresses. The candidate's assembler writes sizes as it likes.
pub(super) fn end(begin: u64, size: u64) -> Option<u64> {
    begin.checked_add(size)
}

fn debug_file(file: &object::File<'_>) -> Option<PathBuf> {
    let id: String = file.build_id().ok()??.iter().map(|byte| format!("{byte:02x}")).collect();
    Some(PathBuf::from(format!("{DEBUG}/{}/{}.debug", id.get(..2)?, id.get(2..)?)))
}

/// Functions of /proc/kallsyms; nothing if addresses are hidden (all zero).
fn kallsyms(text: &str) -> Vec<(u64, u64, String)> {
    let symbol = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let address = u64::from_str_radix(words.next()?, 16).ok().filter(|address| *address != 0)?;
        let code = words.next()?.chars().all(|kind| "tTwW".contains(kind));
        let name = words.next()?;
        code.then(|| (address, address, name.to_owned()))
    };
    text.lines().filter_map(symbol).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPS: &str = "\
55d0c0a00000-55d0c0a10000 r--p 00000000 fe:00 123 /work/scratch/worker-0123
55d0c0a10000-55d0c0b00000 r-xp 00010000 fe:00 123 /work/scratch/worker-0123
7f0000000000-7f0000100000 r-xp 00026000 fe:00 9 /usr/lib/x86_64-linux-gnu/libc.so.6
7ffd00000000-7ffd00002000 r-xp 00000000 00:00 0 [vdso]
7ffd10000000-7ffd10002000 rw-p 00000000 00:00 0 [stack]
nonsense
";

    #[test]
    fn executable_mappings_are_found() {
        let found = mappings(MAPS);
        let paths: Vec<&str> = found.iter().map(|mapping| mapping.path.as_str()).collect();
        assert_eq!(paths, ["/work/scratch/worker-0123", "/usr/lib/x86_64-linux-gnu/libc.so.6", "[vdso]"]);
        assert_eq!((found[0].start, found[0].offset), (0x55d0_c0a1_0000, 0x10000));
    }

    #[test]
    fn what_is_no_file_or_too_large_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("five"), "12345").unwrap();
        std::os::unix::fs::symlink(path("five"), path("link")).unwrap();
        let fifo = std::ffi::CString::new(path("fifo").to_str().unwrap()).unwrap();
        // SAFETY: a path that ends with a zero.
        assert_eq!(unsafe { libc::mkfifo(fifo.as_ptr(), 0o600) }, 0);
        assert_eq!(read_at_most(&path("five"), 5, 0).unwrap(), b"12345");
        assert!(read_at_most(&path("five"), 4, 0).unwrap_err().to_string().contains("more than 4 bytes"));
        assert!(read_at_most(&path("fifo"), 5, 0).unwrap_err().to_string().contains("is no file"), "and does not hang");
        read_at_most(&path("link"), 5, 0).unwrap();
        read_at_most(&path("link"), 5, libc::O_NOFOLLOW).unwrap_err();
        assert_eq!((read(Path::new("/dev/zero")), system_file("/dev/zero")), (None, None));
        assert_eq!(system_file(path("five").to_str().unwrap()), None, "the host's own files alone");
    }

    #[test]
    fn an_address_behind_a_symbol_has_no_name() {
        let symbol = |begin, size, name: &str| (begin, begin + size, name.to_owned());
        let table = Table::new(
            vec![symbol(100, 10, "__libc_malloc"), symbol(100, 10, "malloc"), symbol(200, 0, "empty")],
            false,
        );
        assert_eq!((table.find(105), table.find(110), table.find(99)), (Some("malloc"), None, None));
        assert_eq!(table.find(200), None, "a stripped library: the nearest name is not the name");
        let kernel = Table::new(vec![symbol(10, 0, "a"), symbol(20, 0, "b")], true);
        assert_eq!((kernel.find(19), kernel.find(5000)), (Some("a"), Some("b")));
    }

    #[test]
    fn a_symbol_that_ends_beyond_all_addresses_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let function = |name: &str, size: &str| {
            format!(".globl {name}\n.type {name}, %function\n{name}: nop\n.size {name}, {size}\n")
        };
        std::fs::write(path("odd.s"), format!(".text\n{}{}", function("plain", "1"), function("endless", "-1")))
            .unwrap();
        let mut cc = std::process::Command::new(crate::build::compiler());
        cc.args(["-c", "-o"]).arg(path("odd.o")).arg(path("odd.s"));
        let got = crate::process::capture(&mut cc, std::time::Duration::from_secs(60)).unwrap();
        assert!(got.status.success(), "{}", got.stderr);
        let bytes = std::fs::read(path("odd.o")).unwrap();
        let found = symbols_of(&object::File::parse(&*bytes).unwrap());
        let names: Vec<&str> = found.iter().map(|(_, _, name)| name.as_str()).collect();
        assert_eq!(names, ["plain"], "{found:?}");
    }

    #[test]
    fn hidden_addresses_of_the_kernel_are_no_names() {
        assert!(kallsyms("0000000000000000 T _stext\n0000000000000000 t do_one_initcall\n").is_empty());
        let shown = kallsyms("ffffffff81000000 T _stext\nffffffff81000010 d data\nffffffff81000020 t foo [module]\n");
        assert_eq!(shown.len(), 2);
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn calls_of_a_function_are_found() {
        // nop; call 0x1010; nop; call 0x2000 (from 0x1000); call [0x3000].
        let mut code = vec![0x90, 0xe8];
        code.extend((0x1010_i32 - 0x1006).to_le_bytes());
        code.extend([0x90, 0xe8]);
        code.extend((0x2000_i32 - 0x100c).to_le_bytes());
        code.extend([0xff, 0x15]);
        code.extend((0x3000_i32 - 0x1012).to_le_bytes());
        let none = HashSet::new();
        assert_eq!(calls_of(&code, 0x1000, 0x1010, &none), [0x1006]);
        assert_eq!(calls_of(&code, 0x1000, 0x2000, &none), [0x100c]);
        assert_eq!(calls_of(&code, 0x1000, 0x5000, &HashSet::from([0x3000])), [0x1012]);
        assert!(calls_of(&code, 0x1000, 0x5000, &none).is_empty());
    }

    /// This very program, found as a worker would be.
    #[test]
    fn functions_of_a_running_program_are_found_by_their_addresses() {
        let program = std::env::current_exe().unwrap();
        let kernel = Kernel(vec![]);
        let symbolizer = || Symbolizer::of(std::process::id(), &program, &BTreeMap::new(), &kernel).unwrap();
        let mut found = symbolizer();
        let here = functions_of_a_running_program_are_found_by_their_addresses as fn() as usize as u64;
        assert!(found.user(here + 1).symbol.contains("functions_of_a_running_program"), "{:?}", found.user(here + 1));
        assert!(found.worker_is_named());
        assert_eq!(found.user(1), Frame::new("[unknown]", Origin::Unknown));
        assert_eq!(found.kernel(u64::MAX - 5).symbol, "[kernel]");
        // Under another name it is a file that nobody vouches for.
        let other = Symbolizer::of(std::process::id(), Path::new("/other"), &BTreeMap::new(), &kernel).unwrap();
        assert!(!other.worker_is_named());
    }
}
