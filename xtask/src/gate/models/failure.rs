//! A case that fails: confirmed, made as small as it goes, kept as a file that can be replayed.

use super::run::{self, CaseFile, Range};
use super::{Pair, pristines};
use anyhow::{Context as _, Result};
use model::cases::{Judgement, first_difference, judge, kind_of, shrink};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How often a failure must come again, of [`CONFIRMATIONS`] runs, to count.
const NEEDED: u32 = 2;
const CONFIRMATIONS: u32 = 3;
/// Questions while a case is made smaller.
const MOST_TRIES: u64 = 400;
/// Time for them.
const SHRINK_LIMIT: Duration = Duration::from_secs(20);

/// A failure that came again.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    /// `family/number`.
    pub(crate) name: String,
    /// What is wrong.
    pub(crate) why: String,
    /// The small case.
    pub(crate) file: PathBuf,
    /// Operations that are left, of how many.
    pub(crate) ops: (usize, usize),
    /// Where the traces of both sides part.
    pub(crate) difference: Option<String>,
}

impl Kept {
    /// For readers of a record.
    pub(crate) fn shown(&self) -> String {
        let (left, all) = self.ops;
        let difference = self.difference.as_ref().map_or_else(String::new, |text| format!("; {text}"));
        format!("{}: {} ({left} of {all} operations: {}){difference}", self.name, self.why, self.file.display())
    }
}

/// Runs a case that hung once more; if it hangs again, keeps it as it was drawn: every question takes its whole limit.
pub(super) fn keep_if_it_hangs(
    pair: &Pair<'_>,
    range: &Range,
    case: u64,
    why: &str,
    logs: &Path,
) -> Result<Option<Kept>> {
    let drawn = pristines(run::show(pair.context, &pair.pristine, &range.family, range.seed, case))?;
    let (file, ops) = (file_of(range, case, logs)?, operations(&drawn)?);
    write(&file, &drawn, &ops)?;
    if !run::trace(pair.context, &pair.candidate, &file)?.1.hangs() {
        return Ok(None);
    }
    let (name, why) = (format!("{}/{case}", range.family), why.to_owned());
    Ok(Some(Kept { name, why, file, ops: (ops.len(), ops.len()), difference: None }))
}

fn file_of(range: &Range, case: u64, logs: &Path) -> Result<PathBuf> {
    std::fs::create_dir_all(logs).with_context(|| format!("cannot create {}", logs.display()))?;
    Ok(logs.join(format!("{}-{}-{case}.json", range.family, range.seed)))
}

/// Runs a failed case again on both sides; if it fails again, makes it small and keeps it.
pub(super) fn confirm(pair: &Pair<'_>, range: &Range, case: u64, why: &str, logs: &Path) -> Result<Option<Kept>> {
    let drawn = pristines(run::show(pair.context, &pair.pristine, &range.family, range.seed, case))?;
    let file = file_of(range, case, logs)?;
    let ops = operations(&drawn)?;
    let scratch = pair.context.scratch("case-")?;
    let attempt = scratch.path().join("case.json");
    let fails = |ops: &[Value]| -> Result<Option<String>> {
        write(&attempt, &drawn, ops)?;
        Ok(both(pair, &attempt)?.0)
    };
    let (mut runs, mut failures) = (0, 0);
    // A case that hangs takes long: no run more than it needs.
    while runs < CONFIRMATIONS && failures < NEEDED {
        runs += 1;
        failures += u32::from(fails(&ops)?.is_some());
    }
    if failures < NEEDED {
        return Ok(None);
    }
    let deadline = Instant::now() + SHRINK_LIMIT;
    let kind = kind_of(why);
    let all = ops.len();
    let small = shrink(ops, MOST_TRIES, |ops| -> Result<bool> {
        crate::interrupt::check()?;
        // Another failure is another case.
        Ok(Instant::now() < deadline && fails(ops)?.is_some_and(|why| kind_of(&why) == kind))
    })?;
    write(&file, &drawn, &small)?;
    let (now, difference) = both(pair, &file)?;
    let name = format!("{}/{case}", range.family);
    let why = now.unwrap_or_else(|| why.to_owned());
    Ok(Some(Kept { name, why, file, ops: (small.len(), all), difference }))
}

/// Runs a case file on both sides: what fails, if anything does, and where the traces part.
pub(crate) fn replay(pair: &Pair<'_>, file: &Path) -> Result<(Option<String>, Option<String>)> {
    both(pair, file)
}

fn both(pair: &Pair<'_>, file: &Path) -> Result<(Option<String>, Option<String>)> {
    let (pristine_lines, pristine) = pristines(run::trace(pair.context, &pair.pristine, file))?;
    let (candidate_lines, candidate) = run::trace(pair.context, &pair.candidate, file)?;
    let why = match judge(&pristine, &candidate) {
        Judgement::Fails(why) => Some(why),
        _ => None,
    };
    let difference = first_difference(&pristine_lines, &candidate_lines).map(|(line, pristine, candidate)| {
        let shown = |text: Option<&str>| text.unwrap_or("nothing").chars().take(200).collect::<String>();
        format!("line {}: pristine `{}`, candidate `{}`", line + 1, shown(pristine), shown(candidate))
    });
    Ok((why, difference))
}

fn operations(case: &CaseFile) -> Result<Vec<Value>> {
    Ok(case.get("ops").and_then(Value::as_array).context("a case has operations")?.clone())
}

fn write(path: &Path, case: &CaseFile, ops: &[Value]) -> Result<()> {
    let mut case = case.clone();
    case.insert("ops".to_owned(), Value::Array(ops.to_vec()));
    std::fs::write(path, serde_json::to_vec_pretty(&case)?).with_context(|| format!("cannot write {}", path.display()))
}
