//! The program: `list`, `run`, `show`, `trace`.

use crate::case::Case;
use crate::child::{Outcome, Running};
use crate::family::Entry;
use crate::{families, memory};
use serde::Serialize;
use std::collections::{BTreeMap, VecDeque};
use std::ffi::{CStr, c_char, c_int};
use std::io::{self, Write as _};

const USAGE: &str = "usage: model-tests list
       model-tests run --family NAME|all --seed N --cases N [--from NUMBER] [--jobs N] [--hung N]
       model-tests show --family NAME --seed N --case NUMBER
       model-tests trace --case FILE|CASE";

/// Everything went as asked; violations are results.
const EXIT_OK: c_int = 0;
/// The command line makes no sense; nothing was done.
const EXIT_USAGE: c_int = 1;
/// The program could not do its work.
const EXIT_FAILED: c_int = 2;

/// The first line of every output.
#[derive(Serialize)]
struct Program {
    program: &'static str,
    libevent: &'static str,
    sanitizer: &'static str,
}

/// One line of `list`.
#[derive(Serialize)]
struct Listed {
    family: &'static str,
    systematic: u64,
    about: &'static str,
}

/// One line of `run`, the last line of `trace`.
#[derive(Serialize)]
struct Line<'a> {
    family: &'a str,
    case: u64,
    ops: usize,
    #[serde(flatten)]
    outcome: Outcome,
}

/// The last line of `run`: nothing is missing before it but what was given up after too many hung cases.
#[derive(Serialize)]
struct End {
    cases_run: u64,
}

/// The program's `main`. Returns the exit code: 0, 1 (usage), 2 (it could not run the cases).
///
/// # Safety
/// `argv` must point to `argc` strings that end in NUL, as the C runtime hands them to `main`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn model_tests_main(argc: c_int, argv: *const *const c_char) -> c_int {
    let count = usize::try_from(argc).unwrap_or(0);
    let arguments: Vec<String> = (1..count)
        .map(|index| {
            // SAFETY: the caller promises `argc` strings; `index` is below `argc`.
            let argument = unsafe { CStr::from_ptr(*argv.add(index)) };
            argument.to_string_lossy().into_owned()
        })
        .collect();
    match main(&arguments) {
        Ok(()) => EXIT_OK,
        Err(Failure::Usage(message)) => {
            eprintln!("model-tests: {message}\n{USAGE}");
            EXIT_USAGE
        }
        Err(Failure::Io(error)) => {
            eprintln!("model-tests: {error}");
            EXIT_FAILED
        }
    }
}

enum Failure {
    Usage(String),
    Io(io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Failure::Io(error)
    }
}

fn main(arguments: &[String]) -> Result<(), Failure> {
    let (verb, rest) = arguments.split_first().ok_or_else(|| Failure::Usage("what to do?".to_owned()))?;
    let options = options(rest).map_err(Failure::Usage)?;
    let family = || named(options.get("family").map_or("", String::as_str)).map_err(Failure::Usage);
    match verb.as_str() {
        "list" => list()?,
        "run" => {
            let families =
                if options.get("family").is_some_and(|name| name == "all") { families::all() } else { vec![family()?] };
            let from = if options.contains_key("from") { number(&options, "from")? } else { 0 };
            let jobs = if options.contains_key("jobs") { number(&options, "jobs")? } else { 1 };
            let hung = if options.contains_key("hung") { number(&options, "hung")? } else { u64::MAX };
            let cases = Cases { seed: number(&options, "seed")?, from, count: number(&options, "cases")?, hung };
            run(&families, cases, usize::try_from(jobs).unwrap_or(1).max(1))?;
        }
        "show" => {
            let case = (family()?.generate)(number(&options, "seed")?, number(&options, "case")?);
            print(&case.map_err(Failure::Usage)?)?;
        }
        "trace" => {
            let path = options.get("case").ok_or_else(|| Failure::Usage("--case FILE is missing".to_owned()))?;
            // The case itself, where there is no file that this program may read.
            let text = if path.starts_with('{') { path.clone() } else { std::fs::read_to_string(path)? };
            let case = Case::parse(&text).map_err(Failure::Usage)?;
            let entry = named(&case.family).map_err(Failure::Usage)?;
            print(&program())?;
            let running = Running::start(&entry, &case, true)?;
            while !running.is_over() {
                Running::wait_any(std::iter::once(&running));
            }
            print(&Line { family: entry.name, case: case.case, ops: case.ops.len(), outcome: running.outcome()? })?;
        }
        other => return Err(Failure::Usage(format!("`{other}` is no command"))),
    }
    Ok(())
}

/// Which cases of each family.
#[derive(Clone, Copy)]
struct Cases {
    seed: u64,
    from: u64,
    count: u64,
    /// After so many that hang, no further case of a family is begun.
    hung: u64,
}

fn list() -> io::Result<()> {
    print(&program())?;
    for entry in families::all() {
        print(&Listed { family: entry.name, systematic: (entry.systematic)(), about: entry.about })?;
    }
    Ok(())
}

fn run(families: &[Entry], cases: Cases, jobs: usize) -> Result<(), Failure> {
    print(&program())?;
    let mut cases_run = 0;
    for entry in families {
        cases_run += run_family(entry, cases, jobs)?;
    }
    Ok(print(&End { cases_run })?)
}

/// Cases between two times at which this process lets go of what it has freed.
const PURGED_AFTER: u64 = 32;

/// At most `jobs` cases at a time; results in the order of numbers. Returns how many were run.
fn run_family(entry: &Entry, cases: Cases, jobs: usize) -> Result<u64, Failure> {
    let mut waiting: VecDeque<u64> = (cases.from..cases.from.saturating_add(cases.count)).collect();
    let mut running: Vec<(Case, Running)> = Vec::new();
    let mut done: BTreeMap<u64, Line<'_>> = BTreeMap::new();
    let (mut next, mut printed, mut hung) = (cases.from, cases.from, 0);
    while !waiting.is_empty() || !running.is_empty() {
        while running.len() < jobs
            && let Some(number) = waiting.pop_front()
        {
            let case = (entry.generate)(cases.seed, number).map_err(|error| Failure::Io(io::Error::other(error)))?;
            let started = Running::start(entry, &case, false)?;
            running.push((case, started));
        }
        Running::wait_any(running.iter().map(|(_, running)| running));
        let (over, still): (Vec<_>, Vec<_>) = running.into_iter().partition(|(_, running)| running.is_over());
        running = still;
        for (case, over) in over {
            let outcome = over.outcome()?;
            hung += u64::from(outcome.hangs());
            done.insert(case.case, Line { family: entry.name, case: case.case, ops: case.ops.len(), outcome });
        }
        if next / PURGED_AFTER != printed / PURGED_AFTER {
            memory::purge();
        }
        printed = next;
        if hung >= cases.hung {
            waiting.clear();
        }
        while let Some(line) = done.remove(&next) {
            print(&line)?;
            next += 1;
        }
    }
    Ok(next - cases.from)
}

fn named(name: &str) -> Result<Entry, String> {
    families::all()
        .into_iter()
        .find(|entry| entry.name == name)
        .ok_or_else(|| format!("no family `{name}`; see `list`"))
}

fn options(arguments: &[String]) -> Result<BTreeMap<String, String>, String> {
    let mut options = BTreeMap::new();
    for pair in arguments.chunks(2) {
        match pair {
            [name, value] if name.starts_with("--") => options.insert(name[2..].to_owned(), value.clone()),
            _ => return Err(format!("`{}`: options are --NAME VALUE", pair.join(" "))),
        };
    }
    Ok(options)
}

fn number(options: &BTreeMap<String, String>, name: &str) -> Result<u64, Failure> {
    let text = options.get(name).ok_or_else(|| Failure::Usage(format!("--{name} N is missing")))?;
    text.parse().map_err(|_| Failure::Usage(format!("--{name} {text}: not a number")))
}

fn program() -> Program {
    Program { program: "model-tests/1", libevent: libevent_sys::version(), sanitizer: memory::sanitizer() }
}

fn print(line: &impl Serialize) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{}", serde_json::to_string(line)?)?;
    stdout.flush()
}
