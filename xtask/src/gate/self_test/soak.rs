//! The runs of a self-test, one after another; what the journal has is not run again.

use super::journal::{Entry, Journal};
use crate::progress::Progress;
use anyhow::Result;
use model::gate::{StageRecord, Tier, Verdict};
use model::mutants::{PristineRun, Run};
use std::collections::BTreeMap;

/// Names of failed tests that the journal keeps of each stage.
const NAMES: usize = 3;

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Item {
    /// A gate on a defect; not, if an earlier gate has found it, unless `even_if_found`.
    Gate { name: String, tier: Tier, even_if_found: bool },
    /// Some stages of the full gate on a defect, and of each only some tests; none: all of them.
    Stages { name: String, stages: Stages },
    /// A gate on the unmodified library.
    Pristine { tier: Tier, loaded: bool, number: u32 },
}

impl Item {
    fn label(&self) -> String {
        let of = |tier: &Tier| if *tier == Tier::Light { "light" } else { "full" };
        match self {
            Item::Gate { name, tier, .. } => format!("{name}, {}", of(tier)),
            Item::Stages { name, stages } => {
                format!("{name}, {}", stages.keys().map(String::as_str).collect::<Vec<_>>().join(" "))
            }
            Item::Pristine { tier, loaded, number } => {
                format!("pristine {number}, {}{}", of(tier), if *loaded { ", busy neighbour" } else { "" })
            }
        }
    }
}

/// Tests by stage.
pub(super) type Stages = BTreeMap<String, Vec<String>>;

/// What a gate said.
pub(super) struct Gated {
    pub(super) verdict: Verdict,
    pub(super) stages: Vec<StageRecord>,
    pub(super) seconds: f64,
}

impl Gated {
    /// Stages that failed, in the order of the gate.
    fn failed_stages(&self) -> Vec<String> {
        let failed = self.stages.iter().filter(|stage| stage.verdict == Verdict::Fail);
        failed.map(|stage| stage.name.clone()).collect()
    }

    /// Stage and test of what failed or did not run; of each stage at most a few.
    fn failed(&self) -> Vec<String> {
        let bad = self.stages.iter().filter(|stage| stage.verdict != Verdict::Pass && !stage.excluded);
        let names = bad.flat_map(|stage| {
            let why = stage.why.iter().map(|why| why.lines().next().unwrap_or_default().to_owned());
            let what: Vec<String> = stage.failed.iter().take(NAMES).cloned().chain(why).collect();
            what.into_iter().map(|what| format!("{}: {what}", stage.name))
        });
        names.collect()
    }
}

/// What runs gates. Tests have their own.
pub(super) trait Gate {
    /// SHA-256 of a defect's patch.
    fn patch_sha256(&self, name: &str) -> Result<String>;
    /// A gate, or some of its stages, on a defect.
    fn mutant(&self, name: &str, tier: Tier, stages: Option<&Stages>) -> Result<Gated>;
    /// A gate on the unmodified library.
    fn pristine(&self, tier: Tier, loaded: bool, number: u32) -> Result<Gated>;
}

/// A self-test under way.
pub(super) struct Soak<'a> {
    pub(super) gate: &'a dyn Gate,
    /// Fails when the user wants it to end.
    pub(super) check: &'a dyn Fn() -> Result<()>,
}

impl Soak<'_> {
    /// Does what the journal does not have. An error ends it; what was done is in the journal.
    pub(super) fn run(&self, items: &[Item], journal: &mut Journal) -> Result<()> {
        let mut progress = Progress::new("self-test", items.len() as u64);
        for item in items {
            (self.check)()?;
            if !self.is_done(item, journal)? {
                progress.note(&format!("{}: {}", item.label(), self.one(item, journal)?));
            }
            progress.step(&item.label());
        }
        Ok(())
    }

    fn is_done(&self, item: &Item, journal: &Journal) -> Result<bool> {
        Ok(match item {
            Item::Gate { name, tier, even_if_found } => {
                let sha256 = self.gate.patch_sha256(name)?;
                let found = journal.gate(name, Tier::Light, &sha256).is_some_and(|run| run.verdict == Verdict::Fail);
                found && *tier == Tier::Full && !even_if_found || journal.gate(name, *tier, &sha256).is_some()
            }
            Item::Stages { name, stages } => journal.stages(name, &self.gate.patch_sha256(name)?, stages).is_some(),
            Item::Pristine { tier, loaded, number } => journal.has_pristine(*tier, *loaded, *number),
        })
    }

    /// Does one thing, writes it down, and says in a few words what came of it.
    fn one(&self, item: &Item, journal: &mut Journal) -> Result<String> {
        let of_mutant = |name: &str, tier: Tier, gated: &Gated| Run {
            name: name.to_owned(),
            tier,
            verdict: gated.verdict,
            failed_stages: gated.failed_stages(),
            failed: gated.failed(),
            seconds: gated.seconds,
        };
        let (gated, good) = match item {
            Item::Gate { name, tier, .. } => {
                let gated = self.gate.mutant(name, *tier, None)?;
                journal.add(Some(self.gate.patch_sha256(name)?), Entry::Mutant(of_mutant(name, *tier, &gated)))?;
                (gated, "found")
            }
            Item::Stages { name, stages } => {
                let gated = self.gate.mutant(name, Tier::Full, Some(stages))?;
                journal.add(
                    Some(self.gate.patch_sha256(name)?),
                    Entry::Stages { stages: stages.clone(), run: of_mutant(name, Tier::Full, &gated) },
                )?;
                (gated, "found")
            }
            Item::Pristine { tier, loaded, number } => {
                let gated = self.gate.pristine(*tier, *loaded, *number)?;
                let run = PristineRun {
                    tier: *tier,
                    loaded: *loaded,
                    number: *number,
                    verdict: gated.verdict,
                    failed: gated.failed(),
                    seconds: gated.seconds,
                };
                journal.add(None, Entry::Pristine(run))?;
                (gated, "FALSE ALARM")
            }
        };
        let stages = gated.failed_stages();
        Ok(match (gated.verdict, stages.first()) {
            (Verdict::Pass, _) => format!("passed ({:.1} s)", gated.seconds),
            (Verdict::Fail, Some(_)) => format!("{good} by {} ({:.1} s)", stages.join(", "), gated.seconds),
            _ => format!("no answer: {}", gated.failed().join("; ")),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::bail;
    use std::cell::RefCell;

    /// Knows which stage finds a defect in which gate; writes down what it is asked.
    struct Fake {
        asked: RefCell<Vec<String>>,
    }

    impl Gate for Fake {
        fn patch_sha256(&self, name: &str) -> Result<String> {
            Ok(format!("sha-{name}"))
        }

        fn mutant(&self, name: &str, tier: Tier, stages: Option<&Stages>) -> Result<Gated> {
            self.asked.borrow_mut().push(format!("{name} {tier:?} {}", stages.is_some()));
            if name == "broken-host" {
                bail!("no space");
            }
            let found = name == "easy" || name == "hard" && tier == Tier::Full;
            let stages =
                if found { vec![StageRecord::failed("epoll", "x")] } else { vec![StageRecord::plain("epoll")] };
            let verdict = if found { Verdict::Fail } else { Verdict::Pass };
            Ok(Gated { verdict, stages, seconds: 1.0 })
        }

        fn pristine(&self, tier: Tier, loaded: bool, number: u32) -> Result<Gated> {
            self.asked.borrow_mut().push(format!("pristine {tier:?} {loaded} {number}"));
            Ok(Gated { verdict: Verdict::Pass, stages: vec![StageRecord::plain("epoll")], seconds: 1.0 })
        }
    }

    fn gate(name: &str, tier: Tier, even_if_found: bool) -> Item {
        Item::Gate { name: name.into(), tier, even_if_found }
    }

    fn both(name: &str) -> [Item; 2] {
        [gate(name, Tier::Light, true), gate(name, Tier::Full, false)]
    }

    #[test]
    fn what_was_done_is_not_done_again_and_what_was_found_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let fake = Fake { asked: RefCell::new(vec![]) };
        let soak = Soak { gate: &fake, check: &|| Ok(()) };
        let mut items: Vec<Item> = [both("easy"), both("hard"), both("never")].concat();
        items.push(Item::Pristine { tier: Tier::Light, loaded: false, number: 0 });
        items.push(Item::Stages { name: "hard".into(), stages: [("epoll".to_owned(), vec![])].into() });
        soak.run(&items, &mut Journal::open(folder.path()).unwrap()).unwrap();
        let once = fake.asked.borrow().clone();
        let wanted = [
            "easy Light false",
            "hard Light false",
            "hard Full false",
            "never Light false",
            "never Full false",
            "pristine Light false 0",
            "hard Full true",
        ];
        assert_eq!(once, wanted);
        let mut journal = Journal::open(folder.path()).unwrap();
        soak.run(&items, &mut journal).unwrap();
        assert_eq!(*fake.asked.borrow(), once, "nothing again");
        let asked = [("epoll".to_owned(), vec![])].into();
        assert_eq!(journal.stages("hard", "sha-hard", &asked).unwrap().failed_stages, ["epoll"]);
        assert_eq!(journal.stages("hard", "of another patch", &asked), None);
        assert_eq!(journal.stages("hard", "sha-hard", &[("poll".to_owned(), vec![])].into()), None);
        assert_eq!((journal.runs(false).len(), journal.runs(true).len(), journal.pristine().len()), (5, 1, 1));
        soak.run(&[gate("easy", Tier::Full, true)], &mut journal).unwrap();
        assert_eq!(fake.asked.borrow().last().unwrap(), "easy Full false", "asked for all stages");
    }

    #[test]
    fn an_error_or_an_interrupt_ends_it_and_keeps_what_was_done() {
        let folder = tempfile::tempdir().unwrap();
        let fake = Fake { asked: RefCell::new(vec![]) };
        let mut journal = Journal::open(folder.path()).unwrap();
        let items: Vec<Item> = [both("easy"), both("broken-host"), both("never")].concat();
        let soak = Soak { gate: &fake, check: &|| Ok(()) };
        assert!(soak.run(&items, &mut journal).unwrap_err().to_string().contains("no space"));
        assert_eq!(journal.len(), 1);
        let interrupted = Soak { gate: &fake, check: &|| bail!("interrupted") };
        assert!(interrupted.run(&items, &mut journal).is_err());
        assert_eq!(journal.len(), 1);
    }

    #[test]
    fn a_line_that_was_cut_off_is_run_again_and_an_edited_patch_too() {
        let folder = tempfile::tempdir().unwrap();
        let fake = Fake { asked: RefCell::new(vec![]) };
        let soak = Soak { gate: &fake, check: &|| Ok(()) };
        let mut journal = Journal::open(folder.path()).unwrap();
        soak.run(&both("never"), &mut journal).unwrap();
        let path = journal.path().to_owned();
        drop(journal);
        let text = std::fs::read(&path).unwrap();
        for kept in [text.len() - 1, text.len() - 20] {
            std::fs::write(&path, &text[..kept]).unwrap();
            let journal = Journal::open(folder.path()).unwrap();
            assert!(journal.gate("never", Tier::Light, "sha-never").is_some());
            assert!(journal.gate("never", Tier::Full, "sha-never").is_none(), "{kept}");
        }
        let journal = Journal::open(folder.path()).unwrap();
        assert!(journal.gate("never", Tier::Light, "another").is_none());
        std::fs::write(&path, "{}\n").unwrap();
        let error = format!("{:#}", Journal::open(folder.path()).err().unwrap());
        assert!(error.contains("line 1"), "{error}");
    }
}
