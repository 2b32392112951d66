//! Changes of an epoll set, and which of them the next wait did not see.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// `EPOLL_CTL_ADD`, `_DEL` and `_MOD` of linux/eventpoll.h.
pub const OPERATIONS: [(u64, &str); 3] = [(1, "add"), (2, "del"), (3, "mod")];
/// `EPOLLET` and `EPOLLONESHOT`: a change to the same events arms them again.
const ARMED: u32 = (1 << 31) | (1 << 30);

/// `epoll_ctl` of one kind of work.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EpollCtl {
    /// `add`, `mod` and `del` of one event.
    pub by_operation: BTreeMap<String, f64>,
    /// Of all changes whose effect is known, the share that the next wait on the set would not have missed: they set what was
    /// set, or were undone or replaced before the wait. Null where the events of too few are known.
    pub redundant_share: Option<f64>,
    /// Changes that the kernel refused.
    pub failed_per_event: f64,
    /// Changes whose events were not seen, of all.
    pub unknown_share: f64,
}

/// State of a descriptor in a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing was seen of it yet.
    Unseen,
    /// Not in the set.
    Absent,
    /// In the set with these events.
    Present(u32),
    /// In the set with events that were not seen.
    Unknown,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    /// When the last wait began.
    seen: State,
    now: State,
    /// Changes in scope since then.
    changes: u64,
    /// One of them arms the descriptor again: it is needed.
    arms: bool,
    /// The effect of one of them is not known.
    unknown: bool,
}

/// Follows sets of descriptors through `epoll_ctl`, `epoll_wait` and `close`.
#[derive(Debug, Default)]
pub struct Follower {
    entries: BTreeMap<(u64, u64), Entry>,
    operations: BTreeMap<&'static str, u64>,
    changes: u64,
    failed: u64,
    unknown: u64,
    redundant: u64,
    judged: u64,
}

impl Follower {
    /// A change that the kernel has made (`done`) or refused. `events` is null where they were not seen. A change out of
    /// scope is followed, not counted.
    pub fn change(
        &mut self,
        set: u64,
        operation: u64,
        descriptor: u64,
        events: Option<u32>,
        done: bool,
        in_scope: bool,
    ) {
        if in_scope {
            let name = OPERATIONS.iter().find(|(number, _)| *number == operation).map_or("other", |(_, name)| name);
            *self.operations.entry(name).or_default() += 1;
            self.changes += 1;
            if !done {
                self.failed += 1;
                return;
            }
        }
        if !done {
            return;
        }
        let new = Entry { seen: State::Unseen, now: State::Unseen, changes: 0, arms: false, unknown: false };
        let entry = self.entries.entry((set, descriptor)).or_insert(new);
        entry.now = match (operation, events) {
            (2, _) => State::Absent,
            (_, Some(events)) => State::Present(events),
            (_, None) => State::Unknown,
        };
        if in_scope {
            entry.changes += 1;
            entry.arms |= operation != 2 && events.is_some_and(|events| events & ARMED != 0);
            if entry.now == State::Unknown {
                entry.unknown = true;
                self.unknown += 1;
            }
        }
    }

    /// A wait on a set begins: what was changed until now takes effect.
    pub fn wait(&mut self, set: u64) {
        for (_, entry) in self.entries.range_mut((set, 0)..=(set, u64::MAX)) {
            let (judged, redundant) = settle(entry);
            self.judged += judged;
            self.redundant += redundant;
        }
    }

    /// What was followed until here does not go on: another process, or changes that were not seen. What was counted stays.
    pub fn forget(&mut self) {
        self.entries.clear();
    }

    /// A descriptor is closed: the kernel takes it out of its sets, and a set that it is ends. What was changed before is
    /// judged as if a wait had seen it: nobody could know of the close.
    pub fn close(&mut self, descriptor: u64) {
        for ((_, member), entry) in &mut self.entries {
            if *member == descriptor {
                let (judged, redundant) = settle(entry);
                self.judged += judged;
                self.redundant += redundant;
                (entry.seen, entry.now) = (State::Absent, State::Absent);
            }
        }
        self.entries.retain(|(set, _), _| *set != descriptor);
    }

    /// What was counted; null if nothing was changed.
    pub fn counted(&self, events: u64) -> Option<EpollCtl> {
        if self.changes == 0 {
            return None;
        }
        let per_event = |count: u64| count as f64 / events.max(1) as f64;
        // Those that no wait has followed by now are neither.
        let enough = self.judged * 2 >= self.changes;
        Some(EpollCtl {
            by_operation: self.operations.iter().map(|(name, count)| ((*name).to_owned(), per_event(*count))).collect(),
            redundant_share: enough.then(|| self.redundant as f64 / self.judged as f64),
            failed_per_event: per_event(self.failed),
            unknown_share: self.unknown as f64 / self.changes as f64,
        })
    }
}

/// Changes that can be judged, and those that were redundant; the descriptor begins anew.
fn settle(entry: &mut Entry) -> (u64, u64) {
    let known = entry.changes > 0 && !entry.unknown && entry.seen != State::Unknown;
    let needed = u64::from(entry.arms || entry.seen == State::Unseen || entry.now != entry.seen);
    let judged = if known { (entry.changes, entry.changes.saturating_sub(needed)) } else { (0, 0) };
    *entry = Entry { seen: entry.now, now: entry.now, changes: 0, arms: false, unknown: false };
    judged
}

#[cfg(test)]
mod tests {
    use super::*;

    const IN: Option<u32> = Some(1);
    const IN_OUT: Option<u32> = Some(5);

    fn counted(changes: &[(u64, u64, Option<u32>)], waits_after: &[usize]) -> EpollCtl {
        let mut follower = Follower::default();
        follower.change(3, 1, 7, IN, true, false);
        follower.wait(3);
        for (number, (operation, descriptor, events)) in changes.iter().enumerate() {
            follower.change(3, *operation, *descriptor, *events, true, true);
            if waits_after.contains(&number) {
                follower.wait(3);
            }
        }
        follower.counted(1).unwrap()
    }

    #[test]
    fn a_write_interest_that_comes_and_goes_between_two_waits_is_redundant() {
        let toggled = counted(&[(3, 7, IN_OUT), (3, 7, IN)], &[1]);
        assert_eq!(toggled.redundant_share, Some(1.0));
        let kept = counted(&[(3, 7, IN_OUT), (3, 7, IN)], &[0, 1]);
        assert_eq!(kept.redundant_share, Some(0.0));
        let replaced = counted(&[(2, 7, None), (1, 7, IN_OUT)], &[1]);
        assert_eq!(replaced.redundant_share, Some(0.5), "one change would have done");
        assert_eq!(replaced.by_operation, BTreeMap::from([("add".to_owned(), 1.0), ("del".to_owned(), 1.0)]));
    }

    #[test]
    fn what_is_set_already_is_redundant_unless_it_arms_again() {
        assert_eq!(counted(&[(3, 7, IN)], &[0]).redundant_share, Some(1.0));
        let one_shot = Some(1 | (1 << 30));
        let armed = counted(&[(3, 7, one_shot), (3, 7, one_shot)], &[0, 1]);
        assert_eq!(armed.redundant_share, Some(0.0));
        // What was not seen before may have been anything.
        assert_eq!(counted(&[(3, 9, IN)], &[0]).redundant_share, Some(0.0));
    }

    #[test]
    fn closed_descriptors_leave_their_set() {
        let mut follower = Follower::default();
        follower.change(3, 1, 7, IN, true, true);
        follower.wait(3);
        follower.close(7);
        follower.change(3, 1, 7, IN, true, true);
        follower.wait(3);
        let counted = follower.counted(1).unwrap();
        assert_eq!(counted.redundant_share, Some(0.0), "the new file was in no set");
        follower.close(3);
        assert!(follower.entries.is_empty());
    }

    #[test]
    fn unknown_events_and_refused_changes_are_not_guessed() {
        let mut follower = Follower::default();
        follower.change(3, 3, 7, None, true, true);
        follower.wait(3);
        follower.change(3, 1, 7, IN, false, true);
        let counted = follower.counted(2).unwrap();
        assert_eq!((counted.redundant_share, counted.unknown_share), (None, 0.5));
        assert!((counted.failed_per_event - 0.5).abs() < 1e-9);
        assert_eq!(Follower::default().counted(1), None);
    }
}
