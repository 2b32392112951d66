//! Reading a ledger, and finding whatever was done to it: pure.

use super::{Entry, GENESIS, Ledger, Line, sha256};
use std::collections::{HashMap, HashSet};

/// What is wrong, and on which line (from 1).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Not an entry.
    #[error(
        "line {line} is no entry of a ledger ({why}): it was edited, or written by a later version of this workspace"
    )]
    NotAnEntry {
        /// The line.
        line: usize,
        /// What the parser says.
        why: String,
    },
    /// Twice the same.
    #[error("line {line} repeats line {of}")]
    Repeated {
        /// The second.
        line: usize,
        /// The first.
        of: usize,
    },
    /// What it follows stands behind it.
    #[error("line {line} stands before line {follows}, which it follows: lines were moved")]
    Moved {
        /// The line.
        line: usize,
        /// The one that should be before it.
        follows: usize,
    },
    /// What it follows has another hash now.
    #[error(
        "line {line} was edited: the next one follows a line {sequence} of other content (sha256 {expected:.12}...)"
    )]
    Edited {
        /// The line.
        line: usize,
        /// Its sequence number.
        sequence: u64,
        /// The hash that it had.
        expected: String,
    },
    /// What it follows is not there.
    #[error("before line {line}, {} removed: it follows a line {sequence} (sha256 {expected:.12}...) that is not there",
        if *.gone == 1 { "a line was".to_owned() } else { format!("{} lines were", .gone) })]
    Removed {
        /// The line behind the gap.
        line: usize,
        /// How many are missing, by the sequence numbers.
        gone: u64,
        /// Sequence number of the last missing one.
        sequence: u64,
        /// Its hash.
        expected: String,
    },
    /// A field of an entry does not fit what it follows.
    #[error("line {line} does not fit what it follows: {why}")]
    Unfitting {
        /// The line.
        line: usize,
        /// What.
        why: String,
    },
    /// Lines are in an order that no writer leaves.
    #[error("line {line} is out of order: line {instead} belongs there; lines of merged branches were moved")]
    Order {
        /// The place.
        line: usize,
        /// The line that belongs there.
        instead: usize,
    },
    /// Two ends.
    #[error("line {line} and line {other} both end a branch: a merge entry is missing; run `cargo xtask ledger merge`")]
    TwoHeads {
        /// One.
        line: usize,
        /// The other.
        other: usize,
    },
}

impl Fault {
    /// The line that the fault is named by.
    pub fn line(&self) -> usize {
        match self {
            Fault::NotAnEntry { line, .. }
            | Fault::Repeated { line, .. }
            | Fault::Moved { line, .. }
            | Fault::Edited { line, .. }
            | Fault::Removed { line, .. }
            | Fault::Unfitting { line, .. }
            | Fault::Order { line, .. }
            | Fault::TwoHeads { line, .. } => *line,
        }
    }
}

/// A file's content: its whole lines, and what stands behind the last line end.
#[derive(Clone, Debug, PartialEq)]
pub struct Read {
    /// The ledger.
    pub ledger: Ledger,
    /// Bytes of a line that was never finished, so never acknowledged; empty if there are none.
    pub torn: Vec<u8>,
}

/// Reads a ledger and verifies its chain.
///
/// # Errors
/// The first fault, by line.
pub fn read(bytes: &[u8]) -> Result<Read, Fault> {
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let mut lines = Vec::new();
    for (index, raw) in bytes[..whole].split_inclusive(|byte| *byte == b'\n').enumerate() {
        lines.push(parse(index + 1, &raw[..raw.len() - 1])?);
    }
    verify(&lines)?;
    Ok(Read { ledger: Ledger { lines }, torn: bytes[whole..].to_vec() })
}

pub(super) fn parse(number: usize, raw: &[u8]) -> Result<Line, Fault> {
    let not = |why: String| Fault::NotAnEntry { line: number, why };
    let text = std::str::from_utf8(raw).map_err(|error| not(error.to_string()))?;
    let entry: Entry = serde_json::from_str(text).map_err(|error| not(error.to_string()))?;
    Ok(Line { number, hash: sha256(raw), text: text.to_owned(), entry })
}

/// Verifies that lines hang together.
///
/// # Errors
/// The first fault, by line.
pub(super) fn verify(lines: &[Line]) -> Result<(), Fault> {
    let mut places: HashMap<&str, usize> = HashMap::new();
    for (index, line) in lines.iter().enumerate() {
        if let Some(of) = places.insert(&line.hash, index) {
            return Err(Fault::Repeated { line: line.number, of: lines[of].number });
        }
    }
    for (index, line) in lines.iter().enumerate() {
        for parent in &line.entry.parents {
            match places.get(parent.as_str()) {
                _ if parent == GENESIS => {}
                Some(place) if *place < index => {}
                Some(place) => return Err(Fault::Moved { line: line.number, follows: lines[*place].number }),
                None => return Err(missing(lines, index, parent)),
            }
        }
        fits(lines, &places, line)?;
    }
    one_head(lines)?;
    in_order(lines, &places)
}

/// The parent of the line at `index` is not there: was a line edited, or removed?
fn missing(lines: &[Line], index: usize, parent: &str) -> Fault {
    let (line, expected) = (&lines[index], parent.to_owned());
    let sequence = line.entry.sequence.saturating_sub(1);
    // An edited line still has its place: its number is the one that is missed, and nothing follows it any more.
    let followed: HashSet<&str> = lines.iter().flat_map(|line| &line.entry.parents).map(String::as_str).collect();
    let orphan =
        |candidate: &&Line| candidate.entry.sequence == sequence && !followed.contains(candidate.hash.as_str());
    if let Some(edited) = lines[..index].iter().rev().find(orphan) {
        return Fault::Edited { line: edited.number, sequence, expected };
    }
    let before = index.checked_sub(1).map_or(0, |before| lines[before].entry.sequence);
    Fault::Removed { line: line.number, gone: sequence.saturating_sub(before).max(1), sequence, expected }
}

/// What an entry says of itself against those that it follows.
fn fits(lines: &[Line], places: &HashMap<&str, usize>, line: &Line) -> Result<(), Fault> {
    let entry = &line.entry;
    let parents: Vec<&Entry> = entry
        .parents
        .iter()
        .filter_map(|parent| places.get(parent.as_str()))
        .map(|place| &lines[*place].entry)
        .collect();
    let unfitting = |why: String| Err(Fault::Unfitting { line: line.number, why });
    let is_merge = entry.event == super::event::Event::Merge;
    match (&entry.parents[..], is_merge) {
        ([_], false) => {}
        ([one, other], true) if one < other => return super::merge::fits(lines, places, line),
        (parents, true) => {
            return unfitting(format!("a merge follows two lines in ascending order, not {}", parents.len()));
        }
        (parents, false) => return unfitting(format!("it follows {} lines, not one", parents.len())),
    }
    let sequence = parents.iter().map(|parent| parent.sequence).max().unwrap_or(0) + 1;
    if entry.sequence != sequence {
        return unfitting(format!("its number is {}, not {sequence}", entry.sequence));
    }
    let set_back = parents.iter().any(|parent| entry.time < parent.time);
    if entry.clock_set_back != set_back {
        return unfitting(format!("its clock was {}set back", if set_back { "" } else { "not " }));
    }
    if entry.origin.is_none() {
        return unfitting("it does not say who wrote it".to_owned());
    }
    Ok(())
}

/// Every line but the last is followed by another one.
fn one_head(lines: &[Line]) -> Result<(), Fault> {
    let followed: HashSet<&str> = lines.iter().flat_map(|line| &line.entry.parents).map(String::as_str).collect();
    let mut heads = lines.iter().filter(|line| !followed.contains(line.hash.as_str()));
    match (heads.next(), heads.next()) {
        (Some(one), Some(other)) => Err(Fault::TwoHeads { line: one.number, other: other.number }),
        _ => Ok(()),
    }
}

/// The lines are in the order of [`ordered`].
fn in_order(lines: &[Line], places: &HashMap<&str, usize>) -> Result<(), Fault> {
    let order = ordered(lines, places);
    match order.iter().enumerate().find(|(place, index)| place != *index) {
        Some((place, index)) => Err(Fault::Order { line: lines[place].number, instead: lines[*index].number }),
        None => Ok(()),
    }
}

/// The only order of lines that hang together and have one head, as indices: from the head, first all that its first parent
/// follows and that parent, then the same of the second, then the head itself.
pub(super) fn ordered(lines: &[Line], places: &HashMap<&str, usize>) -> Vec<usize> {
    let followed: HashSet<&str> = lines.iter().flat_map(|line| &line.entry.parents).map(String::as_str).collect();
    let head = lines.iter().position(|line| !followed.contains(line.hash.as_str()));
    let mut order = Vec::with_capacity(lines.len());
    let mut done = vec![false; lines.len()];
    // A stack instead of recursion: a ledger may have many thousand lines.
    let mut stack: Vec<(usize, bool)> = head.into_iter().map(|head| (head, false)).collect();
    while let Some((index, parents_done)) = stack.pop() {
        if done[index] {
            continue;
        }
        if parents_done {
            done[index] = true;
            order.push(index);
            continue;
        }
        stack.push((index, true));
        let parents = lines[index].entry.parents.iter().rev();
        stack.extend(parents.filter_map(|parent| places.get(parent.as_str())).map(|parent| (*parent, false)));
    }
    order
}
