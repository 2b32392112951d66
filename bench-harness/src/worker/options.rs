//! The worker's command line. By hand: the worker is linked and started thousands of times, and its
//! start is part of what a launch costs.

use std::fmt;

/// What `--help` prints, and what follows a mistake.
pub(super) const USAGE: &str = "\
usage: worker [--cpu N] COMMAND
  list                                      what this worker can run, as one JSON line
  verify [--workload NAME]... [--batches N] do every workload's work (default: 2 batches), check it
  run --workload NAME                       timed batches; commands on standard input: batches N, quit
  profile --workload NAME --seconds S       untimed batches for a profiler, for S seconds (at most 600)
  profile --workload NAME --batches N       the same, for exactly N batches
    --busy N                                with N multiplications more in every batch, for calibrations
  client ARGUMENTS                          the peer process of http and similar workloads
  --version                                 variant id and version of libevent
  --help
--cpu N pins the process to one CPU.
exit code: 0 done, 1 usage, 2 a workload failed
example: echo 'batches 5' | worker --cpu 0 run --workload evbuffer.add_drain.64";

/// Batches that one command may ask for; bounds the memory that samples take.
pub(super) const MOST_BATCHES: u64 = 1_000_000;
/// Most multiplications that slow a batch down: some tens of milliseconds.
pub(super) const MOST_ITERATIONS: u64 = 50_000_000;
const MOST_SECONDS: u64 = 600;
const VERIFY_BATCHES: u64 = 2;

/// A command line, understood.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Options {
    /// Pin the process to this CPU.
    pub(super) cpu: Option<usize>,
    pub(super) command: Command,
}

/// What to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Command {
    Help,
    Version,
    List,
    /// No names means every workload.
    Verify {
        workloads: Vec<String>,
        batches: u64,
    },
    Run {
        workload: String,
    },
    Profile {
        workload: String,
        bound: Bound,
        /// Multiplications that make every batch slower; none but calibrations ask for any.
        busy: u64,
    },
}

/// When a profiled loop ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bound {
    Seconds(u64),
    Batches(u64),
}

/// Why a command line was refused.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct UsageError(String);

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Understands the arguments after the program's name.
pub(super) fn parse(arguments: &[String]) -> Result<Options, UsageError> {
    let mut rest = arguments.iter().map(String::as_str);
    let mut given = Given::default();
    let mut command = None;
    while let Some(argument) = rest.next() {
        match argument {
            "--help" | "-h" => return Ok(Options { cpu: None, command: Command::Help }),
            "--version" => return Ok(Options { cpu: None, command: Command::Version }),
            "--cpu" => once(&mut given.cpu, argument, number(argument, rest.next(), 0, 1 << 20)?)?,
            "--workload" => given.workloads.push(value(argument, rest.next())?.to_owned()),
            "--batches" => once(&mut given.batches, argument, number(argument, rest.next(), 1, MOST_BATCHES)?)?,
            "--seconds" => once(&mut given.seconds, argument, number(argument, rest.next(), 1, MOST_SECONDS)?)?,
            "--busy" => once(&mut given.busy, argument, number(argument, rest.next(), 1, MOST_ITERATIONS)?)?,
            _ if argument.starts_with('-') => return Err(UsageError(format!("unknown option `{argument}`"))),
            _ if command.is_none() => command = Some(argument),
            _ => return Err(UsageError(format!("unexpected argument `{argument}`"))),
        }
    }
    let cpu = given.cpu.map(|cpu| usize::try_from(cpu).expect("bounded above"));
    let command = given.command(command.ok_or_else(|| UsageError("no command given".to_owned()))?)?;
    Ok(Options { cpu, command })
}

/// Options as they stood on the command line, before they are matched with the command.
#[derive(Default)]
struct Given {
    cpu: Option<u64>,
    workloads: Vec<String>,
    batches: Option<u64>,
    seconds: Option<u64>,
    busy: Option<u64>,
}

impl Given {
    fn command(self, name: &str) -> Result<Command, UsageError> {
        let refuse = |what: &str| Err(UsageError(format!("`{name}` {what}")));
        if self.seconds.is_some() && name != "profile" {
            return refuse("does not take --seconds");
        }
        if self.busy.is_some() && name != "profile" {
            return refuse("does not take --busy");
        }
        if self.batches.is_some() && !matches!(name, "profile" | "verify") {
            return refuse("does not take --batches");
        }
        match name {
            "list" if !self.workloads.is_empty() => refuse("does not take --workload"),
            "list" => Ok(Command::List),
            "verify" => {
                Ok(Command::Verify { workloads: self.workloads, batches: self.batches.unwrap_or(VERIFY_BATCHES) })
            }
            "run" => Ok(Command::Run { workload: single(name, self.workloads)? }),
            "profile" => {
                let bound = match (self.seconds, self.batches) {
                    (Some(seconds), None) => Bound::Seconds(seconds),
                    (None, Some(batches)) => Bound::Batches(batches),
                    _ => return refuse("needs either --seconds S or --batches N"),
                };
                Ok(Command::Profile { workload: single(name, self.workloads)?, bound, busy: self.busy.unwrap_or(0) })
            }
            _ => Err(UsageError(format!("unknown command `{name}`"))),
        }
    }
}

fn single(command: &str, workloads: Vec<String>) -> Result<String, UsageError> {
    <[String; 1]>::try_from(workloads)
        .map(|[workload]| workload)
        .map_err(|_| UsageError(format!("`{command}` needs exactly one --workload NAME")))
}

fn once(slot: &mut Option<u64>, option: &str, value: u64) -> Result<(), UsageError> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(UsageError(format!("`{option}` is given twice"))),
    }
}

fn value<'a>(option: &str, value: Option<&'a str>) -> Result<&'a str, UsageError> {
    value.ok_or_else(|| UsageError(format!("`{option}` needs a value")))
}

fn number(option: &str, text: Option<&str>, least: u64, most: u64) -> Result<u64, UsageError> {
    let text = value(option, text)?;
    text.parse()
        .ok()
        .filter(|number| (least..=most).contains(number))
        .ok_or_else(|| UsageError(format!("`{option} {text}`: must be a number from {least} to {most}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str) -> Result<Options, UsageError> {
        parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    fn command(line: &str) -> Command {
        of(line).unwrap().command
    }

    #[test]
    fn understands_every_command() {
        assert_eq!(of("--cpu 3 list").unwrap(), Options { cpu: Some(3), command: Command::List });
        let all = Command::Verify { workloads: vec![], batches: VERIFY_BATCHES };
        assert_eq!(command("verify"), all);
        let two = Command::Verify { workloads: vec!["a".into(), "b".into()], batches: 7 };
        assert_eq!(command("verify --workload a --batches 7 --workload b"), two);
        assert_eq!(command("run --workload a"), Command::Run { workload: "a".into() });
        let seconds = Command::Profile { workload: "a".into(), bound: Bound::Seconds(5), busy: 0 };
        assert_eq!(command("profile --workload a --seconds 5"), seconds);
        let batches = |busy| Command::Profile { workload: "a".into(), bound: Bound::Batches(5), busy };
        assert_eq!(command("profile --batches 5 --workload a"), batches(0));
        assert_eq!(command("profile --batches 5 --workload a --busy 700"), batches(700));
        assert_eq!(command("--version"), Command::Version);
    }

    #[test]
    fn a_mistake_is_named() {
        for (line, named) in [
            ("", "no command"),
            ("dance", "dance"),
            ("run", "exactly one --workload"),
            ("run --workload a --workload b", "exactly one --workload"),
            ("run --workload", "needs a value"),
            ("run --workload a --batches 3", "--batches"),
            ("list --seconds 3", "--seconds"),
            ("verify --busy 3", "--busy"),
            ("list extra", "extra"),
            ("profile --workload a", "--seconds S or --batches N"),
            ("profile --workload a --seconds 1 --batches 1", "--seconds S or --batches N"),
            ("profile --workload a --seconds 601", "1 to 600"),
            ("verify --batches 0", "from 1"),
            ("verify --batches 1 --batches 1", "twice"),
            ("--cpu -1 list", "--cpu -1"),
            ("--frequency 3", "--frequency"),
        ] {
            let error = of(line).expect_err(line).to_string();
            assert!(error.contains(named), "`{line}`: `{error}` does not name `{named}`");
        }
    }
}
