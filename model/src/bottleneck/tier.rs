//! Tiers of techniques: the headings of playbook/program.md.

use serde::{Deserialize, Serialize};

/// A tier: techniques that attack one kind of cost. Its name is the one in playbook/program.md, which a test holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tier {
    /// Chains of evbuffers: fewer, reused, less bookkeeping.
    EvbufferDataPlane,
    /// Fewer system calls to move bytes: no FIONREAD, writes at once, no read that only says EAGAIN.
    SocketIo,
    /// How much one read may take.
    ReadCap,
    /// Fewer `epoll_ctl`.
    EpollCtl,
    /// From ready to called back: queues of active events.
    ActivationQueue,
    /// What a backend does in a loop turn.
    BackendDispatch,
    /// Locks that nobody contends for, and wake-ups that nobody needs.
    LockElision,
    /// Timers: layout of the heap, fewer changes of it, clocks.
    TimerHeap,
    /// Searching in evbuffers.
    Search,
    /// Text without vsnprintf.
    Formatting,
    /// Allocations besides chains.
    Allocation,
}

impl Tier {
    /// All, in the order of playbook/program.md.
    pub const ALL: [Tier; 11] = [
        Tier::EvbufferDataPlane,
        Tier::SocketIo,
        Tier::ReadCap,
        Tier::EpollCtl,
        Tier::ActivationQueue,
        Tier::BackendDispatch,
        Tier::LockElision,
        Tier::TimerHeap,
        Tier::Search,
        Tier::Formatting,
        Tier::Allocation,
    ];

    /// As records, config/hot-methods.toml and playbook/program.md have it.
    pub fn name(self) -> &'static str {
        match self {
            Tier::EvbufferDataPlane => "evbuffer-data-plane",
            Tier::SocketIo => "socket-io",
            Tier::ReadCap => "read-cap",
            Tier::EpollCtl => "epoll-ctl",
            Tier::ActivationQueue => "activation-queue",
            Tier::BackendDispatch => "backend-dispatch",
            Tier::LockElision => "lock-elision",
            Tier::TimerHeap => "timer-heap",
            Tier::Search => "search",
            Tier::Formatting => "formatting",
            Tier::Allocation => "allocation",
        }
    }

    /// The tier of that name.
    pub fn from_name(name: &str) -> Option<Tier> {
        Tier::ALL.into_iter().find(|tier| tier.name() == name)
    }
}

impl std::fmt::Display for Tier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}
