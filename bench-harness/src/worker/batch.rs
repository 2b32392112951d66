//! One workload, set up, whose every batch is checked.

use super::busy::Iterations;
use super::clock::Instant;
use super::probe::Probe;
use crate::{LatencyHistogram, Workload, registry};
use anyhow::{Context, Result, bail};
use model::protocol::{Latency, Sample};
use model::workload::{Checksum, WorkloadSpec};
use std::collections::BTreeMap;
use std::ffi::c_int;

/// A workload that is ready to do batches. Dropping it tears the workload down.
pub struct Checked {
    spec: WorkloadSpec,
    workload: Box<dyn Workload>,
    /// Batches done since set-up, the one in progress included.
    batches: u64,
    /// Work beside the workload's own, in every timed batch: see [`busy`](super::busy).
    busy: Iterations,
    probe: Probe,
}

impl Checked {
    /// Sets the workload of that name up.
    pub fn set_up(spec: WorkloadSpec) -> Result<Self> {
        let workload = registry::build(&spec)?;
        Checked::new(spec, workload)
    }

    /// Takes a workload that is set up; refuses one whose own model disagrees with its description, and
    /// one whose work, looked at closely, is wrong ([`Workload::verify`]).
    pub fn new(spec: WorkloadSpec, mut workload: Box<dyn Workload>) -> Result<Self> {
        let modelled = Checksum(workload.expected_checksum());
        if modelled != spec.checksum {
            bail!(
                "workload `{}` declares the checksum {}, but its own model computes {modelled}",
                spec.name,
                spec.checksum
            );
        }
        workload.verify().with_context(|| format!("workload `{}`, looked at closely", spec.name))?;
        Ok(Checked { spec, workload, batches: 0, busy: Iterations(0), probe: Probe::new() })
    }

    /// The description it was made from.
    pub fn spec(&self) -> &WorkloadSpec {
        &self.spec
    }

    /// Does, times and checks one batch. An error voids the run: the workload's state is unknown then.
    pub fn batch(&mut self) -> Result<Sample> {
        self.batches += 1;
        self.checked_batch().with_context(|| format!("workload `{}`, batch {}", self.spec.name, self.batches))
    }

    fn checked_batch(&mut self) -> Result<Sample> {
        self.workload.prepare().context("preparing")?;
        let busy = self.busy;
        let probe_before_ns = self.probe.time_ns();
        let before = Instant::before();
        let result = bench_timed_batch(self.workload.as_mut());
        busy.run();
        let after = Instant::after();
        let probe_after_ns = self.probe.time_ns();
        let (events, checksum) = self.check(result)?;
        let (wall_time_ns, cpu_time_ns) = after.since(before);
        Ok(Sample { wall_time_ns, cpu_time_ns, events, checksum, probe_ns: probe_before_ns.max(probe_after_ns) })
    }

    /// Does and checks one batch, with a sign to whoever counts at both ends of its work.
    pub fn signed_batch(&mut self, sign: &Sign) -> Result<()> {
        self.batches += 1;
        self.workload
            .prepare()
            .context("preparing")
            .and_then(|()| {
                sign.give();
                let result = bench_timed_batch(self.workload.as_mut());
                sign.give();
                self.check(result).map(drop)
            })
            .with_context(|| format!("workload `{}`, batch {}", self.spec.name, self.batches))
    }

    /// Compares the work of a batch with what it should have been.
    fn check(&mut self, events: Result<u64>) -> Result<(u64, Checksum)> {
        let events = events?;
        let checksum = Checksum(self.workload.finish().context("checking")?);
        if events != self.spec.batch_events {
            bail!("expected {} events, got {events}", self.spec.batch_events);
        }
        if checksum != self.spec.checksum {
            bail!("expected checksum {}, got {checksum}", self.spec.checksum);
        }
        Ok((events, checksum))
    }

    /// Makes every timed batch from now on longer by this much.
    pub fn slow_down(&mut self, busy: Iterations) {
        self.busy = busy;
    }

    /// Latencies since the last call, as a message.
    pub fn take_latency(&mut self) -> Option<Latency> {
        self.workload.take_latencies().filter(|histogram| !histogram.is_empty()).map(|histogram| latency(&histogram))
    }

    /// Further figures since the last call.
    pub fn take_extra(&mut self) -> BTreeMap<String, f64> {
        self.workload.take_extra()
    }
}

/// A system call that somebody outside sees: kill(2) of this process.
#[derive(Clone, Copy, Debug)]
pub struct Sign {
    process: libc::pid_t,
    signal: c_int,
}

impl Sign {
    /// Stops the process until somebody continues it.
    pub fn stop() -> Self {
        Sign::with(libc::SIGSTOP)
    }

    /// Does nothing but show in a trace.
    pub fn mark() -> Self {
        Sign::with(0)
    }

    fn with(signal: c_int) -> Self {
        // SAFETY: getpid has no preconditions. Asked for here, so that giving a sign is one call.
        Sign { process: unsafe { libc::getpid() }, signal }
    }

    #[inline]
    fn give(self) {
        // SAFETY: a signal to this very process: SIGSTOP, or none at all.
        unsafe { libc::kill(self.process, self.signal) };
    }
}

/// The timed region. A function of its own with a plain name, so that callgrind can count exactly
/// this (`--toggle-collect=bench_timed_batch`) and stacks of profilers have a common root.
#[unsafe(no_mangle)]
#[inline(never)]
fn bench_timed_batch(workload: &mut dyn Workload) -> Result<u64> {
    workload.run()
}

fn latency(histogram: &LatencyHistogram) -> Latency {
    let buckets = histogram.iter_recorded().map(|bucket| (bucket.value_iterated_to(), bucket.count_at_value()));
    Latency {
        count: histogram.len(),
        p50_ns: histogram.value_at_quantile(0.50),
        p95_ns: histogram.value_at_quantile(0.95),
        p99_ns: histogram.value_at_quantile(0.99),
        max_ns: histogram.max(),
        buckets: buckets.collect(),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use model::workload::Metric;

    /// A workload that does what the test tells it.
    pub(crate) struct Told {
        pub(crate) events: u64,
        pub(crate) checksum: u64,
        pub(crate) latencies_ns: Vec<u64>,
        pub(crate) close_look: std::result::Result<(), &'static str>,
    }

    impl Told {
        fn new(events: u64, checksum: u64) -> Self {
            Told { events, checksum, latencies_ns: vec![], close_look: Ok(()) }
        }
    }

    impl Workload for Told {
        fn verify(&mut self) -> Result<()> {
            self.close_look.map_err(anyhow::Error::msg)
        }
        fn run(&mut self) -> Result<u64> {
            Ok(self.events)
        }
        fn finish(&mut self) -> Result<u64> {
            Ok(self.checksum)
        }
        fn expected_checksum(&self) -> u64 {
            7
        }
        fn take_latencies(&mut self) -> Option<LatencyHistogram> {
            let mut histogram = LatencyHistogram::new(3).unwrap();
            self.latencies_ns.drain(..).for_each(|latency| histogram.record(latency).unwrap());
            Some(histogram)
        }
    }

    pub(crate) fn spec() -> WorkloadSpec {
        WorkloadSpec {
            name: "told".into(),
            kind: "told".into(),
            params: toml::Table::new(),
            event: "nothing".into(),
            batch_events: 10,
            checksum: Checksum(7),
            metric: Metric::CpuTime,
            peer_process: false,
            threads: false,
            needs: None,
            exact_counts: false,
        }
    }

    pub(crate) fn told(events: u64, checksum: u64) -> Checked {
        Checked::new(spec(), Box::new(Told::new(events, checksum))).unwrap()
    }

    #[test]
    fn a_correct_batch_is_a_sample() {
        let sample = told(10, 7).batch().unwrap();
        assert_eq!((sample.events, sample.checksum), (10, Checksum(7)));
    }

    #[test]
    fn a_signed_batch_is_checked_like_a_timed_one() {
        told(10, 7).signed_batch(&Sign::mark()).unwrap();
        assert!(told(9, 7).signed_batch(&Sign::mark()).is_err());
        assert!(told(10, 8).signed_batch(&Sign::mark()).is_err());
    }

    #[test]
    fn wrong_work_is_an_error_that_says_where_and_what() {
        let few = format!("{:#}", told(9, 7).batch().unwrap_err());
        assert!(few.contains("`told`, batch 1") && few.contains("expected 10 events, got 9"), "{few}");
        let wrong = format!("{:#}", told(10, 8).batch().unwrap_err());
        assert!(wrong.contains("expected checksum 0x0000000000000007, got 0x0000000000000008"), "{wrong}");
    }

    #[test]
    fn a_description_that_contradicts_the_model_is_refused() {
        let spec = WorkloadSpec { checksum: Checksum(6), ..spec() };
        let told = Told::new(10, 6);
        let error = Checked::new(spec, Box::new(told)).err().unwrap().to_string();
        assert!(error.contains("declares") && error.contains("0x0000000000000007"), "{error}");
    }

    #[test]
    fn work_that_is_wrong_at_a_close_look_is_refused_before_any_batch() {
        let told = Told { close_look: Err("item 5 differs"), ..Told::new(10, 7) };
        let error = format!("{:#}", Checked::new(spec(), Box::new(told)).err().unwrap());
        assert!(error.contains("`told`") && error.contains("item 5 differs"), "{error}");
    }

    #[test]
    fn buckets_carry_the_whole_distribution() {
        let latencies_ns = (1..=1000).map(|n| n * 1000).collect();
        let mut checked = Checked::new(spec(), Box::new(Told { latencies_ns, ..Told::new(10, 7) })).unwrap();
        let latency = checked.take_latency().unwrap();
        assert_eq!(latency.count, 1000);
        assert_eq!(latency.buckets.iter().map(|(_, count)| count).sum::<u64>(), 1000);
        assert!(latency.buckets.is_sorted());
        assert!(latency.p50_ns < latency.p95_ns && latency.p95_ns < latency.p99_ns && latency.p99_ns <= latency.max_ns);
        let error = latency.p99_ns.abs_diff(990_000);
        assert!(error * 100 < 990_000, "p99 {} is not within 1% of 990000", latency.p99_ns);
        assert!(checked.take_latency().is_none(), "latencies are handed out once");
    }
}
