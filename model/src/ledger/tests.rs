//! Whatever is done to a ledger is found, and the line is named.

use super::anchor::{Anchor, Anchored, Lost};
use super::chain::{self, Fault};
use super::fixtures::{at, extended, notes, opened, origin, reread, with};
use super::merge::{Conflict, merge};
use super::{Draft, GENESIS, Ledger, sha256};
use crate::stats::random::SplitMix64;

fn lines(ledger: &Ledger) -> Vec<String> {
    ledger.text().lines().map(str::to_owned).collect()
}

fn read(lines: &[String]) -> Result<Ledger, Fault> {
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    chain::read(text.as_bytes()).map(|read| read.ledger)
}

#[test]
fn a_ledger_is_what_was_written() {
    assert_eq!(GENESIS, sha256(b"libevent-perf ledger/1"));
    let ledger = notes(5, "a");
    assert_eq!(reread(&ledger).unwrap(), ledger);
    assert_eq!(ledger.lines()[0].entry.parents, [GENESIS]);
    assert_eq!(ledger.lines()[4].entry.sequence, 5);
    assert_eq!(chain::read(b"").unwrap().ledger, Ledger::default());
}

#[test]
fn an_edited_line_is_named() {
    let ledger = notes(6, "a");
    for edited in 0..5 {
        let mut lines = lines(&ledger);
        lines[edited] = lines[edited].replace("does not work", "works");
        let fault = read(&lines).unwrap_err();
        assert!(matches!(fault, Fault::Edited { .. }) && fault.line() == edited + 1, "{fault}");
    }
    // The last line is followed by nothing: its head is missed where it was written down.
    let mut lines = lines(&ledger);
    lines[5] = lines[5].replace("does not work", "works");
    let anchored = Anchor::of(&ledger).holds(&read(&lines).unwrap());
    assert!(matches!(anchored, Anchored::Lost(Lost::Edited { line: 6, .. })), "{anchored:?}");
}

#[test]
fn a_change_that_means_nothing_is_found_too() {
    let ledger = notes(3, "a");
    let mut lines = lines(&ledger);
    lines[1] = lines[1].replacen("\"sequence\":2", "\"sequence\": 2", 1);
    assert!(matches!(read(&lines), Err(Fault::Edited { line: 2, .. })));
    lines[1] = "{}".to_owned();
    assert!(matches!(read(&lines), Err(Fault::NotAnEntry { line: 2, .. })));
}

#[test]
fn a_removed_line_is_named_by_the_one_behind_it() {
    let ledger = notes(6, "a");
    for (gone, from) in [(1, 0), (1, 2), (3, 1)] {
        let mut lines = lines(&ledger);
        lines.drain(from..from + gone);
        let fault = read(&lines).unwrap_err();
        assert_eq!(
            (fault.line(), matches!(fault, Fault::Removed { gone: found, .. } if found == gone as u64)),
            (from + 1, true),
            "{fault}"
        );
    }
}

#[test]
fn moved_and_repeated_lines_are_named() {
    let ledger = notes(6, "a");
    let mut swapped = lines(&ledger);
    swapped.swap(2, 3);
    assert_eq!(read(&swapped), Err(Fault::Moved { line: 3, follows: 4 }));
    let mut first = lines(&ledger);
    first.swap(0, 1);
    assert_eq!(read(&first), Err(Fault::Moved { line: 1, follows: 2 }));
    let mut repeated = lines(&ledger);
    repeated.insert(3, repeated[2].clone());
    assert_eq!(read(&repeated), Err(Fault::Repeated { line: 4, of: 3 }));
    let mut at_the_end = lines(&ledger);
    at_the_end.push(at_the_end[5].clone());
    assert_eq!(read(&at_the_end), Err(Fault::Repeated { line: 7, of: 6 }));
}

#[test]
fn a_tail_that_was_cut_off_is_missed_by_the_head() {
    let ledger = notes(6, "a");
    let anchor = Anchor::of(&ledger);
    assert_eq!(Anchor::parse(&format!("x\n{}\ny", anchor.text())), Some(anchor.clone()));
    let cut = read(&lines(&ledger)[..4]).unwrap();
    assert!(matches!(anchor.holds(&cut), Anchored::Lost(Lost::Cut { line: 4, gone: 2, lines: 6, .. })));
    assert!(matches!(anchor.holds(&Ledger::default()), Anchored::Lost(Lost::Cut { line: 0, gone: 6, .. })));
    assert_eq!(anchor.holds(&extended(ledger.clone(), 2, "later")), Anchored::Behind(2));
    assert_eq!(anchor.holds(&ledger), Anchored::Current);
    // Cut off and written on: as many lines, and others.
    let other = extended(cut, 3, "forged");
    assert!(matches!(anchor.holds(&other), Anchored::Lost(Lost::Edited { line: 6, .. })));
    assert_eq!(Anchor::of(&Ledger::default()).holds(&ledger), Anchored::Behind(6));
    for text in ["", "<!-- ledger head abc, 3 lines -->", "<!-- ledger head"] {
        assert_eq!(Anchor::parse(text), None);
    }
}

#[test]
fn a_line_put_in_between_is_found() {
    // Whoever appends to an old head makes a branch, and a branch needs a merge.
    let ledger = notes(4, "a");
    let old = read(&lines(&ledger)[..2]).unwrap();
    let stray = extended(old, 1, "stray").lines()[2].text.clone();
    for place in [2, 3, 4] {
        let mut lines = lines(&ledger);
        lines.insert(place, stray.clone());
        assert!(matches!(read(&lines), Err(Fault::TwoHeads { .. })), "at {place}");
    }
}

#[test]
fn what_an_entry_says_of_itself_has_to_fit() {
    let ledger = notes(2, "a");
    let forged = |change: &dyn Fn(&mut super::Entry)| {
        let draft = Draft { experiment: None, event: ledger.lines()[0].entry.event.clone(), files: Default::default() };
        let mut entry = ledger.next(draft, "2026-02-01T00:00:00Z", origin());
        change(&mut entry);
        ledger.clone().push(entry).map(drop)
    };
    assert_eq!(forged(&|_| {}), Ok(()));
    for change in [
        &(|entry: &mut super::Entry| entry.sequence = 7) as &dyn Fn(&mut super::Entry),
        &|entry| entry.clock_set_back = true,
        &|entry| entry.time = "2025-01-01T00:00:00Z".into(),
        &|entry| entry.origin = None,
        &|entry| entry.event = super::event::Event::Merge,
        &|entry| entry.parents.push(GENESIS.into()),
    ] {
        assert!(matches!(forged(change), Err(Fault::Unfitting { line: 3, .. })), "{:?}", forged(change));
    }
    assert!(forged(&|entry| entry.parents.clear()).is_err());
}

#[test]
fn a_line_that_was_not_finished_is_no_line() {
    let ledger = notes(3, "a");
    let text = ledger.text();
    let whole = lines(&ledger)[..2].iter().map(|line| line.len() + 1).sum::<usize>();
    for end in whole..text.len() {
        let read = chain::read(&text.as_bytes()[..end]).unwrap();
        assert_eq!((read.ledger.lines().len(), read.torn.len()), (2, end - whole), "cut at {end}");
    }
    // Zeros that a file system left where the line was to be are no line either; a line end behind them is not our doing.
    let zeros = |end: &[u8]| chain::read(&[text.as_bytes(), &[0; 40], end].concat());
    assert_eq!(zeros(b"").unwrap().torn.len(), 40);
    assert!(matches!(zeros(b"\n"), Err(Fault::NotAnEntry { line: 4, .. })));
}

#[test]
fn a_clock_that_was_set_back_is_said_and_changes_no_order() {
    let event = || notes(1, "a").lines()[0].entry.event.clone();
    let ledger = at(notes(3, "a"), None, event(), "1999-01-01T00:00:00Z");
    assert!(ledger.lines()[3].entry.clock_set_back && !ledger.lines()[2].entry.clock_set_back);
    let ledger = with(ledger, None, opened_at_large());
    assert!(!ledger.lines()[4].entry.clock_set_back, "the clock is right again");
    assert_eq!(reread(&ledger).unwrap(), ledger);
}

fn opened_at_large() -> super::event::Event {
    notes(1, "b").lines()[0].entry.event.clone()
}

#[test]
fn two_branches_become_one_whoever_merges_them() {
    let base = notes(3, "base");
    let (one, other) = (extended(base.clone(), 2, "one"), extended(base.clone(), 4, "other"));
    let merged = merge(&one, &other).unwrap();
    assert_eq!(merge(&other, &one).unwrap(), merged, "the same from both sides");
    assert_eq!(reread(&merged).unwrap(), merged);
    assert_eq!(merged.lines().len(), 3 + 2 + 4 + 1);
    let last = &merged.lines()[9].entry;
    assert_eq!((last.sequence, last.parents.len(), &last.origin), (8, 2, &None));
    for line in one.lines().iter().chain(other.lines()) {
        assert!(merged.lines().iter().any(|kept| kept.text == line.text), "lines stay as they are");
    }
    // Appending goes on from there, and lines keep their order.
    let further = extended(merged.clone(), 2, "further");
    assert_eq!(reread(&further).unwrap().lines()[11].number, 12);
    assert_eq!(merge(&further, &one).unwrap(), further, "what is there already changes nothing");
    assert_eq!(merge(&base, &merged).unwrap(), merged);
    assert_eq!(merge(&Ledger::default(), &one).unwrap(), one);
}

#[test]
fn branches_merge_crosswise_and_from_nothing() {
    let (one, two) = (notes(2, "one"), notes(3, "two"));
    let merged = merge(&one, &two).unwrap();
    assert_eq!(merged.lines().iter().filter(|line| line.entry.parents == [GENESIS]).count(), 2);
    // Both sides go on, and take each other's twice.
    let left = extended(merged.clone(), 1, "left");
    let right = extended(merged, 2, "right");
    let (crossed, back) = (merge(&left, &right).unwrap(), merge(&right, &left).unwrap());
    assert_eq!(crossed, back);
    let three = notes(1, "three");
    let all = merge(&crossed, &three).unwrap();
    assert_eq!(reread(&all).unwrap(), all);
    assert_eq!(merge(&merge(&one, &three).unwrap(), &two).unwrap().lines().len(), 2 + 3 + 1 + 2);
}

#[test]
fn tampering_with_merged_branches_is_found() {
    let base = notes(2, "base");
    let merged = merge(&extended(base.clone(), 2, "one"), &extended(base, 2, "other")).unwrap();
    let merged = extended(merged, 1, "after");
    let whole = lines(&merged);
    // Any line but the last: changed, removed, moved to any other place.
    for place in 0..whole.len() - 1 {
        let mut edited = whole.clone();
        edited[place] = edited[place].replacen("20", "21", 1);
        assert!(read(&edited).is_err(), "line {} edited", place + 1);
        let mut removed = whole.clone();
        removed.remove(place);
        assert!(read(&removed).is_err(), "line {} removed", place + 1);
    }
    for from in 0..whole.len() {
        for to in (0..whole.len()).filter(|to| *to != from) {
            let mut moved = whole.clone();
            let line = moved.remove(from);
            moved.insert(to, line);
            let fault = read(&moved).expect_err(&format!("line {} moved to {}", from + 1, to + 1));
            assert!(fault.line() >= 1 && fault.line() <= whole.len(), "{fault}");
        }
    }
    // Two branches in the other order hang together as well, and are not what a writer leaves.
    let mut turned = whole.clone();
    turned[2..6].rotate_left(2);
    assert!(matches!(read(&turned), Err(Fault::Order { line: 3, instead: 5 })), "{:?}", read(&turned));
    // Both branches without their merge entry.
    assert!(matches!(read(&whole[..6]), Err(Fault::TwoHeads { .. })));
}

#[test]
fn a_merge_entry_that_no_merge_makes_is_found() {
    let base = notes(2, "base");
    let merged = merge(&extended(base.clone(), 1, "one"), &extended(base, 1, "other")).unwrap();
    let mut forged = lines(&merged);
    forged[4] = forged[4].replace("2026", "2027");
    assert!(matches!(read(&forged), Err(Fault::Unfitting { line: 5, .. })));
    // A merge with a line of its own past.
    let chain = notes(3, "a");
    let mut parents = [chain.lines()[1].hash.clone(), chain.lines()[2].hash.clone()];
    parents.sort();
    let mut entry = merged.lines()[4].entry.clone();
    (entry.parents, entry.sequence, entry.time) = (parents.to_vec(), 4, chain.lines()[2].entry.time.clone());
    let fault = chain.clone().push(entry).map(drop).unwrap_err();
    assert!(fault.to_string().contains("past"), "{fault}");
}

#[test]
fn one_id_for_two_things_is_no_merge() {
    let id = "EXP-0001-reads-000001";
    let one = with(Ledger::default(), Some(id), opened("reads", &[]));
    let other = with(Ledger::default(), Some(id), opened("other reads", &[]));
    assert_eq!(merge(&one, &other), Err(Conflict::SameId { id: id.to_owned() }));
    // The same number is no conflict, and the same entry is one entry.
    let neighbour = with(Ledger::default(), Some("EXP-0001-reads-000002"), opened("other reads", &[]));
    assert_eq!(merge(&one, &neighbour).unwrap().lines().len(), 3);
    assert_eq!(merge(&one, &extended(one.clone(), 1, "a")).unwrap().lines().len(), 2);
}

/// Property: whatever happens to the bytes of a ledger whose head is known is found, or changes nothing.
#[test]
fn no_change_of_bytes_goes_unnoticed() {
    let base = notes(3, "base");
    let ledger = merge(&extended(base.clone(), 3, "one"), &extended(base, 2, "other")).unwrap();
    let (anchor, text) = (Anchor::of(&ledger), ledger.text().into_bytes());
    let mut random = SplitMix64::new(7);
    let mut below = |end: u64| random.next_u64() % end;
    for _ in 0..3000 {
        let mut bytes = text.clone();
        let place = below(bytes.len() as u64) as usize;
        match below(4) {
            0 => bytes[place] ^= 1 << below(8),
            1 => drop(bytes.remove(place)),
            2 => bytes.insert(place, b'x'),
            _ => bytes.truncate(place),
        }
        if bytes == text {
            continue;
        }
        let unnoticed = chain::read(&bytes)
            .is_ok_and(|read| read.torn.is_empty() && anchor.holds(&read.ledger) == Anchored::Current);
        assert!(!unnoticed, "byte {place}");
    }
}
