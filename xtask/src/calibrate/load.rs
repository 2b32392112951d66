//! Busy neighbours: processes that do nothing but take another CPU.

use crate::bench::plan::draw;
use crate::host::{Pinning, restrict};
use crate::process::Group;
use anyhow::Result;
use std::process::Command;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// What a busy process runs; the comment tells it from others.
const BUSY: &str = "while :; do :; done # busy neighbour";
/// Mean time for which a load that comes and goes is there, and for which it is not.
const MEAN: Duration = Duration::from_millis(1500);

/// A load that lasts until it is dropped.
pub(crate) struct Load {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Load {
    /// Busy all the time.
    pub(crate) fn steady(pinning: &Pinning) -> Result<Load> {
        let process = busy(pinning)?;
        Ok(Load::new(move |stopped| {
            stopped(None);
            drop(process);
        }))
    }

    /// Starts and stops at random times that nothing else depends on.
    pub(crate) fn changing(pinning: &Pinning, seed: u64) -> Result<Load> {
        // The first one here, so that a host that cannot start it is told.
        drop(busy(pinning)?);
        let pinning = pinning.clone();
        Ok(Load::new(move |stopped| {
            for number in 0.. {
                let process = if number % 2 == 0 { None } else { busy(&pinning).ok() };
                // Exponential times: when it will change tells nothing of when it changed.
                let unit = (draw(seed, "load", number) >> 11) as f64 / (1_u64 << 53) as f64;
                let time = MEAN.mul_f64(-(1.0 - unit).ln()).min(MEAN * 6);
                if stopped(Some(time)) {
                    break;
                }
                drop(process);
            }
        }))
    }

    fn new(work: impl FnOnce(&dyn Fn(Option<Duration>) -> bool) + Send + 'static) -> Load {
        let (stop, told) = channel();
        let thread = std::thread::spawn(move || {
            work(&|time| match time {
                Some(time) => !matches!(told.recv_timeout(time), Err(RecvTimeoutError::Timeout)),
                None => {
                    // Ends by an error, when the other end is dropped.
                    told.recv().is_err()
                }
            });
        });
        Load { stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic in there has been printed; there is nothing left to end.
            drop(thread.join());
        }
    }
}

/// A process that computes on the CPUs of the worker's peers.
fn busy(pinning: &Pinning) -> Result<Group> {
    let mut command = Command::new("sh");
    command.args(["-c", BUSY]);
    Group::spawn(restrict(&mut command, &pinning.peers))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::pinning;

    fn children() -> usize {
        let own = format!("{}\n", std::process::id());
        let is_ours = |pid: &str| {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let command = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            status.lines().any(|line| line.strip_prefix("PPid:\t").is_some_and(|parent| parent == own.trim()))
                && command.contains(BUSY)
        };
        let processes = std::fs::read_dir("/proc").unwrap().flatten();
        processes.filter(|entry| is_ours(&entry.file_name().to_string_lossy())).count()
    }

    #[test]
    fn a_load_is_there_while_it_lives_and_gone_after() {
        let pinning = pinning().unwrap();
        let load = Load::steady(&pinning).unwrap();
        assert_eq!(children(), 1);
        drop(load);
        assert_eq!(children(), 0);
        let changing = Load::changing(&pinning, 3).unwrap();
        let seen: Vec<usize> = (0..600)
            .map(|_| {
                std::thread::sleep(Duration::from_millis(20));
                children()
            })
            .take_while({
                let mut both = [false; 2];
                move |count| {
                    both[(*count).min(1)] = true;
                    both != [true; 2]
                }
            })
            .collect();
        assert!(seen.len() < 600, "in twelve seconds it was both there and not");
        drop(changing);
        assert_eq!(children(), 0);
    }
}
