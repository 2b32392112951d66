//! What programs that use libevent rely on: symbols, public headers, layouts of public types; and what a library must
//! not do to the rest of a program, such as define a function of libc.

mod headers;

pub use headers::{Headers, parse};

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// One symbol that a library defines for others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Symbol {
    /// `function`, `data`, `thread-local data`, `other`.
    pub kind: &'static str,
    /// Of data: programs may hold a copy. Null for code.
    pub size_bytes: Option<u64>,
    /// Another definition wins over this one.
    pub weak: bool,
    /// Not seen by other shared objects.
    pub hidden: bool,
}

/// All symbols of one build's libraries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Symbols {
    /// Defined and not local to one object file, hidden ones included: a static link takes them all.
    pub defined: BTreeMap<String, Symbol>,
    /// Used and not defined in these libraries.
    pub undefined: BTreeSet<String>,
    /// Sections with code that runs before `main` or after it, such as `buffer.c.o: .init_array`.
    pub constructors: BTreeSet<String>,
}

/// Types by name, such as `struct event`, each with its lines: size, then one for each field or value.
pub type Layouts = BTreeMap<String, Vec<String>>;

/// One side.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    /// Of the libraries.
    pub symbols: Symbols,
    /// Of the public headers.
    pub headers: Headers,
    /// Of types in public headers.
    pub layouts: Layouts,
}

/// What a difference is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Subject {
    /// A symbol that pristine has.
    Symbol,
    /// A new symbol whose name is not libevent's to take.
    Clash,
    /// A declaration in a public header.
    Declaration,
    /// A macro in a public header.
    Macro,
    /// A public type's size, fields or values.
    Layout,
}

/// One difference that programs can see.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Difference {
    /// What it is in.
    pub subject: Subject,
    /// Name of the symbol, function, macro or type.
    pub name: String,
    /// What differs, as a phrase.
    pub what: String,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.name, self.what)
    }
}

/// What a comparison of two interfaces found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AbiReport {
    /// Refused, unless the experiment says so.
    pub differences: Vec<Difference>,
    /// To be read by a person: functions of the system that pristine's library does not use, and constructors.
    pub screened: Vec<String>,
    /// Everything else that is used and was not before.
    pub new_undefined: Vec<String>,
}

/// How libevent's own names begin. No name of libc begins like this.
const PREFIXES: &[&str] = &[
    "bufferevent_",
    "event_",
    "evbuffer_",
    "evconnlistener_",
    "evdns_",
    "evhttp_",
    "evmap_",
    "evrpc_",
    "evsig_",
    "evtag_",
    "evthread_",
    "evthreadimpl_",
    "evutil_",
    "libevent_",
];

/// Functions by which a library could find out that it is measured, falsify what is measured or leave the sandbox.
/// With `*`, everything that begins so.
const SCREENED: &[&str] = &[
    "*getenv",
    "__clock_*",
    "__sched_*",
    "_exit",
    "clock*",
    "clone*",
    "dl*",
    "environ",
    "exec*",
    "fexecve",
    "fork",
    "getenv",
    "getpid",
    "getppid",
    "getrusage",
    "gettimeofday",
    "kill",
    "mprotect",
    "nanosleep",
    "perf_event_open",
    "personality",
    "popen",
    "posix_spawn*",
    "prctl",
    "process_vm_*",
    "program_invocation_*",
    "pthread_atfork",
    "ptrace",
    "raise",
    "sched_*",
    "secure_getenv",
    "setenv",
    "setitimer",
    "setpriority",
    "shm_open",
    "sleep",
    "syscall",
    "sysconf",
    "system",
    "time",
    "timer_*",
    "timerfd_*",
    "times",
    "unshare",
    "usleep",
    "vfork",
];

/// Compares a candidate's interface with pristine's.
pub fn differences(pristine: &Interface, candidate: &Interface) -> AbiReport {
    let mut found = symbols(pristine, candidate);
    found.extend(headers::differences(&pristine.headers, &candidate.headers));
    found.extend(layouts(&pristine.layouts, &candidate.layouts));
    found.sort();
    found.dedup();
    let (before, now) = (&pristine.symbols, &candidate.symbols);
    let new: Vec<&String> = now.undefined.difference(&before.undefined).collect();
    let (screened, new_undefined): (Vec<&String>, Vec<&String>) = new.into_iter().partition(|name| is_screened(name));
    let constructors = now.constructors.difference(&before.constructors);
    let constructors = constructors.map(|section| format!("code outside of main: {section}"));
    let used = screened.into_iter().map(|name| format!("uses {name}"));
    AbiReport {
        differences: found,
        screened: used.chain(constructors).collect(),
        new_undefined: new_undefined.into_iter().cloned().collect(),
    }
}

/// Public symbols that went or changed, and new ones with a name that is somebody else's.
fn symbols(pristine: &Interface, candidate: &Interface) -> Vec<Difference> {
    let (before, now) = (&pristine.symbols.defined, &candidate.symbols.defined);
    let public = before.iter().filter(|(name, _)| pristine.headers.names.contains(*name));
    let gone = public.filter_map(|(name, old)| {
        let what = match now.get(name) {
            None => "is not defined any more".to_owned(),
            Some(new) if new == old => return None,
            Some(new) => format!("was {}, is {}", describe(old), describe(new)),
        };
        Some(Difference { subject: Subject::Symbol, name: name.clone(), what })
    });
    let ours = |name: &str| PREFIXES.iter().any(|prefix| name.starts_with(prefix));
    // A name with `@` is a version of another symbol.
    let foreign = |name: &str| !ours(name) || name.contains('@');
    let new = now.iter().filter(|(name, _)| !before.contains_key(*name) && foreign(name));
    let clashes = new.map(|(name, symbol)| Difference {
        subject: Subject::Clash,
        name: name.clone(),
        what: format!(
            "a new {}, which would take the place of another one of this name in every program; make it static, or \
             begin its name as libevent's do",
            describe(symbol)
        ),
    });
    gone.chain(clashes).collect()
}

fn describe(symbol: &Symbol) -> String {
    let size = symbol.size_bytes.map(|bytes| format!(" of {bytes} bytes")).unwrap_or_default();
    let weak = if symbol.weak { "weak " } else { "" };
    let hidden = if symbol.hidden { "hidden " } else { "" };
    format!("{weak}{hidden}{}{size}", symbol.kind)
}

fn is_screened(name: &str) -> bool {
    // Versions, and what headers make of a name: `time64`, `__isoc99_...`.
    let plain = name.split('@').next().unwrap_or(name);
    let plain = plain.trim_end_matches("64").trim_end_matches("_chk");
    let plain = plain.strip_prefix("__").unwrap_or(plain);
    SCREENED.iter().any(|pattern| match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        (Some(end), _) => plain.ends_with(end),
        (_, Some(start)) => plain.starts_with(start),
        _ => plain == *pattern,
    })
}

/// Types that went or are laid out otherwise.
fn layouts(before: &Layouts, now: &Layouts) -> Vec<Difference> {
    let changed = before.iter().filter_map(|(name, old)| {
        let what = match now.get(name) {
            None => "is not there any more".to_owned(),
            Some(new) if new == old => return None,
            Some(new) => {
                let only = |these: &[String], those: &[String]| {
                    these.iter().filter(|line| !those.contains(line)).cloned().collect::<Vec<_>>().join(", ")
                };
                format!("had {}; has {}", or_nothing(only(old, new)), or_nothing(only(new, old)))
            }
        };
        Some(Difference { subject: Subject::Layout, name: name.clone(), what })
    });
    changed.collect()
}

fn or_nothing(text: String) -> String {
    if text.is_empty() { "nothing else".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn function() -> Symbol {
        Symbol { kind: "function", size_bytes: None, weak: false, hidden: false }
    }

    fn interface(defined: &[&str], public: &[&str]) -> Interface {
        let defined = defined.iter().map(|name| ((*name).to_owned(), function())).collect();
        let names = public.iter().map(|name| (*name).to_owned()).collect();
        Interface {
            symbols: Symbols { defined, ..Symbols::default() },
            headers: Headers { names, ..Headers::default() },
            ..Interface::default()
        }
    }

    fn names(report: &AbiReport) -> Vec<(Subject, &str)> {
        report.differences.iter().map(|difference| (difference.subject, difference.name.as_str())).collect()
    }

    #[test]
    fn a_public_symbol_stays_and_others_may_come_and_go() {
        let public = ["event_new", "event_add"];
        let pristine = interface(&["event_new", "event_add", "evmap_helper_"], &public);
        let same = interface(&["event_new", "event_add", "evmap_other_"], &public);
        assert!(differences(&pristine, &same).differences.is_empty());
        let gone = interface(&["event_new", "evmap_helper_"], &public);
        assert_eq!(names(&differences(&pristine, &gone)), [(Subject::Symbol, "event_add")]);
        let mut weak = same.clone();
        weak.symbols.defined.get_mut("event_add").unwrap().weak = true;
        let report = differences(&pristine, &weak);
        assert_eq!(report.differences[0].to_string(), "event_add: was function, is weak function");
    }

    #[test]
    fn names_of_others_are_refused_however_they_are_defined() {
        let pristine = interface(&["event_new", "selectops"], &["event_new"]);
        for name in ["clock_gettime", "malloc", "write", "eventfd_read", "epoll_wait", "event_x@GLIBC_2.2.5", "helper"]
        {
            let clash = interface(&["event_new", "selectops", name], &["event_new"]);
            assert_eq!(names(&differences(&pristine, &clash)), [(Subject::Clash, name)]);
        }
        let mut hidden = interface(&["event_new", "selectops", "memcpy"], &["event_new"]);
        hidden.symbols.defined.get_mut("memcpy").unwrap().hidden = true;
        assert_eq!(differences(&pristine, &hidden).differences.len(), 1, "a static link takes it all the same");
    }

    #[test]
    fn what_a_library_newly_uses_is_said_and_screened() {
        let pristine = interface(&[], &[]);
        let mut candidate = interface(&[], &[]);
        let names = ["getenv", "__secure_getenv", "clock_gettime", "time", "memmem", "dlsym", "syscall", "timersub_x"];
        candidate.symbols.undefined = names.map(str::to_owned).into();
        candidate.symbols.constructors.insert("log.c.o: .init_array".to_owned());
        let report = differences(&pristine, &candidate);
        assert!(report.differences.is_empty());
        assert_eq!(report.new_undefined, ["memmem", "timersub_x"]);
        assert_eq!(report.screened.len(), 7, "{:?}", report.screened);
        assert_eq!(differences(&candidate, &candidate), AbiReport::default());
    }

    #[test]
    fn a_field_that_moves_is_named() {
        let layout = |lines: &[&str]| {
            let lines = lines.iter().map(|line| (*line).to_owned()).collect();
            Interface { layouts: [("struct event".to_owned(), lines)].into(), ..Interface::default() }
        };
        let before = layout(&["8 bytes", "int fd at 0"]);
        let report = differences(&before, &layout(&["16 bytes", "int fd at 8", "long new at 0"]));
        let shown = report.differences[0].to_string();
        assert_eq!(shown, "struct event: had 8 bytes, int fd at 0; has 16 bytes, int fd at 8, long new at 0");
        assert_eq!(differences(&before, &Interface::default()).differences.len(), 1);
    }
}
