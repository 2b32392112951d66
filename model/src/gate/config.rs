//! `config/gate.toml` as a type: configurations, programs, limits, and which tests a file reaches.

use super::Configuration;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The whole of `config/gate.toml`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GateConfig {
    /// Backends that libevent may have anywhere, as its variables (`EVENT_NOEPOLL`) call them in lower case.
    pub backends: Vec<String>,
    /// Bounds of everything.
    pub limits: Limits,
    /// In the order of the report.
    #[serde(rename = "configuration")]
    pub configurations: Vec<Configuration>,
    /// Runs of libevent's other test programs; those that a source does not have are left out.
    #[serde(rename = "program")]
    pub programs: Vec<Program>,
    /// Which tests the light gate runs.
    pub reach: Reach,
}

/// Bounds of everything.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Processes at a time for each CPU; tests mostly sleep.
    pub jobs_per_cpu: usize,
    /// A candidate's test may take so many times as long as pristine's longest run.
    pub factor: f64,
    /// And at least so long.
    pub floor_seconds: f64,
    /// Longest time of a test on pristine, of which nothing is known yet.
    pub pristine_seconds: f64,
    /// Runs of every test on pristine, many at a time.
    pub pristine_runs: u32,
    /// After so many hung tests a configuration is given up: the rest has not run, and the gate fails.
    pub hung_tests: usize,
    /// After so many tests that are worse, the other failures of a configuration are not repeated.
    pub worse_tests: usize,
    /// If pristine always fails in more than this share of a configuration's tests, nothing is known
    /// of a candidate there: it has not run.
    pub unjudged_share: f64,
    /// Most bytes kept of each stream of a test; the middle of a longer one is left out.
    pub output_bytes: usize,
}

/// One run of a test program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Program {
    /// Name of the test.
    pub name: String,
    /// Program, where it is not the name.
    pub program: Option<String>,
    /// Its arguments.
    #[serde(default)]
    pub arguments: Vec<String>,
    /// Standard output is checked by this script of the source, run by python3.
    pub checked_by: Option<String>,
    /// Only in configurations without sanitizers: what it measures is time.
    #[serde(default)]
    pub timing: bool,
}

/// Which tests the light gate runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reach {
    /// Always.
    pub core: Vec<String>,
    /// By file: `buffer.c` or `bufferevent*`, each with beginnings of names of tests, `*` for all. A file that no
    /// line names reaches every test.
    pub files: BTreeMap<String, Vec<String>>,
}

impl GateConfig {
    /// Reads `config/gate.toml`; an unknown or missing field is an error.
    pub fn parse(text: &str) -> Result<Self, toml::de::Error> {
        toml::from_str(text)
    }

    /// The whole environment of a configuration's processes, as far as libevent looks at it.
    pub fn environment(&self, configuration: &Configuration) -> BTreeMap<String, String> {
        let others = self.backends.iter().filter(|name| **name != configuration.backend);
        let disabled = others.map(|name| (format!("EVENT_NO{}", name.to_uppercase()), "1".to_owned()));
        disabled.chain(configuration.environment.clone()).collect()
    }
}

impl Reach {
    /// Whether the light gate of a patch to `files` runs a test. No files: every test.
    pub fn reaches(&self, files: &[String], test: &str) -> bool {
        let begins = |start: &String| start == "*" || test.starts_with(start.as_str());
        let by_file = |file: &String| match self.of(file) {
            Some(starts) => starts.iter().any(begins),
            None => true,
        };
        files.is_empty() || self.core.iter().any(begins) || files.iter().any(by_file)
    }

    /// The longest pattern that fits a file.
    fn of(&self, file: &str) -> Option<&Vec<String>> {
        let of_it = self.files.iter().filter(|(pattern, _)| fits(pattern, file));
        of_it.max_by_key(|(pattern, _)| pattern.len()).map(|(_, starts)| starts)
    }
}

/// Whether a pattern of the file, a name or its beginning and `*`, is for a file of libevent. Beginnings are of C files
/// alone: a header reaches every file that includes it.
pub(super) fn fits(pattern: &str, file: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => file.starts_with(start) && file.ends_with(".c"),
        None => file == pattern,
    }
}

#[cfg(test)]
mod tests {
    use super::super::Tier;
    use super::*;

    fn shipped() -> GateConfig {
        GateConfig::parse(include_str!("../../../config/gate.toml")).unwrap()
    }

    #[test]
    fn the_shipped_file_disables_every_backend_but_one() {
        let config = shipped();
        let changelist = config.configurations.iter().find(|c| c.name == "epoll-changelist").unwrap();
        let environment = config.environment(changelist);
        assert!(!environment.contains_key("EVENT_NOEPOLL"));
        assert!(environment.contains_key("EVENT_NOSELECT") && environment.contains_key("EVENT_NOPOLL"));
        assert!(environment.contains_key("EVENT_EPOLL_USE_CHANGELIST"));
        for configuration in &config.configurations {
            assert!(config.backends.contains(&configuration.backend), "{}", configuration.name);
            assert!(configuration.proof.method.starts_with(&configuration.backend), "{}", configuration.name);
        }
        let mut names: Vec<&String> = config.configurations.iter().map(|c| &c.name).collect();
        names.dedup();
        assert_eq!(names.len(), config.configurations.len());
    }

    #[test]
    fn code_that_runs_on_one_backend_alone_has_that_backend_in_its_light_gate() {
        let config = shipped();
        let of = |tier: Tier, files: &[&str]| -> Vec<String> {
            let files: Vec<String> = files.iter().map(|file| (*file).to_owned()).collect();
            let part = config.configurations.iter().filter(|c| c.is_part_of(tier, &files));
            part.map(|c| c.name.clone()).collect()
        };
        assert_eq!(of(Tier::Light, &["buffer.c"]), ["epoll"]);
        assert_eq!(of(Tier::Light, &["buffer.c", "select.c"]), ["epoll", "select"]);
        assert_eq!(of(Tier::Light, &["poll.c"]), ["epoll", "poll"]);
        assert_eq!(of(Tier::Light, &["evmap.c"]), ["epoll", "epoll-changelist"]);
        assert_eq!(of(Tier::Light, &[]), ["epoll"], "nothing was touched");
        assert_eq!(of(Tier::Full, &["buffer.c"]).len(), config.configurations.len());
    }

    #[test]
    fn a_file_reaches_its_tests_and_an_unknown_one_reaches_all() {
        let reach = shipped().reach;
        let of = |file: &str, test: &str| reach.reaches(&[file.to_owned()], test);
        assert!(of("buffer.c", "evbuffer/add1") && !of("buffer.c", "dns/search"));
        assert!(of("evdns.c", "dns/search") && of("evdns.c", "main/simpleread"), "core is always there");
        for file in
            ["new.c", "include/event2/event.h", "evthread-internal.h", "bufferevent-internal.h", "minheap-internal.h"]
        {
            assert!(of(file, "dns/search") && of(file, "test-fdleak"), "{file}");
        }
        assert!(!of("evthread_pthread.c", "dns/search") && !of("bufferevent_sock.c", "dns/search"));
        assert!(reach.reaches(&[], "dns/search"), "nothing was touched: everything is asked");
    }
}
