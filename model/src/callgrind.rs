//! What callgrind writes down, understood: instructions of each function and of each line of source. Numbers of calls are
//! not read: callgrind counts calls also while it does not collect.
//!
//! The format is described in valgrind's manual, "Callgrind Format Specification": cost lines below `fn=`, calls with the
//! cost of what was called, names that are written once and then numbered, positions relative to the last one.

mod attribution;
mod cycles;
mod parse;
#[cfg(test)]
mod tests;

pub use attribution::{Attribution, Excerpt, ExcerptLine, FunctionShare, LineShare, excerpts, shares};
pub use parse::parse;

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One output file of callgrind with one event, `Ir`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// Instructions, as the file's own total has it; the functions' self costs add up to it.
    pub total: u64,
    /// Functions with any cost, the one with the largest self cost first; ties by name and file.
    pub functions: Vec<Function>,
    /// Lines with any self cost, in the same order.
    pub lines: Vec<Line>,
}

/// A function.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Function {
    /// Its symbol. callgrind calls code without one by its address or `???`.
    pub name: String,
    /// File of its first instruction, as the debug information has it: its own, or one that code was inlined from. `None`
    /// without such.
    pub file: Option<String>,
    /// Program or library, as a path.
    pub object: Option<String>,
    /// Instructions in the function itself, inlined code included.
    pub self_instructions: u64,
    /// With what it calls. Of a function that calls itself, each instruction counts once. Of several functions that
    /// call each other (`cycle`), it is the cost of all of them together, since parts of it belong to none alone.
    pub inclusive_instructions: u64,
    /// Number of the cycle of functions that it belongs to; `None` outside of any. Calling itself is no cycle.
    pub cycle: Option<u32>,
}

/// A line of source.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Line {
    /// Its file: another one than its function's where code was inlined.
    pub file: String,
    /// Its number, from 1.
    pub line: u32,
    /// The function that it is compiled into.
    pub function: String,
    /// Instructions of the line itself, without calls.
    pub self_instructions: u64,
}

/// Why a file is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallgrindError {
    /// No header, or one of something else.
    #[error("this is no output of callgrind: {0}")]
    Foreign(&'static str),
    /// A line that the format does not have.
    #[error("line {line}: {why}: `{text}`")]
    Syntax {
        /// Which, from 1.
        line: usize,
        /// What is wrong.
        why: &'static str,
        /// The line, or its beginning.
        text: String,
    },
    /// No total at its end.
    #[error("the file ends after line {0} without a total: callgrind was killed, or the disk was full")]
    Cut(usize),
    /// The costs do not add up.
    #[error("the file's total is {total}, its lines add up to {sum}: a part of it is missing")]
    Sum {
        /// As the file has it.
        total: u64,
        /// Of all cost lines.
        sum: u64,
    },
    /// Two runs of the same work.
    #[error("two runs of the same work differ: {0}; no attribution")]
    Differ(String),
    /// A longer run that has less of something.
    #[error("the longer run has less of `{0}` than the shorter one: it did other work; no attribution")]
    Shrunk(String),
}

impl Profile {
    /// The order of functions and lines that equality depends on.
    fn sort(&mut self) {
        self.functions.sort_by(|a, b| b.self_instructions.cmp(&a.self_instructions).then_with(|| a.cmp(b)));
        self.lines.sort_by(|a, b| b.self_instructions.cmp(&a.self_instructions).then_with(|| a.cmp(b)));
    }
}

/// Fails unless both are equal to the instruction, in their totals and in every function and line; names the first
/// difference.
pub fn agreed(first: &Profile, second: &Profile) -> Result<(), CallgrindError> {
    if first == second {
        return Ok(());
    }
    let (a, b) = (Amounts::of(first), Amounts::of(second));
    let names = a.0.keys().chain(b.0.keys());
    let different =
        names.filter(|name| a.get(name) != b.get(name)).max_by_key(|name| a.get(name).abs_diff(b.get(name)));
    let mut why = format!("{} and {} instructions in all", first.total, second.total);
    if let Some(name) = different {
        why.push_str(&format!(", most in {}: {} and {}", shown(name), a.get(name), b.get(name)));
    }
    Err(CallgrindError::Differ(why))
}

/// What the longer run did beyond the shorter one: warm batches alone. Functions and lines without any cost there are
/// left out.
///
/// # Errors
/// Where the longer run has less of anything: it did not do the same work first.
pub fn further(short: &Profile, long: &Profile) -> Result<Profile, CallgrindError> {
    let less = |what: String| CallgrindError::Shrunk(what);
    let mut before: BTreeMap<_, &Function> = short.functions.iter().map(|f| (identity(f), f)).collect();
    let mut functions = Vec::new();
    for function in &long.functions {
        let mut rest = function.clone();
        if let Some(earlier) = before.remove(&identity(function)) {
            let minus = |a: u64, b: u64| a.checked_sub(b).ok_or_else(|| less(function.name.clone()));
            rest.self_instructions = minus(rest.self_instructions, earlier.self_instructions)?;
            rest.inclusive_instructions = minus(rest.inclusive_instructions, earlier.inclusive_instructions)?;
        }
        functions.push(rest);
    }
    if let Some(gone) = before.values().next() {
        return Err(less(gone.name.clone()));
    }
    let (earlier, mut lines) = (Amounts::of(short), Vec::new());
    for line in &long.lines {
        let before = earlier.get(&line_name(line));
        let rest = line.self_instructions.checked_sub(before);
        let self_instructions = rest.ok_or_else(|| less(format!("{}:{}", line.file, line.line)))?;
        lines.push(Line { self_instructions, ..line.clone() });
    }
    functions.retain(|function| function.inclusive_instructions > 0);
    lines.retain(|line| line.self_instructions > 0);
    let total = long.total.checked_sub(short.total).filter(|total| *total > 0);
    let mut profile = Profile { total: total.ok_or_else(|| less("all".to_owned()))?, functions, lines };
    profile.sort();
    Ok(profile)
}

fn identity(function: &Function) -> (&str, Option<&str>, Option<&str>) {
    (&function.name, function.file.as_deref(), function.object.as_deref())
}

/// File and line, function; a line of 0 is the function itself.
type Name = (String, u32, String);

/// Self costs by name, of functions and of lines.
struct Amounts(BTreeMap<Name, u64>);

impl Amounts {
    fn of(profile: &Profile) -> Amounts {
        let mut amounts = BTreeMap::new();
        for function in &profile.functions {
            let name = (function.file.clone().unwrap_or_default(), 0, function.name.clone());
            *amounts.entry(name).or_default() += function.self_instructions;
        }
        for line in &profile.lines {
            *amounts.entry(line_name(line)).or_default() += line.self_instructions;
        }
        Amounts(amounts)
    }

    fn get(&self, name: &Name) -> u64 {
        self.0.get(name).copied().unwrap_or(0)
    }
}

fn line_name(line: &Line) -> Name {
    (line.file.clone(), line.line, line.function.clone())
}

fn shown((file, line, function): &Name) -> String {
    if *line == 0 { format!("`{function}`") } else { format!("{file}:{line} (`{function}`)") }
}
