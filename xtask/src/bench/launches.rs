//! Timed launches: fresh processes, sides alternating, every launch in a layout of its own.

use super::plan::{Batches, draw};
use super::subject::Subject;
use crate::host::external::Snapshot;
use crate::records::RunFolder;
use crate::session::{Session, Surroundings};
use crate::worker::Worker;
use anyhow::{Context as _, Result};
use model::record::{Launch, Role};
use model::workload::WorkloadSpec;

/// Largest number of bytes that a launch adds to the environment: some pages of stack.
const MOST_ENVIRONMENT_BYTES: u64 = 8192;

/// What both sides of a pair share.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pair {
    /// Number of the launch.
    pub(crate) number: u32,
    /// Order of libevent's functions.
    pub(crate) layout_seed: u64,
    /// Size of the environment.
    pub(crate) environment_bytes: usize,
    /// The candidate goes first.
    pub(crate) candidate_first: bool,
}

impl Pair {
    /// Draws a pair of launches. Within two consecutive pairs each side goes first once, so that a
    /// drift of the host hits both sides alike; which one starts is drawn.
    pub(crate) fn draw(seed: u64, number: u32) -> Pair {
        let n = u64::from(number);
        let first_of_two = draw(seed, "order", n / 2) & 1 == 1;
        Pair {
            number,
            layout_seed: draw(seed, "layout", n),
            environment_bytes: (draw(seed, "environment", n) % MOST_ENVIRONMENT_BYTES) as usize,
            candidate_first: first_of_two ^ (n % 2 == 1),
        }
    }

    /// The roles in the order in which they run.
    pub(crate) fn order(&self) -> [Role; 2] {
        if self.candidate_first { [Role::Candidate, Role::Baseline] } else { [Role::Baseline, Role::Candidate] }
    }
}

/// Links every subject in the layout of the pair; the two sides get the same one.
pub(crate) fn link<'a>(subjects: &'a [Subject], pair: &Pair) -> Result<Vec<(&'a Subject, Worker)>> {
    subjects.iter().map(|subject| Ok((subject, subject.link(pair.layout_seed)?))).collect()
}

/// Removes linked workers that are not needed any more.
pub(crate) fn remove(linked: &[(&Subject, Worker)]) -> Result<()> {
    linked.iter().try_for_each(|(_, worker)| {
        std::fs::remove_file(&worker.program).with_context(|| format!("cannot remove {}", worker.program.display()))
    })
}

/// One launch: started, warmed up, timed, ended.
pub(crate) fn launch(
    worker: &Worker,
    spec: &WorkloadSpec,
    pair: &Pair,
    position: u8,
    batches: Batches,
    surroundings: &Surroundings<'_>,
) -> Result<Launch> {
    let surroundings = Surroundings { environment_bytes: pair.environment_bytes, ..*surroundings };
    let mut session = Session::start(worker, &spec.name, &surroundings)?;
    session.batches_of(spec, batches.warm_up)?;
    let live = [session.pid()];
    let before = Snapshot::take(&live);
    let done = session.batches_of(spec, batches.timed)?;
    let external = before.until(&Snapshot::take(&live), Some(surroundings.pinning.worker));
    let backend = session.ready.backend.clone();
    let bye = session.quit()?;
    Ok(Launch {
        launch: pair.number,
        position,
        layout_seed: pair.layout_seed,
        environment_bytes: pair.environment_bytes,
        backend,
        batch_events: spec.batch_events,
        cpu_time_ns: done.samples.iter().map(|sample| sample.cpu_time_ns).collect(),
        wall_time_ns: done.samples.iter().map(|sample| sample.wall_time_ns).collect(),
        usage: done.usage,
        latency: done.latency,
        extra: done.extra,
        peak_rss_kib: bye.peak_rss_kib,
        external,
    })
}

/// Writes a finished launch to the run's journal at once, so that no death of the harness loses it.
pub(crate) fn journal(folder: &RunFolder, workload: &str, role: Role, launch: &Launch) -> Result<()> {
    folder.append(&serde_json::json!({ "workload": workload, "role": role, "launch": launch }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_side_goes_first_equally_often_and_pairs_differ() {
        let pairs: Vec<Pair> = (0..40).map(|n| Pair::draw(9, n)).collect();
        assert_eq!(pairs.iter().filter(|pair| pair.candidate_first).count(), 20);
        assert!(
            pairs.chunks(2).any(|two| two[0].candidate_first) && pairs.chunks(2).any(|two| !two[0].candidate_first)
        );
        let layouts: std::collections::BTreeSet<u64> = pairs.iter().map(|pair| pair.layout_seed).collect();
        assert_eq!(layouts.len(), 40);
        assert_eq!(Pair::draw(9, 3).layout_seed, pairs[3].layout_seed, "a seed repeats its draws");
    }
}
