//! Classes of bottlenecks.

use super::Tier;
use serde::{Deserialize, Serialize};

/// What holds a workload back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// Registrations that change and change back.
    EpollChurn,
    /// Reads that stop at libevent's own limit, again and again.
    SmallReads,
    /// Waits that return nothing: the loop polls.
    EmptyWaits,
    /// Wake-ups and locks that end in the kernel (`futex`, a byte through a pipe or an eventfd).
    Wakeups,
    /// System calls, none of the kinds above.
    SyscallBound,
    /// malloc, free and what belongs to them.
    Allocation,
    /// memcpy, memmove and their kin.
    Copying,
    /// memchr, memcmp, strcasecmp and searches of evbuffers.
    Searching,
    /// vsnprintf and its kin.
    Formatting,
    /// Locks taken and given back in user space.
    Locks,
    /// Timers: the heap, common timeouts, clocks.
    Timers,
    /// The loop itself: activation, queues, callbacks, maps of descriptors, backends.
    Dispatch,
    /// Bookkeeping of chains.
    DataPlane,
    /// Parsing and making of messages, HTTP or DNS.
    Protocol,
    /// Memory: few instructions per cycle with many cache misses, and no part of the code stands out.
    CacheBound,
    /// Waiting for events: no time on the CPU to be gained.
    LatencyBound,
    /// Waiting for a CPU: the host was too busy for this profile.
    CpuStarved,
    /// The workload's own code, not libevent.
    Workload,
    /// No known figure is beyond its threshold.
    Unknown,
}

impl Class {
    /// All. Of two that explain as much, the first one here is the class.
    pub const ALL: [Class; 19] = [
        Class::EpollChurn,
        Class::SmallReads,
        Class::EmptyWaits,
        Class::Wakeups,
        Class::SyscallBound,
        Class::Allocation,
        Class::Copying,
        Class::Searching,
        Class::Formatting,
        Class::Locks,
        Class::Timers,
        Class::Dispatch,
        Class::DataPlane,
        Class::Protocol,
        Class::CacheBound,
        Class::LatencyBound,
        Class::CpuStarved,
        Class::Workload,
        Class::Unknown,
    ];

    /// As records and playbook/program.md have it.
    pub fn name(self) -> &'static str {
        match self {
            Class::EpollChurn => "epoll-churn",
            Class::SmallReads => "small-reads",
            Class::EmptyWaits => "empty-waits",
            Class::Wakeups => "wakeups",
            Class::SyscallBound => "syscall-bound",
            Class::Allocation => "allocation",
            Class::Copying => "copying",
            Class::Searching => "searching",
            Class::Formatting => "formatting",
            Class::Locks => "locks",
            Class::Timers => "timers",
            Class::Dispatch => "dispatch",
            Class::DataPlane => "data-plane",
            Class::Protocol => "protocol",
            Class::CacheBound => "cache-bound",
            Class::LatencyBound => "latency-bound",
            Class::CpuStarved => "cpu-starved",
            Class::Workload => "workload",
            Class::Unknown => "unknown",
        }
    }

    /// What decides it, in words; the thresholds are in config/bottlenecks.toml.
    pub fn decided_by(self) -> &'static str {
        match self {
            Class::EpollChurn => "share of epoll_ctl in the time (or number) of system calls; how many were redundant",
            Class::SmallReads => "share of reads that returned all they could, several of them an event",
            Class::EmptyWaits => "share of waits that returned nothing, one an event or more",
            Class::Wakeups => "futex calls of an event; time off the CPU for locks",
            Class::SyscallBound => "share of system calls in the judged time, and none of the four above",
            Class::Allocation => "share of malloc and its kin in the samples",
            Class::Copying => "share of memcpy, memmove, memset",
            Class::Searching => "share of memchr, memcmp, strlen and searches of evbuffers",
            Class::Formatting => "share of vsnprintf and its kin",
            Class::Locks => "share of locks in user space",
            Class::Timers => "share of the heap, common timeouts and clocks",
            Class::Dispatch => "share of loop, activation, maps of descriptors and backend",
            Class::DataPlane => "share of evbuffers and bufferevents themselves",
            Class::Protocol => "share of evhttp and evdns themselves",
            Class::CacheBound => {
                "few instructions per cycle with many cache misses, and no share of the code beyond its threshold"
            }
            Class::LatencyBound => "share of the wall clock off the CPU for events, where elapsed time is judged",
            Class::CpuStarved => "share of the wall clock runnable without a CPU, where elapsed time is judged",
            Class::Workload => "share of the workload's own code",
            Class::Unknown => "no known figure is beyond its threshold",
        }
    }

    /// Tiers of the playbook that attack it, the first one first. None where no technique would help.
    pub fn tiers(self) -> &'static [Tier] {
        match self {
            Class::EpollChurn => &[Tier::EpollCtl, Tier::SocketIo],
            Class::SmallReads => &[Tier::ReadCap, Tier::SocketIo],
            Class::EmptyWaits => &[Tier::BackendDispatch, Tier::ActivationQueue],
            Class::Wakeups => &[Tier::LockElision, Tier::ActivationQueue],
            Class::SyscallBound => &[Tier::SocketIo, Tier::EpollCtl, Tier::ReadCap, Tier::BackendDispatch],
            Class::Allocation => &[Tier::Allocation, Tier::EvbufferDataPlane],
            Class::Copying => &[Tier::EvbufferDataPlane, Tier::ReadCap],
            Class::Searching => &[Tier::Search],
            Class::Formatting => &[Tier::Formatting],
            Class::Locks => &[Tier::LockElision],
            Class::Timers => &[Tier::TimerHeap],
            Class::Dispatch => &[Tier::ActivationQueue, Tier::BackendDispatch],
            Class::DataPlane => &[Tier::EvbufferDataPlane],
            Class::Protocol => &[Tier::Formatting, Tier::Search, Tier::Allocation],
            Class::CacheBound => &[Tier::TimerHeap, Tier::EvbufferDataPlane],
            Class::LatencyBound | Class::CpuStarved | Class::Workload | Class::Unknown => &[],
        }
    }

    /// Whether it is one of system calls.
    pub fn is_of_syscalls(self) -> bool {
        matches!(self, Class::EpollChurn | Class::SmallReads | Class::EmptyWaits | Class::Wakeups | Class::SyscallBound)
    }

    /// The class of that name.
    pub fn from_name(name: &str) -> Option<Class> {
        Class::ALL.into_iter().find(|class| class.name() == name)
    }
}

impl std::fmt::Display for Class {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}
