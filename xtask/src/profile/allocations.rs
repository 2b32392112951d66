//! Allocations by call site, of exactly the timed part of warm batches: counted by a preloaded library
//! (allocations.c beside this file), twice.
//!
//! The clock is the real one: what is counted is what happens when a batch is timed. So counts of workloads in which
//! clocks, threads or another process take part may differ between two runs, and then that is said.

use super::watched::Session;
use super::{functions, symbols};
use crate::context::Context;
use crate::exit::{Exit, failure};
use crate::sandbox::Policy;
use crate::session::{self, Surroundings};
use crate::worker::Worker;
use crate::{build, process};
use anyhow::{Context as _, Result, bail};
use model::allocations::{self, Allocations, Report, Symbol};
use model::variant::Build;
use model::workload::WorkloadSpec;
use object::{Object as _, ObjectSymbol as _, SymbolKind};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Batches that warm up, and those that are counted.
const WARM_UP: u64 = 3;
const BATCHES: u64 = 3;
const COMPILE_LIMIT: Duration = Duration::from_secs(60);
/// The counter's source. Beside this file and not with the worker's: it is no part of what is measured.
const SOURCE: &str = "xtask/src/profile/allocations.c";

/// Allocations of one workload. `worker` is linked against `build`, which is one to be timed (`Purpose::Measure`).
///
/// Fails where the counter cannot be compiled or preloaded, where the work is wrong, and where a report is incomplete: there
/// is no partial count.
pub(crate) fn count(
    context: &Context,
    build: &Build,
    worker: &Worker,
    spec: &WorkloadSpec,
    surroundings: &Surroundings<'_>,
) -> Result<Allocations> {
    let folder = context.scratch("allocations-")?;
    let library = folder.path().join("allocations.so");
    compile(context, &library)?;
    let run = |number: u32| counted(&library, &folder.path().join(format!("run-{number}")), worker, spec, surroundings);
    let (first, second) = (run(1)?, run(2)?);
    let libevent = functions::of_libevent(build)?;
    let named = Symbols::read(&first, &worker.program, &libevent.keys().map(String::as_str).collect())?;
    let symbol = |object: &str, place| named.find(object, place);
    Ok(allocations::assemble(&first, spec.batch_events, symbol, first.difference(&second)))
}

/// At run time, as the pinned clock is: the C compiler is there.
fn compile(context: &Context, library: &Path) -> Result<()> {
    let source = context.root.join(SOURCE);
    let mut command = Command::new(build::compiler());
    // Its own frames must be there, and its own calls not be taken for the C library's.
    command.args(["-O2", "-g0", "-shared", "-fPIC", "-fno-omit-frame-pointer", "-fno-builtin"]);
    command.arg("-o").arg(library).arg(&source).arg("-ldl");
    build::without_compiler_settings(&mut command);
    let got = process::capture(&mut command, COMPILE_LIMIT)?;
    if !got.status.success() {
        bail!("{} does not compile: {}", source.display(), got.stderr.trim());
    }
    Ok(())
}

/// One process, counted.
fn counted(
    library: &Path,
    folder: &Path,
    worker: &Worker,
    spec: &WorkloadSpec,
    surroundings: &Surroundings<'_>,
) -> Result<Report> {
    let policy = Policy { readable: vec![library.to_owned()], writable: vec![folder.to_owned()], ..Policy::measure() };
    let path = folder.join("report");
    let mut command = session::command_within(&policy, &worker.program, surroundings)?;
    command.env("LD_PRELOAD", library).env("ALLOCATIONS_REPORT", &path);
    command.args(["run", "--workload", &spec.name, "--cpu", &surroundings.pinning.worker.to_string()]);
    let mut session = Session::start_preloaded(&mut command, worker, &spec.name, surroundings.limit)?;
    session.batches_of(spec, WARM_UP)?;
    let counted = session.marks(BATCHES)?;
    session.quit()?;
    let asked = BATCHES.saturating_mul(spec.batch_events);
    if counted.events != asked {
        let done = counted.events;
        return Err(failure(Exit::Failed, format!("wrong work: the worker did {done} of {asked} events")));
    }
    // The sandbox's user wrote it, and could have written anything in its place: a link, or without end.
    let text = symbols::read_at_most(&path, MOST_REPORT_BYTES, libc::O_NOFOLLOW).context(
        "the counter left no report that can be read; it was not preloaded: is the worker linked statically with the C library?",
    )?;
    let report = allocations::parse(&String::from_utf8_lossy(&text))?;
    if report.batches != BATCHES {
        bail!("the counter saw {} of {BATCHES} batches", report.batches);
    }
    Ok(report)
}

/// A full table of the counter, with room.
const MOST_REPORT_BYTES: u64 = 16 << 20;

/// Functions of every file that a call site is in.
struct Symbols {
    objects: BTreeMap<String, Vec<(u64, u64, String)>>,
    libevent: BTreeSet<String>,
}

impl Symbols {
    fn read(report: &Report, program: &Path, libevent: &BTreeSet<&str>) -> Result<Symbols> {
        let used: BTreeSet<usize> =
            report.sites.keys().flat_map(|site| &site.addresses).filter_map(|address| address.object).collect();
        let mut objects = BTreeMap::new();
        for name in used.into_iter().map(|object| &report.objects[object]) {
            // Without the worker's names there is no view. Those of the C library are a help to readers; which files these are
            // is what the report says, and the sandbox's user may have written it.
            if name == "program" {
                objects.insert(name.clone(), functions_of(program)?);
            } else if let Some(functions) = symbols::system_file(name).and_then(|path| functions_of(&path).ok()) {
                objects.insert(name.clone(), functions);
            }
        }
        Ok(Symbols { objects, libevent: libevent.iter().map(|name| (*name).to_owned()).collect() })
    }

    /// The function that the call before a return address is in.
    fn find(&self, object: &str, place: u64) -> Option<Symbol> {
        let functions = self.objects.get(object)?;
        let call = place.checked_sub(1)?;
        let after = functions.partition_point(|(start, ..)| *start <= call);
        let (start, size, name) = functions.get(after.checked_sub(1)?)?;
        // The candidate's assembler writes sizes as it likes.
        if *size > 0 && call - start >= *size {
            return None;
        }
        let libevent = self.libevent.contains(name);
        Some(Symbol { name: format!("{:#}", rustc_demangle::demangle(name)), offset: place - start, libevent })
    }
}

/// Functions by address: of the symbol table, or, where that was stripped, of the dynamic one.
fn functions_of(path: &Path) -> Result<Vec<(u64, u64, String)>> {
    let bytes = symbols::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let file = object::File::parse(&*bytes).with_context(|| format!("{} is no program", path.display()))?;
    let mut functions: Vec<(u64, u64, String)> = file
        .symbols()
        .chain(file.dynamic_symbols())
        .filter(|symbol| symbol.kind() == SymbolKind::Text && symbol.is_definition())
        .filter_map(|symbol| Some((symbol.address(), symbol.size(), symbol.name().ok()?.to_owned())))
        .collect();
    if functions.is_empty() {
        bail!("{} has no symbols: it was stripped", path.display());
    }
    // Of several names at one address, the shortest: `free` rather than `__libc_free`.
    functions.sort_by(|a, b| (a.0, a.2.len(), &a.2).cmp(&(b.0, b.2.len(), &b.2)));
    functions.dedup_by_key(|(start, ..)| *start);
    Ok(functions)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn symbols(functions: &[(u64, u64, &str)]) -> Symbols {
        let functions = functions.iter().map(|(start, size, name)| (*start, *size, (*name).to_owned())).collect();
        let libevent = BTreeSet::from(["evbuffer_add".to_owned()]);
        Symbols { objects: BTreeMap::from([("program".to_owned(), functions)]), libevent }
    }

    #[test]
    fn a_return_address_belongs_to_the_function_that_called() {
        let symbols = symbols(&[(0x100, 0x20, "evbuffer_add"), (0x120, 0x10, "other"), (0x200, 0, "assembly")]);
        let name = |place| symbols.find("program", place).map(|s| (s.name, s.offset, s.libevent));
        assert_eq!(name(0x110), Some(("evbuffer_add".into(), 0x10, true)));
        // The call is the function's last instruction; where it would return to is the next function.
        assert_eq!(name(0x120), Some(("evbuffer_add".into(), 0x20, true)));
        assert_eq!(name(0x121), Some(("other".into(), 1, false)));
        assert_eq!(name(0x140), None, "between functions");
        assert_eq!(name(0x210), Some(("assembly".into(), 0x10, false)), "without a size, up to the next one");
        assert_eq!(name(0x50), None);
        assert_eq!(symbols.find("libc.so.6", 0x110), None);
    }

    #[test]
    fn a_program_without_symbols_is_named_as_stripped() {
        let own = functions_of(&std::env::current_exe().unwrap()).unwrap();
        assert!(own.iter().any(|(_, _, name)| name.contains("a_program_without_symbols_is_named_as_stripped")));
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("text"), "int x;").unwrap();
        let error = functions_of(&path("text")).unwrap_err();
        assert!(error.to_string().contains("is no program"), "{error:#}");
        std::fs::write(path("stripped.c"), "int main(void) { return 0; }").unwrap();
        let mut cc = Command::new(build::compiler());
        cc.args(["-s", "-o"]).arg(path("stripped")).arg(path("stripped.c"));
        assert!(process::capture(&mut cc, COMPILE_LIMIT).unwrap().status.success());
        let error = functions_of(&path("stripped")).unwrap_err();
        assert!(error.to_string().contains("it was stripped"), "{error:#}");
        // Of the worker that is an error: without its names there is no view.
        let report = report_of(&["program"]);
        let error = Symbols::read(&report, &path("stripped"), &BTreeSet::new()).err().unwrap();
        assert!(error.to_string().contains("it was stripped"), "{error:#}");
    }

    /// A report with a call from each of these files.
    fn report_of(objects: &[&str]) -> Report {
        let mut text = String::from("allocations 1\nmarks 2\n");
        for (index, object) in (1..).zip(objects) {
            text.push_str(&format!("object {index} 0 {index}000 {index}fff {object}\n"));
        }
        for index in 1..=objects.len() {
            text.push_str(&format!("site malloc 1 1 {index}010\n"));
        }
        allocations::parse(&format!("{text}end\n")).unwrap()
    }

    #[test]
    fn only_the_hosts_own_libraries_are_read_whatever_the_report_names() {
        let folder = tempfile::tempdir().unwrap();
        let own = std::env::current_exe().unwrap();
        let copy = folder.path().join("library.so");
        std::os::unix::fs::symlink(&own, &copy).unwrap();
        let fifo = std::ffi::CString::new(folder.path().join("fifo").to_str().unwrap()).unwrap();
        // SAFETY: a path that ends with a zero.
        assert_eq!(unsafe { libc::mkfifo(fifo.as_ptr(), 0o600) }, 0);
        let names = ["program", "/dev/zero", fifo.to_str().unwrap(), copy.to_str().unwrap()];
        let found = Symbols::read(&report_of(&names), &own, &BTreeSet::new()).unwrap();
        assert_eq!(found.objects.keys().collect::<Vec<_>>(), ["program"]);
    }

    /// The counter itself, in a small program.
    #[test]
    fn the_counter_sees_what_is_between_the_marks_and_nothing_else() {
        const PROGRAM: &str = r#"
            #include <signal.h>
            #include <stdlib.h>
            #include <string.h>
            #include <unistd.h>
            #define APART __attribute__((noinline, noclone))
            static void *volatile kept;
            APART void inner(size_t bytes) { kept = malloc(bytes); __asm__ volatile(""); }
            APART void outer(size_t bytes) { inner(bytes); __asm__ volatile(""); }
            APART void copies(void) { kept = strdup("four"); free(kept); __asm__ volatile(""); }
            int main(void) {
                inner(1000); free(kept);
                for (int batch = 0; batch < 2; batch++) {
                    kill(getpid(), 0);
                    outer(10); free(kept);
                    copies();
                    kept = realloc(NULL, 7); kept = realloc(kept, 70); free(kept);
                    kept = calloc(3, 5); free(kept); free(NULL);
                    kill(getpid(), 0);
                    outer(5000); free(kept);
                }
                if (fork() == 0) exit(0);
                return 0;
            }"#;
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("program.c"), PROGRAM).unwrap();
        let mut cc = Command::new(build::compiler());
        cc.args(["-O1", "-fno-omit-frame-pointer", "-fno-builtin", "-o"]).arg(path("program")).arg(path("program.c"));
        assert!(process::capture(&mut cc, COMPILE_LIMIT).unwrap().status.success());
        let mut context = Context::new(false, false, &[]).unwrap();
        context.work = path("work");
        compile(&context, &path("counter.so")).unwrap();

        let report = |sites: Option<&str>| {
            let library = path("counter.so");
            if let Some(sites) = sites {
                let mut cc = Command::new(build::compiler());
                cc.args(["-O2", "-shared", "-fPIC", "-fno-omit-frame-pointer", "-fno-builtin", sites, "-o"])
                    .arg(&library);
                cc.arg(context.root.join(SOURCE)).arg("-ldl");
                assert!(process::capture(&mut cc, COMPILE_LIMIT).unwrap().status.success());
            }
            let mut run = Command::new(path("program"));
            run.env("LD_PRELOAD", &library).env("ALLOCATIONS_REPORT", path("report"));
            assert!(process::capture(&mut run, COMPILE_LIMIT).unwrap().status.success());
            allocations::parse(&std::fs::read_to_string(path("report")).unwrap()).unwrap()
        };
        let (first, second) = (report(None), report(None));
        assert_eq!(first.difference(&second), None);
        let symbols = Symbols::read(&first, &path("program"), &BTreeSet::from(["inner", "copies"])).unwrap();
        let counted = allocations::assemble(&first, 1, |object, place| symbols.find(object, place), None);
        assert_eq!((counted.batches, counted.events), (2, 2));
        let total = counted.total;
        assert_eq!((total.allocations, total.reallocations, total.frees, total.bytes), (4.0, 1.0, 4.0, 107.0));
        let of = |name: &str| counted.sites.iter().find(|site| site.chain[0].starts_with(name)).unwrap();
        assert_eq!((of("inner+").rates.allocations, of("inner+").rates.bytes), (1.0, 10.0));
        assert!(of("inner+").chain[1].starts_with("outer+"), "{:?}", of("inner+").chain);
        assert!(counted.sites.iter().any(|site| site.chain[0].starts_with("copies+") && site.rates.bytes == 5.0));
        assert_eq!(counted.libevent.allocations, 2.0);
        assert_eq!(counted.lost_calls, 0);

        // A table that is too small loses calls, and says how many.
        let small = report(Some("-DALLOCATIONS_SITES=2"));
        let counted = allocations::assemble(&small, 1, |object, place| symbols.find(object, place), None);
        assert!(counted.lost_calls > 0);
        assert_eq!((counted.total.allocations, counted.total.bytes), (4.0, 107.0), "the total holds all the same");
    }
}
