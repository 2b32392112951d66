//! Workloads over libevent and the worker program that times them.
//!
//! A workload is data (`config/workloads.toml`, [`model::workload::WorkloadSpec`]) plus code (a
//! [`Workload`] made by a constructor that is registered under the workload's `kind`). The code is
//! compiled once into a static library; xtask links it against every variant's libevent, so that
//! two sides of a comparison differ in libevent alone.

pub mod checksum;
pub mod client;
mod cpus;
pub mod latency;
pub mod params;
pub mod registry;
pub mod user;
pub mod worker;
pub mod workloads;

use hdrhistogram::Histogram;
use std::collections::BTreeMap;

/// Latencies in ns, from 1 ns to 100 s, with three significant digits.
pub type LatencyHistogram = Histogram<u64>;

/// A piece of work that can be repeated, timed and checked.
///
/// A batch is `prepare`, `run`, `finish`; only `run` is timed. Every batch of a workload does the
/// same work, whatever ran before it, so every batch has the same checksum.
pub trait Workload {
    /// Does the work of a batch once more than any figure needs, looking at every single thing that
    /// libevent delivers, byte by byte. Not timed; called once, after the set-up and before any timed
    /// batch, so that what `run` and `finish` have no time to look at cannot be wrong unnoticed.
    ///
    /// Whatever it does, the next `prepare` finds what it would have found without it. An error voids
    /// the run. The default does nothing: for workloads whose checksum covers everything already.
    fn verify(&mut self) -> anyhow::Result<()> {
        Ok(())
    }

    /// Brings the state to the start of a batch. Not timed.
    fn prepare(&mut self) -> anyhow::Result<()> {
        Ok(())
    }

    /// Does one batch; returns the number of events done. Timed: nothing here but the work, and
    /// what must be kept of it to check it afterwards.
    fn run(&mut self) -> anyhow::Result<u64>;

    /// Checks the work of the batch and returns its checksum, which depends on what libevent
    /// delivered (bytes, counts, order). Not timed. An error voids the run.
    fn finish(&mut self) -> anyhow::Result<u64>;

    /// The checksum that a batch must have, computed from the parameters alone by a plain model
    /// that does not call libevent.
    fn expected_checksum(&self) -> u64;

    /// Latencies recorded since the last call, of workloads that record them.
    fn take_latencies(&mut self) -> Option<LatencyHistogram> {
        None
    }

    /// Further figures since the last call, by name, each ending in its unit.
    fn take_extra(&mut self) -> BTreeMap<String, f64> {
        BTreeMap::new()
    }
}
