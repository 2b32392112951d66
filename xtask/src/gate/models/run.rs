//! Running the program: whole ranges of cases, and single cases from files.

use super::link::Linked;
use crate::context::Context;
use crate::exit::{Exit, failure};
use crate::gate::{identity, launch};
use crate::process;
use anyhow::{Context as _, Result};
use model::cases::CaseResult;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// Longest time for a range: this, and as much again for each case as hardly one takes. Single cases have their own limits.
const RANGE_LIMIT: Duration = Duration::from_secs(120);
const CASE_SHARE: Duration = Duration::from_millis(250);
/// To start and to print a list, with a sanitizer on a busy machine.
const LIST_LIMIT: Duration = Duration::from_secs(30);
/// One case, with the sanitizers' start.
const CASE_LIMIT: Duration = Duration::from_secs(120);
/// The form of output that is understood.
const PROGRAM: &str = "model-tests/1";

/// The first line of every output.
#[derive(Debug, Deserialize)]
struct Head {
    program: String,
}

/// A family, as `list` names it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Family {
    pub(crate) family: String,
    /// Cases with the first numbers that enumerate something.
    pub(crate) systematic: u64,
}

#[derive(Debug, Deserialize)]
struct End {
    cases_run: u64,
}

/// Cases that follow each other in one family.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Range {
    pub(crate) family: String,
    pub(crate) seed: u64,
    pub(crate) first: u64,
    pub(crate) count: u64,
    pub(crate) jobs: u64,
}

/// A case file, of which only the list of operations changes.
pub(crate) type CaseFile = serde_json::Map<String, serde_json::Value>;

/// The families of the program.
pub(crate) fn families(context: &Context, linked: &Linked<'_>) -> Result<Vec<Family>> {
    let output = launch(context, linked, &["list"], LIST_LIMIT)?;
    let lines = after_head(&output)?;
    lines.map(|line| serde_json::from_str(line).map_err(|_| wrong(&format!("not a family: {line}")))).collect()
}

/// What every case of a range came to: all of them, or those until `hung` of them hung; anything else is an error.
pub(crate) fn range(
    context: &Context,
    linked: &Linked<'_>,
    range: &Range,
    hung: Option<u64>,
) -> Result<Vec<CaseResult>> {
    let numbers = [range.seed, range.first, range.count, range.jobs, hung.unwrap_or(u64::MAX)];
    let numbers = numbers.map(|number| number.to_string());
    let [seed, first, count, jobs, most] = numbers.each_ref().map(String::as_str);
    let range_options = ["--family", &range.family, "--seed", seed, "--from", first, "--cases", count];
    let options = range_options.into_iter().chain(["--jobs", jobs, "--hung", most]);
    let arguments: Vec<&str> = std::iter::once("run").chain(options).collect();
    let limit = RANGE_LIMIT + CASE_SHARE * u32::try_from(range.count).unwrap_or(u32::MAX);
    let output = launch(context, linked, &arguments, limit)?;
    let lines: Vec<&str> = after_head(&output)?.collect();
    let (last, lines) = lines.split_last().ok_or_else(|| wrong("nothing"))?;
    let end: End = serde_json::from_str(last).map_err(|_| wrong(&format!("at its end: {last}")))?;
    let results = lines
        .iter()
        .map(|line| serde_json::from_str(line).map_err(|_| wrong(&format!("not a result: {line}"))))
        .collect::<Result<Vec<CaseResult>>>()?;
    let numbered = end.cases_run <= range.count
        && results.iter().map(|result| result.case).eq(range.first..range.first + end.cases_run);
    let hanging = results.iter().filter(|result| result.hangs()).count() as u64;
    let whole = end.cases_run == range.count || hung.is_some_and(|hung| hanging >= hung);
    if !numbered || !whole || results.iter().any(|result| result.family != range.family) {
        let (got, asked) = (results.len(), range.count);
        return Err(wrong(&format!(
            "{got} results of {asked} cases of family {}, or others than asked for",
            range.family
        )));
    }
    Ok(results)
}

/// Asks the program which build it is of, before `main`: a wrong answer is tampering.
pub(crate) fn check_identity(context: &Context, linked: &Linked<'_>) -> Result<()> {
    let environment = [(identity::VARIABLE.to_owned(), "1".to_owned())].into();
    let told = launch_in(context, linked, &[], &environment, CASE_LIMIT)?;
    identity::verify_told(&linked.program, &told, linked.build)
}

/// The operations of a case that is drawn.
pub(crate) fn show(context: &Context, linked: &Linked<'_>, family: &str, seed: u64, case: u64) -> Result<CaseFile> {
    let numbers = [seed, case].map(|number| number.to_string());
    let arguments = ["show", "--family", family, "--seed", &numbers[0], "--case", &numbers[1]];
    let output = launch(context, linked, &arguments, CASE_LIMIT)?;
    serde_json::from_str(output.trim()).map_err(|_| wrong(&format!("not a case: {output}")))
}

/// Runs a case file: its observations, and what it came to.
pub(crate) fn trace(context: &Context, linked: &Linked<'_>, file: &Path) -> Result<(Vec<String>, CaseResult)> {
    // The case itself: the program is confined and sees no folder of records.
    let case = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let output = launch(context, linked, &["trace", "--case", case.trim()], CASE_LIMIT)?;
    let mut lines: Vec<String> = after_head(&output)?.map(str::to_owned).collect();
    let last = lines.pop().ok_or_else(|| wrong("nothing"))?;
    let result = serde_json::from_str(&last).map_err(|_| wrong(&format!("not a result: {last}")))?;
    Ok((lines, result))
}

/// The program printed what it should not have: its fault, or rather that of the library in it.
fn wrong(printed: &str) -> anyhow::Error {
    failure(Exit::Failed, format!("the model tests printed {}", process::excerpt(printed)))
}

/// The one place where the program, which holds a candidate's code, is started. What the program does wrong is
/// [`Exit::Failed`], whichever library is in it; what keeps it from being started is the host's.
fn launch(context: &Context, linked: &Linked<'_>, arguments: &[&str], limit: Duration) -> Result<String> {
    launch_in(context, linked, arguments, &BTreeMap::new(), limit)
}

fn launch_in(
    context: &Context,
    linked: &Linked<'_>,
    arguments: &[&str],
    environment: &BTreeMap<String, String>,
    limit: Duration,
) -> Result<String> {
    let mut command = launch::command(context, linked.build, &linked.program, environment)?;
    command.args(arguments);
    let got = process::within_bounds("the model tests", process::capture(&mut command, limit))?;
    if !got.status.success() {
        let last = got.stderr.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
        let (id, last) = (&linked.build.variant.id, process::excerpt(last));
        let message = format!("the model tests of variant {id} ended with {}: {last}", got.status);
        return Err(failure(Exit::Failed, message));
    }
    Ok(got.stdout)
}

fn after_head(output: &str) -> Result<impl Iterator<Item = &str>> {
    let mut lines = output.lines().filter(|line| !line.is_empty());
    let first = lines.next().ok_or_else(|| wrong("nothing"))?;
    let head: Head = serde_json::from_str(first).map_err(|_| wrong(&format!("at its beginning: {first}")))?;
    if head.program != PROGRAM {
        return Err(wrong(&format!("that it is {}, not {PROGRAM}", head.program)));
    }
    Ok(lines)
}
