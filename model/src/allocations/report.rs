//! The counter's text.

use std::collections::BTreeMap;

/// What one process counted.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Report {
    /// Timed parts that were counted.
    pub batches: u64,
    /// Programs and libraries, by the order in which the loader has them.
    pub objects: Vec<String>,
    /// By return addresses from the innermost outwards, each as object and place in it (as in the file, not in memory), and
    /// by the function that was called. `None` as an object: code outside of any.
    pub sites: BTreeMap<(Vec<(Option<usize>, u64)>, String), Site>,
    /// Calls without a place in the table, of all kinds.
    pub lost: Site,
}

/// Counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Site {
    /// Calls.
    pub calls: u64,
    /// Bytes asked for; 0 of `free`.
    pub bytes: u64,
}

/// Why a report is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReportError {
    /// The counter was not there, or printed nothing.
    #[error("the counter printed nothing")]
    Empty,
    /// A line that it does not print.
    #[error("line {line} of the counter's report is none of its: `{text}`")]
    Syntax {
        /// From 1.
        line: usize,
        /// The line.
        text: String,
    },
    /// No end.
    #[error("the counter's report is cut short")]
    Cut,
}

/// Reads a report.
///
/// # Errors
/// What [`ReportError`] lists.
pub fn parse(_text: &str) -> Result<Report, ReportError> {
    Err(ReportError::Empty)
}
