//! One test of a configuration: how it is run, judged and logged.

use super::build::GateBuild;
use super::child::{self, Bounds, Finished};
use super::launch;
use crate::context::Context;
use crate::exit::{Exit, failure};
use anyhow::{Context as _, Result};
use model::gate::Configuration;
use model::gate::reports::{cannot_run, reports};
use model::gate::tinytest::{self, Ended, Outcome};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Seek as _, Write as _};
use std::path::{Path, PathBuf};

/// A test, as it is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Test {
    /// `group/test`, or the name of a program's run.
    pub(crate) name: String,
    /// Program of the build.
    pub(crate) program: PathBuf,
    /// Its arguments.
    pub(crate) arguments: Vec<String>,
    /// How its end is read.
    pub(crate) judge: Judge,
}

/// How the end of a test is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Judge {
    /// By tinytest's whole report of exactly this test.
    Tinytest,
    /// By its exit status, and by a script that reads its standard output.
    Program(Option<PathBuf>),
}

/// One side of one configuration.
pub(crate) struct Lane<'a> {
    pub(crate) context: &'a Context,
    pub(crate) configuration: &'a Configuration,
    pub(crate) build: &'a GateBuild,
    pub(crate) environment: BTreeMap<String, String>,
    /// Where logs of tests go.
    pub(crate) logs: PathBuf,
}

/// What came of one run.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) outcome: Outcome,
    pub(crate) seconds: f64,
    /// Attempts that failed before it passed, where tinytest tries again.
    pub(crate) retries: u32,
    /// What sanitizers found.
    pub(crate) reports: BTreeSet<String>,
    /// The sanitizer did not work.
    pub(crate) cannot_run: Option<String>,
    /// Where it hung.
    pub(crate) hung_at: Option<String>,
}

impl Run {
    /// It failed, or its sanitizer did not work: nothing of it is a pass.
    pub(crate) fn has_failed(&self) -> bool {
        self.outcome.is_failure() || self.cannot_run.is_some()
    }

    /// It passed, but not at once.
    pub(crate) fn was_retried(&self) -> bool {
        !self.has_failed() && self.retries > 0
    }
}

impl Lane<'_> {
    /// Runs a test once; `None` if it was abandoned. `log` is the name of its log without an ending.
    pub(crate) fn run(&self, test: &Test, log: &str, bounds: Bounds<'_>) -> Result<Option<Run>> {
        let mut command = launch::command(self.context, self.build, &test.program, &self.environment)?;
        command.args(&test.arguments);
        let finished = child::run(&mut command, None, bounds)?;
        let Some(ended) = finished.ended else { return Ok(None) };
        let mut outcome = match &test.judge {
            Judge::Tinytest => tinytest::judge(&test.name, ended, &finished.stdout),
            Judge::Program(_) => by_status(ended),
        };
        if let (Judge::Program(Some(script)), Outcome::Passed) = (&test.judge, &outcome) {
            outcome = self.checked(script, &finished.stdout, bounds)?;
        }
        let run = Run {
            outcome,
            seconds: finished.seconds,
            retries: if test.judge == Judge::Tinytest { tinytest::retries(&finished.stdout) } else { 0 },
            reports: reports(&finished.stderr),
            cannot_run: cannot_run(&finished.stderr).map(str::to_owned),
            hung_at: finished.hung_at.clone(),
        };
        self.write_log(test, log, &finished, &run)?;
        Ok(Some(run))
    }

    /// What libevent's own script says of a program's output.
    fn checked(&self, script: &Path, stdout: &str, bounds: Bounds<'_>) -> Result<Outcome> {
        let mut input = tempfile::tempfile().context("cannot make a temporary file")?;
        input.write_all(stdout.as_bytes()).and_then(|()| input.rewind()).context("cannot write a temporary file")?;
        let mut command = launch::script(self.context, self.build, script)?;
        let got = child::run(&mut command, Some(input), bounds)?;
        Ok(match got.ended {
            Some(Ended::Exit(0)) => Outcome::Passed,
            Some(Ended::Exit(_)) => {
                Outcome::Failed(got.stderr.lines().last().unwrap_or("its output is wrong").to_owned())
            }
            _ => Outcome::Failed("the script that checks its output did not end".to_owned()),
        })
    }

    fn write_log(&self, test: &Test, log: &str, finished: &Finished, run: &Run) -> Result<()> {
        let path = self.logs.join(format!("{log}.log"));
        let arguments = test.arguments.join(" ");
        let hung = run.hung_at.as_ref().map_or(String::new(), |place| format!("--- where it hung\n{place}"));
        let text = format!(
            "{} {arguments}\n{:?}, {:.3} s\n--- standard output\n{}\n--- standard error\n{}\n{hung}",
            test.program.display(),
            run.outcome,
            run.seconds,
            finished.stdout,
            finished.stderr
        );
        let write = || {
            std::fs::create_dir_all(path.parent().unwrap_or(Path::new("/")))?;
            std::fs::write(&path, text)
        };
        write().map_err(|error| {
            let message = format!("cannot write the log {}: {error}; free space there, or give --out", path.display());
            failure(Exit::Infrastructure, message)
        })
    }
}

/// A program without a report: only its exit status is there to be believed.
fn by_status(ended: Ended) -> Outcome {
    match ended {
        Ended::Exit(0) => Outcome::Passed,
        Ended::Exit(status) => Outcome::Failed(format!("exit status {status}")),
        Ended::Signal(signal) => Outcome::Failed(format!("ended by signal {signal}")),
        Ended::Hung => Outcome::Hung,
    }
}

/// The name of a test's log.
pub(crate) fn log_name(test: &str) -> String {
    test.replace('/', "_")
}
