//! The tests in two lanes beside each other: most of them wait for budgets, for sleeps of libevent's own tests or for a single
//! process, so that one lane alone leaves a CPU idle. Within a lane they take turns at one state (tests/bench/support.rs).

use super::{cargo, finish};
use crate::context::Context;
use crate::progress;
use anyhow::{Context as _, Result, bail};
use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::time::Instant;

/// Arguments of every run of cargo. Always the whole workspace: with a part of it, cargo selects other features of
/// dependencies and compiles them again.
const COMMON: &[&str] = &["test", "--locked", "--no-fail-fast", "--workspace"];

/// Everything is compiled before: compilers of one lane would disturb what the other one measures.
const COMPILE: &[&str] = &["test", "--locked", "--workspace", "--no-run"];

/// What each lane runs, one after the other. That every test has its place is a test below.
const LANES: [&[&[&str]]; 2] = [
    &[&["--test", "bench", "--test", "doctor", "--test", "ledger", "--test", "setup"]],
    &[
        &["--test", "exp", "--test", "verify"],
        &["--bins", "--lib", "--examples"],
        &["--test", "buffer", "--test", "core", "--test", "net"],
        &["--test", "core_workloads", "--test", "net_workloads", "--test", "thread_workloads"],
        &["--test", "user_workloads", "--test", "worker", "--test", "error_rates"],
        &["--doc"],
    ],
];

/// Runs all of them. What the first lane prints is seen at once, the rest when both have ended, whole and in order.
pub(super) fn run(context: &Context, deadline: Instant) -> Result<()> {
    finish(&mut cargo(COMPILE, context), context, deadline)?;
    let [first, second] = LANES;
    let mut output = tempfile::tempfile().context("cannot make a temporary file for the output of tests")?;
    let kept = output.try_clone()?;
    progress::note("test: two lanes; the second one's output follows at the end");
    let results = std::thread::scope(|scope| {
        let second = scope.spawn(|| lane(second, context, deadline, Some(&kept)));
        let first = lane(first, context, deadline, None);
        let second = second.join().unwrap_or_else(|_| Err(anyhow::anyhow!("the second lane of tests panicked")));
        [first, second]
    });
    show(&mut output, context)?;
    let errors: Vec<String> = results.into_iter().filter_map(Result::err).map(|error| format!("{error:#}")).collect();
    if errors.is_empty() { Ok(()) } else { bail!("{}", errors.join("; ")) }
}

/// Runs all that a lane has, also after failures; its output goes to `output`, if there is one.
fn lane(runs: &[&[&str]], context: &Context, deadline: Instant, output: Option<&File>) -> Result<()> {
    let mut errors = Vec::new();
    for words in runs {
        let mut command = cargo(&[COMMON, words].concat(), context);
        if let Some(file) = output {
            command.stdout(file.try_clone()?).stderr(file.try_clone()?);
        }
        if let Err(error) = finish(&mut command, context, deadline) {
            errors.push(format!("{error:#}"));
        }
    }
    if errors.is_empty() { Ok(()) } else { bail!("{}", errors.join("; ")) }
}

fn show(output: &mut File, context: &Context) -> Result<()> {
    let mut bytes = Vec::new();
    output.rewind().and_then(|()| output.read_to_end(&mut bytes)).context("cannot read what tests have printed")?;
    let written = if context.json { std::io::stderr().write_all(&bytes) } else { std::io::stdout().write_all(&bytes) };
    written.context("cannot print what tests have printed")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn all() -> Vec<&'static str> {
        LANES.iter().flat_map(|lane| lane.iter()).flat_map(|words| words.iter().copied()).collect()
    }

    /// Names of a package's integration tests: as cargo finds them.
    fn integration_tests(package: &Path) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(package.join("tests")) else { return vec![] };
        let paths = entries.map(|entry| entry.unwrap().path());
        let are_tests =
            paths.filter(|path| path.extension().is_some_and(|it| it == "rs") || path.join("main.rs").exists());
        are_tests.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn every_integration_test_is_in_one_lane() {
        let words = all();
        let mut named: Vec<&str> = words.windows(2).filter(|pair| pair[0] == "--test").map(|pair| pair[1]).collect();
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let folders = std::fs::read_dir(workspace).unwrap().map(|entry| entry.unwrap().path());
        let packages = folders.filter(|path| path.join("Cargo.toml").exists());
        let mut there: Vec<String> = packages.flat_map(|package| integration_tests(&package)).collect();
        there.sort();
        named.sort_unstable();
        assert!(there.len() > 10, "the packages are there");
        assert_eq!(named, there);
    }

    #[test]
    fn unit_tests_and_those_of_the_documentation_are_in_one_lane() {
        for kind in ["--lib", "--bins", "--examples", "--doc"] {
            assert_eq!(all().iter().filter(|word| **word == kind).count(), 1, "{kind}");
        }
    }
}
