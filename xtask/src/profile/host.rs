//! What this host lets a profile see: found once, before the first launch, with the way to what it does not.

use super::sampling::Clock;
use super::symbols::Kernel;
use super::{off_cpu, syscalls};
use crate::context::Context;
use crate::host::Facts;
use crate::setup::Places;
use model::profile::Config;

/// Sources of all phases.
pub(super) struct Seen {
    /// Phases 1 and 2, or why there is none.
    pub(super) clock: Result<(Clock, Option<String>), String>,
    /// Phase 3.
    pub(super) off_cpu: (off_cpu::Source, Option<String>),
    /// Phase 4, or why there is none.
    pub(super) syscalls: Result<(syscalls::Source, Option<String>), String>,
    /// Names of the kernel's functions.
    pub(super) kernel: Kernel,
    /// callgrind, or why not.
    pub(super) callgrind: Result<(), String>,
}

impl Seen {
    /// Tries everything, as it is going to be used.
    pub(super) fn find(context: &Context, config: &Config) -> Seen {
        crate::host::counters::mount_tracefs();
        let facts = Facts::here();
        let valgrind = Places::here().program("valgrind").map(drop);
        Seen {
            clock: Clock::find(&facts, config.frequency_hz),
            off_cpu: off_cpu::Source::find(&facts),
            syscalls: syscalls::Source::find(context, &facts),
            kernel: Kernel::read(&facts),
            callgrind: valgrind.ok_or_else(|| {
                "valgrind is not installed: `cargo xtask setup --all` installs it; instructions are not attributed"
                    .to_owned()
            }),
        }
    }

    /// What is missing and how to get it, one sentence each.
    pub(super) fn missing(&self) -> Vec<String> {
        let mut missing = Vec::new();
        match &self.clock {
            Ok((clock, why)) => {
                missing.extend(why.clone());
                if !clock.kernel {
                    missing.push(
                        "the kernel cannot be sampled by this user: run as root, or as root `sysctl -w \
                         kernel.perf_event_paranoid=1`"
                            .to_owned(),
                    );
                }
            }
            Err(why) => {
                let way = "as root `sysctl -w kernel.perf_event_paranoid=-1`";
                missing.push(format!(
                    "no samples at all, the time is divided by ticks of /proc and no function is seen: {why}; {way}"
                ));
            }
        }
        missing.extend(self.off_cpu.1.clone());
        match &self.syscalls {
            Ok((_, why)) => missing.extend(why.clone()),
            Err(why) => missing.push(why.clone()),
        }
        if !self.kernel.is_named() {
            missing.push(
                "functions of the kernel have no names: /proc/kallsyms hides them from this user; run as root, or as root \
                 `sysctl -w kernel.kptr_restrict=0`"
                    .to_owned(),
            );
        }
        missing.extend(self.callgrind.clone().err());
        missing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_that_shows_nothing_is_told_how_to_show_more() {
        let folder = tempfile::tempdir().unwrap();
        let facts = Facts::below(folder.path());
        let seen = Seen {
            clock: Err("no cpu-clock: the kernel does not permit it to this user".to_owned()),
            off_cpu: off_cpu::Source::find(&facts),
            syscalls: Err(
                "no tracepoints of system calls: tracefs is not mounted; and no strace: it is missing".to_owned()
            ),
            kernel: Kernel::read(&facts),
            callgrind: Err("valgrind is not installed: `cargo xtask setup --all` installs it".to_owned()),
        };
        let missing = seen.missing().join("\n");
        for way in ["perf_event_paranoid", "mount -t tracefs", "no strace", "kptr_restrict", "setup --all"] {
            assert!(missing.contains(way), "{way}: {missing}");
        }
    }

    #[test]
    fn a_paranoid_kernel_still_shows_user_space() {
        let folder = tempfile::tempdir().unwrap();
        let facts = Facts::below(folder.path());
        let user_alone = Clock { cycles: false, kernel: false };
        let seen = Seen {
            clock: Ok((user_alone, Some("no cycles: the kernel does not permit it to this user".to_owned()))),
            off_cpu: (off_cpu::Source::Schedstat, None),
            syscalls: Ok((syscalls::Source::Strace, Some("no tracepoints of system calls".to_owned()))),
            kernel: Kernel::read(&facts),
            callgrind: Ok(()),
        };
        assert!(
            seen.missing().iter().any(|line| line.contains("kernel.perf_event_paranoid=1")),
            "{:?}",
            seen.missing()
        );
    }
}
