//! From runs of the gate on seeded defects to how many it found, and on pristine to how often it errs.

use super::{Kind, Mutants, target};
use crate::gate::{MutantRecord, Tier, Verdict};
use crate::stats::binomial::clopper_pearson_upper;
use serde::{Deserialize, Serialize};

/// Stages before any test: a defect that fails there was never tested.
const UNTESTED: &[&str] = &["patch", "build"];
/// Confidence of the bound on the share of false alarms.
const CONFIDENCE: f64 = 0.95;

/// One run of a gate on one seeded defect.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// The defect.
    pub name: String,
    /// Which gate.
    pub tier: Tier,
    /// What it said.
    pub verdict: Verdict,
    /// Stages that failed, in the order of the gate.
    pub failed_stages: Vec<String>,
    /// `STAGE: TEST` and `STAGE: REASON` of what failed; of each stage at most a few.
    pub failed: Vec<String>,
    /// Elapsed time, the build included.
    pub seconds: f64,
}

/// What became of a defect.
#[derive(Clone, Debug, PartialEq)]
pub enum Fate {
    /// A gate found it.
    Killed {
        /// The gate.
        tier: Tier,
        /// Its first stage that failed.
        stage: String,
        /// Time until the gate that found it was through, those before it included.
        seconds: f64,
    },
    /// Every gate that was asked for passed it.
    Survived {
        /// Time of all gates.
        seconds: f64,
    },
    /// It was not built, or no gate came to an answer: nothing is known.
    Unknown(String),
}

/// What became of the defect `name`, when `tier` is the last gate that was asked for.
pub fn fate(runs: &[Run], name: &str, tier: Tier) -> Fate {
    let mut seconds = 0.0;
    for of in [Tier::Light, Tier::Full] {
        if of == Tier::Full && tier == Tier::Light {
            break;
        }
        // The last word of each gate: a run is only repeated after its defect or the gate has changed.
        let Some(run) = runs.iter().rfind(|run| run.name == name && run.tier == of) else {
            return Fate::Unknown(format!("the {} gate has not run", label(of)));
        };
        seconds += run.seconds;
        match (run.verdict, run.failed_stages.first()) {
            (Verdict::Pass, _) => {}
            (Verdict::Fail, Some(stage)) if UNTESTED.contains(&stage.as_str()) => {
                return Fate::Unknown(format!("it failed in stage `{stage}`, so it was never tested"));
            }
            (Verdict::Fail, Some(stage)) => return Fate::Killed { tier: of, stage: stage.clone(), seconds },
            (Verdict::Fail | Verdict::NotRun, _) => {
                return Fate::Unknown(format!("the {} gate came to no answer", label(of)));
            }
        }
    }
    Fate::Survived { seconds }
}

fn label(tier: Tier) -> &'static str {
    match tier {
        Tier::Light => "light",
        Tier::Full => "full",
    }
}

/// How many of those whose fate is known.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Share {
    /// Found.
    pub killed: u32,
    /// Known.
    pub of: u32,
    /// What is demanded.
    pub target: f64,
}

impl Share {
    /// From 0 to 1; nothing if nothing is known.
    pub fn share(&self) -> Option<f64> {
        (self.of > 0).then(|| f64::from(self.killed) / f64::from(self.of))
    }

    /// Whether what is demanded is reached; not if nothing is known.
    pub fn reached(&self) -> bool {
        self.share().is_some_and(|share| share >= self.target)
    }
}

/// What a self-test found out.
#[derive(Clone, Debug, PartialEq)]
pub struct Score {
    /// Every defect whose fate is known, in the order of the list.
    pub mutants: Vec<MutantRecord>,
    /// Defects of which nothing is known, each with the cause.
    pub unknown: Vec<(String, String)>,
    /// The light gate alone.
    pub light: Share,
    /// Both gates; nothing if the full gate was not asked for.
    pub full: Option<Share>,
    /// Controls that were not passed, or did not run, each with the cause.
    pub refused_controls: Vec<(String, String)>,
}

impl Score {
    /// Whether the gate is good enough: targets reached, everything known, every control passed.
    pub fn good(&self) -> bool {
        let full = self.full.is_none_or(|share| share.reached());
        self.light.reached() && full && self.unknown.is_empty() && self.refused_controls.is_empty()
    }
}

/// Scores the runs on `mutants`, `tier` being the last gate that was asked for.
pub fn score(mutants: &Mutants, runs: &[Run], tier: Tier) -> Score {
    let (mut records, mut unknown, mut refused_controls) = (vec![], vec![], vec![]);
    let mut light = Share { killed: 0, of: 0, target: target(Tier::Light) };
    let mut full = Share { killed: 0, of: 0, target: target(Tier::Full) };
    for mutant in &mutants.mutant {
        let (name, class) = (mutant.name.clone(), mutant.class.clone());
        let fate = fate(runs, &name, tier);
        if mutant.kind == Kind::Control {
            match fate {
                Fate::Survived { .. } => {}
                Fate::Killed { stage, .. } => refused_controls.push((name, format!("refused by stage `{stage}`"))),
                Fate::Unknown(why) => refused_controls.push((name, why)),
            }
            continue;
        }
        match fate {
            Fate::Killed { tier: by, stage, seconds } => {
                light.killed += u32::from(by == Tier::Light);
                full.killed += 1;
                records.push(MutantRecord { name, class, killed: true, stage: Some(stage), seconds: Some(seconds) });
            }
            Fate::Survived { seconds: _ } => {
                records.push(MutantRecord { name, class, killed: false, stage: None, seconds: None });
            }
            Fate::Unknown(why) => {
                unknown.push((name, why));
                continue;
            }
        }
        light.of += 1;
        full.of += 1;
    }
    Score { mutants: records, unknown, light, full: (tier == Tier::Full).then_some(full), refused_controls }
}

/// One gate of the unmodified library, as if it were a candidate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PristineRun {
    /// Which gate.
    pub tier: Tier,
    /// With another process that takes CPU time away.
    pub loaded: bool,
    /// Which of them, from 0.
    pub number: u32,
    /// What it said.
    pub verdict: Verdict,
    /// What failed: stage and test.
    pub failed: Vec<String>,
    /// Elapsed time.
    pub seconds: f64,
}

/// How often a gate refused the unmodified library.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alarms {
    /// Which gate.
    pub tier: Tier,
    /// With another process that takes CPU time away.
    pub loaded: bool,
    /// Runs that came to an answer.
    pub runs: u32,
    /// Those that refused.
    pub false_alarms: u32,
    /// With 95% confidence the share of false alarms is not larger; from 0 to 1.
    pub upper_bound: f64,
    /// What failed then.
    pub failed: Vec<String>,
}

/// Counts false alarms by gate and load. A gate that did not run is counted as an alarm: it is no pass.
pub fn alarms(runs: &[PristineRun]) -> Vec<Alarms> {
    let mut found = vec![];
    for tier in [Tier::Light, Tier::Full] {
        for loaded in [false, true] {
            let of: Vec<&PristineRun> = runs.iter().filter(|run| run.tier == tier && run.loaded == loaded).collect();
            let alarms: Vec<&&PristineRun> = of.iter().filter(|run| run.verdict != Verdict::Pass).collect();
            let (count, false_alarms) = (of.len() as u32, alarms.len() as u32);
            let Ok(upper_bound) = clopper_pearson_upper(false_alarms, count, CONFIDENCE) else { continue };
            let failed = alarms.iter().flat_map(|run| run.failed.iter().cloned()).collect();
            found.push(Alarms { tier, loaded, runs: count, false_alarms, upper_bound, failed });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mutants::Mutant;

    fn mutant(name: &str, kind: Kind) -> Mutant {
        let class = if kind == Kind::Control { "none" } else { "leak" };
        Mutant {
            name: name.into(),
            kind,
            class: class.into(),
            files: vec!["buffer.c".into()],
            what: "w".into(),
            effect: "e".into(),
            upstream: None,
            needs: None,
        }
    }

    fn run(name: &str, tier: Tier, failed: &[&str]) -> Run {
        let verdict = if failed.is_empty() { Verdict::Pass } else { Verdict::Fail };
        let failed_stages = failed.iter().map(|stage| (*stage).to_owned()).collect();
        Run { name: name.into(), tier, verdict, failed_stages, failed: vec![], seconds: 2.0 }
    }

    #[test]
    fn who_killed_whom() {
        let runs = [
            run("a", Tier::Light, &["epoll", "model-tests"]),
            run("b", Tier::Light, &[]),
            run("b", Tier::Full, &["poll"]),
            run("c", Tier::Light, &[]),
            run("c", Tier::Full, &[]),
            run("d", Tier::Light, &["build"]),
            run("e", Tier::Light, &[]),
        ];
        let killed = |tier, stage: &str, seconds| Fate::Killed { tier, stage: stage.into(), seconds };
        assert_eq!(fate(&runs, "a", Tier::Full), killed(Tier::Light, "epoll", 2.0));
        assert_eq!(fate(&runs, "b", Tier::Full), killed(Tier::Full, "poll", 4.0));
        assert_eq!(fate(&runs, "b", Tier::Light), Fate::Survived { seconds: 2.0 });
        assert_eq!(fate(&runs, "c", Tier::Full), Fate::Survived { seconds: 4.0 });
        for name in ["d", "e", "f"] {
            assert!(matches!(fate(&runs, name, Tier::Full), Fate::Unknown(_)), "{name}");
        }
        let lost = Run { verdict: Verdict::NotRun, ..run("g", Tier::Light, &[]) };
        assert!(matches!(fate(&[lost], "g", Tier::Light), Fate::Unknown(_)));
    }

    #[test]
    fn the_score_forgives_nothing() {
        let names = ["a", "b", "c", "d", "e"];
        let mut mutant_list: Vec<Mutant> = names.iter().map(|name| mutant(name, Kind::Defect)).collect();
        mutant_list.push(mutant("control", Kind::Control));
        let mutants = Mutants { mutant: mutant_list };
        let mut runs: Vec<Run> = names[..4].iter().map(|name| run(name, Tier::Light, &["epoll"])).collect();
        runs.push(run("e", Tier::Light, &[]));
        let light = |runs: &[Run]| score(&mutants, runs, Tier::Light);
        assert!(!light(&runs).good(), "the control has not run");
        runs.push(run("control", Tier::Light, &[]));
        let found = light(&runs);
        assert_eq!((found.light.killed, found.light.of, found.full), (4, 5, None));
        assert!(found.good(), "80% is the target");
        assert_eq!(found.mutants[4].stage, None);
        assert_eq!(found.mutants[4].seconds, None);
        assert_eq!(found.mutants.len(), 5, "controls are no defects");

        let full = score(&mutants, &runs, Tier::Full);
        assert_eq!(full.unknown.len(), 1, "e survived light, and its full gate has not run");
        assert!(!full.good());
        runs.extend([run("e", Tier::Full, &["poll"]), run("control", Tier::Full, &[])]);
        let full = score(&mutants, &runs, Tier::Full);
        assert_eq!(full.full.unwrap().share(), Some(1.0));
        assert!(full.good());

        runs.push(run("control", Tier::Full, &["thread"]));
        assert!(!score(&mutants, &runs, Tier::Full).good(), "a control that is refused");
        let nothing = score(&Mutants { mutant: vec![] }, &[], Tier::Light);
        assert_eq!(nothing.light.share(), None);
        assert!(!nothing.good(), "nothing tested is nothing shown");
    }

    #[test]
    fn false_alarms_with_their_bound() {
        let run = |tier, loaded, number, verdict| PristineRun {
            tier,
            loaded,
            number,
            verdict,
            failed: if verdict == Verdict::Pass { vec![] } else { vec![format!("epoll: {number}")] },
            seconds: 1.0,
        };
        let mut runs: Vec<PristineRun> = (0..60).map(|n| run(Tier::Light, false, n, Verdict::Pass)).collect();
        runs.push(run(Tier::Full, true, 0, Verdict::Fail));
        runs.push(run(Tier::Full, true, 1, Verdict::NotRun));
        let found = alarms(&runs);
        assert_eq!(found.len(), 2, "nothing is said of what was not tried");
        assert_eq!((found[0].runs, found[0].false_alarms), (60, 0));
        assert!((found[0].upper_bound - 0.0487).abs() < 1e-3, "{}", found[0].upper_bound);
        assert_eq!((found[1].runs, found[1].false_alarms, found[1].loaded), (2, 2, true));
        assert_eq!(found[1].failed, ["epoll: 0", "epoll: 1"]);
        assert_eq!(alarms(&[]), []);
    }
}
