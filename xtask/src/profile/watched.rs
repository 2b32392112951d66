//! A session with a worker under a profiler, whose errors tell the workload's from the host's: a crash, a hang or wrong work is an error
//! of the workload ([`Exit::Failed`]); what the kernel, a tool or the disk refuses leaves a phase undone.

use crate::exit::{Exit, exit_of, failure};
use crate::session::{self, Surroundings};
use crate::worker::Worker;
use anyhow::Result;
use model::protocol::{Batches, Bye, Counted};
use model::workload::WorkloadSpec;
use std::process::Command;
use std::time::{Duration, Instant};

/// A running worker.
pub(crate) struct Session {
    inner: session::Session,
    /// Around the worker is a tracer, which slows it down many times over: with `limit`, the time that it may take without one, it is no
    /// hang of the workload.
    traced: Option<Duration>,
}

impl Session {
    pub(super) fn start(worker: &Worker, workload: &str, surroundings: &Surroundings<'_>) -> Result<Session> {
        let inner = session::Session::start(worker, workload, surroundings).map_err(of_workload)?;
        Ok(Session { inner, traced: None })
    }

    /// With a library that was loaded before it.
    pub(super) fn start_preloaded(
        command: &mut Command,
        worker: &Worker,
        workload: &str,
        limit: Duration,
    ) -> Result<Session> {
        let inner = session::Session::start_command(command, worker, workload, limit).map_err(of_workload)?;
        Ok(Session { inner, traced: None })
    }

    /// With a tracer around it: that it does not start is the tracer's error, since the worker has started without.
    pub(super) fn start_command(
        command: &mut Command,
        worker: &Worker,
        workload: &str,
        limit: Duration,
    ) -> Result<Session> {
        let inner = session::Session::start_command(command, worker, workload, limit)?;
        Ok(Session { inner, traced: Some(limit) })
    }

    pub(super) fn pid(&self) -> u32 {
        self.inner.pid()
    }

    pub(super) fn batches_of(&mut self, spec: &WorkloadSpec, count: u64) -> Result<Batches> {
        let began = Instant::now();
        let done = self.inner.batches_of(spec, count);
        self.told(began, done)
    }

    pub(super) fn marks(&mut self, count: u64) -> Result<Counted> {
        let began = Instant::now();
        let done = self.inner.marks(count);
        self.told(began, done)
    }

    /// Errors of `at_stop` are not the workload's.
    pub(super) fn stops(&mut self, count: u64, mut at_stop: impl FnMut(u64) -> Result<()>) -> Result<Counted> {
        let (began, mut own) = (Instant::now(), None);
        let done = self.inner.stops(count, |number| {
            at_stop(number).map_err(|error| {
                let message = format!("{error:#}");
                own = Some(error);
                anyhow::anyhow!(message)
            })
        });
        match own {
            Some(error) => Err(error),
            None => self.told(began, done),
        }
    }

    pub(super) fn quit(self) -> Result<Bye> {
        self.inner.quit().map_err(of_workload)
    }

    fn told<T>(&self, began: Instant, done: Result<T>) -> Result<T> {
        let slowed_down = self.traced.is_some_and(|limit| began.elapsed() >= limit);
        done.map_err(|error| if slowed_down { error } else { of_workload(error) })
    }
}

/// An error of a session is the workload's, unless the system says so, or somebody else has said whose it is (an interrupt).
pub(super) fn of_workload(error: anyhow::Error) -> anyhow::Error {
    let of_system = error.chain().any(|cause| cause.is::<std::io::Error>());
    if of_system || exit_of(&error) != Exit::Infrastructure {
        return error;
    }
    failure(Exit::Failed, format!("{error:#}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context as _;

    #[test]
    fn what_a_worker_does_wrong_is_the_workloads_and_what_the_host_refuses_is_not() {
        let wrong = of_workload(anyhow::anyhow!("wrong work: the worker tells the checksum 1, not 2"));
        assert_eq!((exit_of(&wrong), wrong.to_string().contains("checksum 1")), (Exit::Failed, true));
        let full: Result<()> = Err(std::io::Error::from_raw_os_error(libc::ENOSPC).into());
        let full = full.context("cannot make a temporary file").unwrap_err();
        assert_eq!(exit_of(&of_workload(full)), Exit::Infrastructure);
        let interrupted = failure(Exit::Interrupted, "interrupted").context("reading");
        assert_eq!(exit_of(&of_workload(interrupted)), Exit::Interrupted);
    }
}
