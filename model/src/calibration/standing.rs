//! Which calibration a verdict stands on, and how far: pure.

use super::{Calibration, FormResult, NoiseFloor, upper_bound_pct};
use crate::host::HostFingerprint;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A length that differs by less is the same one.
const SAME_LENGTH: f64 = 1e-3;

/// The part of a calibration that goes with a verdict.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Standing {
    /// Host id of the calibration.
    pub host: String,
    /// RFC 3339, UTC.
    pub finished_at: String,
    /// Comparisons of equal things, over all forms, of one length: the shortest that is no shorter than this comparison's,
    /// or the longest.
    pub comparisons: u32,
    /// Of these, a change was found.
    pub false_positives: u32,
    /// The true share is below this with 95% confidence.
    pub upper_bound_pct: Option<f64>,
    /// Time that each workload of these comparisons had; several where a record did not tell them apart.
    pub budgets_s: Vec<f64>,
    /// Noise floors of the workloads that were compared, of a length chosen in the same way; none of another host.
    pub noise_floor_pct: BTreeMap<String, f64>,
    /// Those of them that widen margins of guards: of this method and compiler, of comparisons that were no shorter, of
    /// enough estimates. In records that were made before this was told, all of the above did.
    #[serde(default)]
    pub guard_floor_pct: BTreeMap<String, f64>,
    /// Why not all of them do; null if they do.
    #[serde(default)]
    pub floors_unused: Option<String>,
    /// How this host, harness or compiler differs from the calibrated one; empty if it does not.
    pub differs: Vec<String>,
}

/// A comparison that is to stand on a calibration.
#[derive(Clone, Copy, Debug)]
pub struct Here<'a> {
    /// Where it is made.
    pub host: &'a HostFingerprint,
    /// Compiler of the baseline.
    pub compiler: &'a str,
    /// Build id of the baseline.
    pub build: &'a str,
    /// SHA-256 of what measures and decides.
    pub method_sha256: &'a str,
    /// Names of its workloads.
    pub names: &'a [&'a str],
    /// Time for each of them.
    pub budget_s: f64,
    /// Estimates that a noise floor needs before it widens a margin.
    pub floor_estimates: u32,
}

/// The calibration that fits a comparison best: of its host, method and compiler, with the most of its workloads, of its
/// build, of comparisons that are no shorter, with the most of them, the newest; in this order.
pub fn best<'a>(all: &'a [Calibration], here: &Here<'_>) -> Option<&'a Calibration> {
    all.iter().max_by_key(|calibration| {
        let known = here.names.iter().filter(|name| calibration.knows(name)).count();
        let (rows, budgets_s) = calibration.rows(here.budget_s);
        (
            calibration.host.id == here.host.id,
            calibration.method_sha256 == here.method_sha256,
            calibration.compiler == here.compiler,
            known,
            calibration.build == here.build,
            budgets_s.iter().any(|budget_s| is_enough(*budget_s, here.budget_s)),
            rows.iter().map(|row| row.comparisons).sum::<u32>(),
            &calibration.finished_at,
        )
    })
}

impl Calibration {
    /// What goes with a verdict of such a comparison.
    pub fn standing(&self, here: &Here<'_>) -> Standing {
        let (rows, budgets_s) = self.rows(here.budget_s);
        let comparisons = rows.iter().map(|row| row.comparisons).sum();
        let false_positives = rows.iter().map(|row| row.false_positives).sum();
        let is_here = self.host.id == here.host.id;
        let floors: BTreeMap<String, NoiseFloor> = here
            .names
            .iter()
            .filter(|_| is_here)
            .filter_map(|name| Some(((*name).to_owned(), self.floor(name, here.budget_s)?)))
            .collect();
        let unused = |floor: &NoiseFloor| self.unused(floor, here);
        Standing {
            host: self.host.id.clone(),
            finished_at: self.finished_at.clone(),
            comparisons,
            false_positives,
            upper_bound_pct: upper_bound_pct(false_positives, comparisons),
            budgets_s,
            noise_floor_pct: floors.iter().filter_map(|(name, floor)| Some((name.clone(), floor.pct?))).collect(),
            guard_floor_pct: floors
                .iter()
                .filter(|(_, floor)| unused(floor).is_none())
                .filter_map(|(name, floor)| Some((name.clone(), floor.pct?)))
                .collect(),
            floors_unused: floors.values().find_map(unused),
            differs: self.differs(here),
        }
    }

    fn knows(&self, name: &str) -> bool {
        self.workloads.iter().any(|result| result.workload == name)
    }

    /// Comparisons of equal things of the length that is nearest to `budget_s`, and that length; all of them, and their
    /// lengths, where they are not told apart.
    fn rows(&self, budget_s: f64) -> (Vec<&FormResult>, Vec<f64>) {
        let lengths = self.forms.iter().filter(|row| row.comparisons > 0).filter_map(|row| row.budget_s);
        if let Some(nearest) = nearest(lengths, budget_s) {
            let of_length = |row: &&FormResult| row.budget_s.is_some_and(|length| is_same(length, nearest));
            return (self.forms.iter().filter(of_length).collect(), vec![nearest]);
        }
        let mut all: Vec<f64> = self.workloads.iter().filter_map(|result| result.noise_floor_budget_s).collect();
        all.sort_by(f64::total_cmp);
        all.dedup();
        (self.forms.iter().collect(), all)
    }

    /// A workload's noise floor of the length that is nearest to `budget_s`.
    fn floor(&self, name: &str, budget_s: f64) -> Option<NoiseFloor> {
        let result = self.workloads.iter().find(|result| result.workload == name)?;
        let known = || result.noise_floors.iter().filter(|floor| floor.pct.is_some());
        if let Some(nearest) = nearest(known().map(|floor| floor.budget_s), budget_s) {
            return known().find(|floor| is_same(floor.budget_s, nearest)).copied();
        }
        // A record that does not say of how many estimates it is: it is shown, and of none as far as is known.
        let floor = NoiseFloor { budget_s: result.noise_floor_budget_s?, estimates: 0, pct: result.noise_floor_pct };
        floor.pct.map(|_| floor)
    }

    /// Why a floor of this host widens no margin; `None` if it does. A floor of shorter comparisons is too wide: the
    /// longer one sees more. One of another method or compiler is of something else.
    fn unused(&self, floor: &NoiseFloor, here: &Here<'_>) -> Option<String> {
        if self.method_sha256 != here.method_sha256 {
            Some("they are of the harness before it changed".to_owned())
        } else if self.compiler != here.compiler {
            Some("they are of another compiler".to_owned())
        } else if !is_enough(floor.budget_s, here.budget_s) {
            Some(format!("they are of {} s a workload, and this comparison has {} s", floor.budget_s, here.budget_s))
        } else if floor.estimates < here.floor_estimates {
            Some(format!("not each is of {} estimates or more", here.floor_estimates))
        } else {
            None
        }
    }

    fn differs(&self, here: &Here<'_>) -> Vec<String> {
        let mut differs = Vec::new();
        if self.host.id != here.host.id {
            differs.extend(host_differences(&self.host, here.host));
        }
        if self.compiler != here.compiler {
            differs.push(format!("it was made with {}, this comparison with {}", self.compiler, here.compiler));
        } else if self.build != here.build {
            differs.push(format!("it compared build {}, the baseline here is build {}", self.build, here.build));
        }
        if self.method_sha256 != here.method_sha256 {
            differs.push("the harness has changed since".to_owned());
        }
        let unknown = here.names.iter().filter(|name| !self.knows(name)).count();
        if unknown > 0 {
            differs.push(format!("{unknown} of the {} workloads compared here are not in it", here.names.len()));
        }
        differs
    }
}

/// The shortest length that is no shorter than `wanted`, or the longest.
fn nearest(lengths: impl Iterator<Item = f64>, wanted: f64) -> Option<f64> {
    let all: Vec<f64> = lengths.collect();
    let enough = all.iter().copied().filter(|length| is_enough(*length, wanted)).reduce(f64::min);
    enough.or(all.iter().copied().reduce(f64::max))
}

fn is_enough(length: f64, wanted: f64) -> bool {
    length >= wanted - SAME_LENGTH
}

fn is_same(a: f64, b: f64) -> bool {
    (a - b).abs() < SAME_LENGTH
}

/// In words, what makes two hosts different ones.
pub fn host_differences(calibrated: &HostFingerprint, here: &HostFingerprint) -> Vec<String> {
    let parts = [
        ("CPU", &calibrated.cpu_model, &here.cpu_model),
        ("microcode", &calibrated.cpu_microcode, &here.cpu_microcode),
        ("kernel", &calibrated.kernel_release, &here.kernel_release),
        ("compiler", &calibrated.compiler, &here.compiler),
        ("linker", &calibrated.linker, &here.linker),
        ("C library", &calibrated.libc, &here.libc),
        ("rustc", &calibrated.rustc, &here.rustc),
        ("governor", &calibrated.governor, &here.governor),
        ("hypervisor", &calibrated.hypervisor, &here.hypervisor),
    ];
    let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "unknown".to_owned());
    let mut differences: Vec<String> = parts
        .into_iter()
        .filter(|(_, then, now)| then != now)
        .map(|(what, then, now)| format!("{what}: {} then, {} now", shown(then), shown(now)))
        .collect();
    if calibrated.cores_allowed != here.cores_allowed {
        let cores = |host: &HostFingerprint| host.cores_allowed.map_or("?".to_owned(), |n| n.to_string());
        differences.push(format!("CPUs: {} then, {} now", cores(calibrated), cores(here)));
    }
    if differences.is_empty() {
        differences.push(format!("another host ({} then, {} now)", calibrated.id, here.id));
    }
    differences
}

#[cfg(test)]
mod tests;
