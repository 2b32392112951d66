//! Two branches' ledgers become one: pure, and the same whoever does it.

use super::chain::{self, Fault};
use super::event::Event;
use super::{Entry, Ledger, Line, sha256};
use std::collections::{HashMap, HashSet};

/// Why two ledgers cannot become one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Conflict {
    /// An id that both branches gave to different things.
    #[error(
        "both branches opened {id}, and not the same: the suffix of an id is a hash of its opening entry, so one of the two \
         was written by hand"
    )]
    SameId {
        /// The id.
        id: String,
    },
    /// The result does not hold together.
    #[error("the merged ledger does not hold together: {0}")]
    Fault(#[from] Fault),
}

/// One ledger out of two. Where one has all lines of the other, it is that one.
///
/// # Errors
/// If both gave one id to different experiments.
pub fn merge(one: &Ledger, other: &Ledger) -> Result<Ledger, Conflict> {
    let known = |ledger: &Ledger| -> HashSet<String> { ledger.lines.iter().map(|line| line.hash.clone()).collect() };
    let (in_one, in_other) = (known(one), known(other));
    if in_other.is_subset(&in_one) {
        return Ok(one.clone());
    }
    if in_one.is_subset(&in_other) {
        return Ok(other.clone());
    }
    let mut lines = one.lines.clone();
    lines.extend(other.lines.iter().filter(|line| !in_one.contains(&line.hash)).cloned());
    let mut opened: HashMap<&str, &str> = HashMap::new();
    for line in &lines {
        if let (Event::Opened(_), Some(id)) = (&line.entry.event, &line.entry.experiment)
            && opened.insert(id, &line.hash).is_some_and(|before| before != line.hash)
        {
            return Err(Conflict::SameId { id: id.clone() });
        }
    }
    let heads = [one, other].map(|ledger| ledger.lines.last().expect("a ledger that is no part of another has lines"));
    let text = entry(heads).line();
    let last = chain::parse(0, text.as_bytes())?;
    lines.push(last);
    let lines = in_order(&lines);
    chain::verify(&lines)?;
    Ok(Ledger { lines })
}

/// The merge entry of two heads, in any order.
fn entry(mut heads: [&Line; 2]) -> Entry {
    heads.sort_by(|one, other| one.hash.cmp(&other.hash));
    let entries = heads.map(|head| &head.entry);
    Entry {
        sequence: entries.map(|entry| entry.sequence).into_iter().max().unwrap_or(0) + 1,
        parents: heads.map(|head| head.hash.clone()).to_vec(),
        // Of the later head, so that the entry does not depend on when and where the merge is made.
        time: entries.map(|entry| entry.time.as_str()).into_iter().max().unwrap_or_default().to_owned(),
        clock_set_back: false,
        origin: None,
        experiment: None,
        event: Event::Merge,
        files: Default::default(),
    }
}

/// A merge entry is the one that its heads give, and neither head is part of the other's past.
pub(super) fn fits(lines: &[Line], places: &HashMap<&str, usize>, line: &Line) -> Result<(), Fault> {
    let unfitting = |why: &str| Err(Fault::Unfitting { line: line.number, why: why.to_owned() });
    let heads: Vec<&Line> = line
        .entry
        .parents
        .iter()
        .filter_map(|parent| places.get(parent.as_str()))
        .map(|place| &lines[*place])
        .collect();
    let [one, other] = heads[..] else { return unfitting("a merge follows two lines that are there") };
    if sha256(entry([one, other]).line().as_bytes()) != line.hash {
        return unfitting("it is not the merge of its two heads");
    }
    let past = |head: &Line| -> HashSet<usize> {
        let mut seen = HashSet::new();
        let mut next = vec![places[head.hash.as_str()]];
        while let Some(place) = next.pop() {
            if seen.insert(place) {
                next.extend(lines[place].entry.parents.iter().filter_map(|parent| places.get(parent.as_str())));
            }
        }
        seen
    };
    if past(one).contains(&places[other.hash.as_str()]) || past(other).contains(&places[one.hash.as_str()]) {
        return unfitting("one of the lines that it merges is part of the other's past");
    }
    Ok(())
}

/// Brings lines into their order and numbers them.
fn in_order(lines: &[Line]) -> Vec<Line> {
    let places: HashMap<&str, usize> =
        lines.iter().enumerate().map(|(index, line)| (line.hash.as_str(), index)).collect();
    let order = chain::ordered(lines, &places);
    order.into_iter().enumerate().map(|(place, index)| Line { number: place + 1, ..lines[index].clone() }).collect()
}
