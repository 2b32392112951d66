//! What to try next: the techniques of playbook/program.md, by class.

use super::{Class, Figures, Part, Tier};
use serde::{Deserialize, Serialize};

/// An experiment that the playbook suggests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Experiment {
    /// Unique name, as playbook/program.md has it.
    pub name: String,
    /// Where in the playbook it stands; `None` for a step that is no technique, such as another profile.
    pub tier: Option<Tier>,
    /// What to do, in a sentence.
    pub what: String,
    /// Workloads that show it, as patterns of `--workload`.
    pub workloads: Vec<String>,
}

/// The same as data.
pub(super) struct Suggestion {
    pub(super) name: &'static str,
    pub(super) tier: Option<Tier>,
    pub(super) classes: &'static [Class],
    pub(super) what: &'static str,
    pub(super) workloads: &'static [&'static str],
    /// The figures say that there is nothing to be gained. Unknown figures never do.
    pub(super) futile: fn(&Figures) -> bool,
}

/// What the playbook suggests for a class, in the order of its tiers, without what the figures rule out. A share of functions without
/// names that does not matter must be left out of the figures.
pub(super) fn of(class: Class, figures: &Figures) -> Vec<Experiment> {
    ordered(class)
        .filter(|suggestion| !(suggestion.futile)(figures))
        .map(|suggestion| Experiment {
            name: suggestion.name.to_owned(),
            tier: suggestion.tier,
            what: suggestion.what.to_owned(),
            workloads: suggestion.workloads.iter().map(|pattern| (*pattern).to_owned()).collect(),
        })
        .collect()
}

/// All suggestions for a class, in the order in which they are to be tried.
pub(super) fn ordered(class: Class) -> impl Iterator<Item = &'static Suggestion> {
    let tiers = class.tiers().iter().copied().map(Some).chain([None]);
    tiers.flat_map(move |tier| SUGGESTIONS.iter().filter(move |s| s.tier == tier && s.classes.contains(&class)))
}

/// All of them, for tests.
#[cfg(test)]
pub(super) fn all() -> &'static [Suggestion] {
    SUGGESTIONS
}

fn never(_: &Figures) -> bool {
    false
}

fn call_is_not_made(figures: &Figures, names: &[&str]) -> bool {
    let calls = figures.syscalls_per_event.as_ref();
    calls.is_some_and(|calls| names.iter().all(|name| calls.get(*name).is_none_or(|rate| *rate == 0.0)))
}

fn part_is_idle(figures: &Figures, parts: &[Part]) -> bool {
    // Where libraries have no names, a part that was not seen may be there.
    if figures.unnamed_library_pct.is_some() && parts.iter().any(|part| part.is_by_names_of_libraries()) {
        return false;
    }
    let shares = figures.parts.as_ref().filter(|_| figures.samples.is_some_and(|samples| samples > 0));
    shares.is_some_and(|shares| parts.iter().all(|part| shares.get(part).is_none_or(|share| *share == 0.0)))
}

fn no_epoll_ctl(figures: &Figures) -> bool {
    call_is_not_made(figures, &["epoll_ctl"])
}

fn no_http(figures: &Figures) -> bool {
    part_is_idle(figures, &[Part::Http])
}

const SUGGESTIONS: &[Suggestion] = &[
    // ---- chains of evbuffers ----
    Suggestion {
        name: "keep-drained-chain",
        tier: Some(Tier::EvbufferDataPlane),
        classes: &[Class::DataPlane, Class::Allocation],
        what: "keep the last chain when a drain empties a buffer, and write into it next time, instead of a free and a malloc",
        workloads: &["evbuffer.add_drain.*", "bufferevent.echo.*.64.*"],
        futile: |figures| figures.allocations_per_event == Some(0.0),
    },
    Suggestion {
        name: "add-fast-path",
        tier: Some(Tier::EvbufferDataPlane),
        classes: &[Class::DataPlane, Class::CacheBound],
        what: "in evbuffer_add and evbuffer_drain, leave at once where the chain in hand has room (or bytes), with no second look \
               at flags and callbacks",
        workloads: &["evbuffer.queued.*", "evbuffer.add_drain.64", "evbuffer.remove.*"],
        futile: never,
    },
    Suggestion {
        name: "no-callbacks-no-call",
        tier: Some(Tier::EvbufferDataPlane),
        classes: &[Class::DataPlane],
        what: "do not call evbuffer_invoke_callbacks_ for a buffer that has neither callbacks nor a parent",
        workloads: &["evbuffer.add_drain.64", "evbuffer.queued.64"],
        futile: never,
    },
    Suggestion {
        name: "move-chains-not-bytes",
        tier: Some(Tier::EvbufferDataPlane),
        classes: &[Class::Copying],
        what: "hand whole chains on where bytes are copied from one buffer to another",
        workloads: &["evbuffer.add_buffer.64", "bufferevent.pair.64", "bufferevent.filter.1k"],
        futile: never,
    },
    Suggestion {
        name: "bounded-chain-list",
        tier: Some(Tier::EvbufferDataPlane),
        classes: &[Class::Allocation],
        what: "keep a bounded list of freed chains of the common sizes, with a ceiling on what idle buffers hold",
        workloads: &["evbuffer.queued.*", "bufferevent.echo.*", "http.keepalive.*"],
        futile: |figures| figures.allocations_per_event == Some(0.0),
    },
    // ---- moving bytes by fewer calls ----
    Suggestion {
        name: "no-fionread",
        tier: Some(Tier::SocketIo),
        classes: &[Class::SyscallBound, Class::SmallReads],
        what: "read into the space that there is instead of asking ioctl(FIONREAD) how much is waiting",
        workloads: &["evbuffer.socket.*", "bufferevent.echo.*", "http.*"],
        futile: |figures| figures.fionread_per_event == Some(0.0),
    },
    Suggestion {
        name: "write-at-once",
        tier: Some(Tier::SocketIo),
        classes: &[Class::SyscallBound, Class::EpollChurn],
        what: "write what a bufferevent was given at the end of the callback, and wait for EV_WRITE only for what is left",
        workloads: &["bufferevent.echo.*", "http.keepalive.*"],
        futile: no_epoll_ctl,
    },
    Suggestion {
        name: "stop-after-a-short-read",
        tier: Some(Tier::SocketIo),
        classes: &[Class::SyscallBound],
        what: "take a read that returned less than it asked for as the end, without another one that returns EAGAIN",
        workloads: &["evbuffer.socket.*", "connections.*", "dns.*"],
        futile: |figures| call_is_not_made(figures, &["read", "readv", "recvfrom", "recvmsg", "accept4"]),
    },
    // ---- how much a read may take ----
    Suggestion {
        name: "adaptive-read-cap",
        tier: Some(Tier::ReadCap),
        classes: &[Class::SmallReads, Class::SyscallBound],
        what: "let the limit of one read grow with reads that were full, and shrink again",
        workloads: &["evbuffer.socket.64k", "bufferevent.echo.*.100k.*", "bufferevent.echo.*.10k.*"],
        futile: |figures| figures.full_reads_pct == Some(0.0),
    },
    Suggestion {
        name: "read-into-what-is-there",
        tier: Some(Tier::ReadCap),
        classes: &[Class::SmallReads, Class::Copying],
        what: "reserve the space of a large read in two chains at once, so that a larger limit makes no larger copies",
        workloads: &["evbuffer.socket.64k", "bufferevent.echo.*.100k.*"],
        futile: |figures| figures.full_reads_pct == Some(0.0),
    },
    // ---- registrations ----
    Suggestion {
        name: "coalesce-write-interest",
        tier: Some(Tier::EpollCtl),
        classes: &[Class::EpollChurn, Class::SyscallBound],
        what: "hold changes of interest back until the next wait, and drop those that undo each other (the changelist, made \
               safe against descriptors that are closed or duplicated in between)",
        workloads: &["epoll.churn", "bufferevent.echo.*.64.*", "cascade.chain.*"],
        futile: no_epoll_ctl,
    },
    Suggestion {
        name: "modify-instead-of-delete-and-add",
        tier: Some(Tier::EpollCtl),
        classes: &[Class::EpollChurn],
        what: "change what a descriptor is registered for by one EPOLL_CTL_MOD where a deletion is followed by an addition",
        workloads: &["epoll.churn", "epoll.add_delete"],
        futile: |figures| no_epoll_ctl(figures) || figures.epoll_ctl_redundant_pct == Some(0.0),
    },
    // ---- from ready to called back ----
    Suggestion {
        name: "fewer-looks-at-the-clock",
        tier: Some(Tier::ActivationQueue),
        classes: &[Class::Dispatch],
        what: "one look at the clock a loop turn where no timer and no limit of time needs another",
        workloads: &["active.empty_turn", "cascade.pipes.*"],
        futile: never,
    },
    Suggestion {
        name: "flat-active-queue",
        tier: Some(Tier::ActivationQueue),
        classes: &[Class::Dispatch, Class::EmptyWaits],
        what: "put active events into an array a priority instead of a linked list",
        workloads: &["active.dispatch.*", "cascade.pipes.n100.a100.w100"],
        futile: never,
    },
    Suggestion {
        name: "wake-only-who-sleeps",
        tier: Some(Tier::ActivationQueue),
        classes: &[Class::Wakeups],
        what: "notify a loop from another thread only if it is about to sleep and nobody has notified it yet",
        workloads: &["threads.active.*"],
        futile: |figures| call_is_not_made(figures, &["futex", "write", "sendto"]),
    },
    // ---- what a backend does in a turn ----
    Suggestion {
        name: "no-wait-between-events",
        tier: Some(Tier::BackendDispatch),
        classes: &[Class::EmptyWaits, Class::SyscallBound],
        what: "leave out the wait of no time where the last one returned fewer events than there was room for and active \
               events remain; a bound keeps descriptors from starving",
        workloads: &["active.dispatch.*", "limits.*", "cascade.chain.*"],
        futile: |figures| figures.empty_waits_pct == Some(0.0),
    },
    Suggestion {
        name: "room-for-all-events",
        tier: Some(Tier::BackendDispatch),
        classes: &[Class::Dispatch, Class::SyscallBound],
        what: "begin with room for more than 32 events of one wait, so that many active descriptors need one wait",
        workloads: &["cascade.pipes.n100.a100.w100", "idle.10000.active.100"],
        futile: |figures| call_is_not_made(figures, &["epoll_wait", "epoll_pwait", "epoll_pwait2"]),
    },
    // ---- locks ----
    Suggestion {
        name: "one-lock-a-callback",
        tier: Some(Tier::LockElision),
        classes: &[Class::Locks],
        what: "take a bufferevent's lock once around a callback's work, not in each function that it calls",
        workloads: &["threads.active.running.*", "bufferevent.echo.*"],
        futile: |figures| part_is_idle(figures, &[Part::Locks]),
    },
    Suggestion {
        name: "no-lock-for-one-thread",
        tier: Some(Tier::LockElision),
        classes: &[Class::Locks],
        what: "decide once, when an object is made, that it needs no lock, and branch on that instead of calling through a table",
        workloads: &["threads.active.running.p1"],
        futile: |figures| part_is_idle(figures, &[Part::Locks]),
    },
    Suggestion {
        name: "spin-before-futex",
        tier: Some(Tier::LockElision),
        classes: &[Class::Wakeups],
        what: "shorten what is done under the base's lock while it wakes, so that the other thread does not go to sleep on it",
        workloads: &["threads.active.running.p2", "threads.active.running.p4"],
        futile: |figures| call_is_not_made(figures, &["futex"]),
    },
    // ---- timers ----
    Suggestion {
        name: "inline-keys",
        tier: Some(Tier::TimerHeap),
        classes: &[Class::Timers, Class::CacheBound],
        what: "hold the time beside the pointer in each place of the heap, four children to a parent, so that a step down \
               touches one line of the cache",
        workloads: &["timers.readd.*", "timers.fire.10k"],
        futile: |figures| part_is_idle(figures, &[Part::Timers]),
    },
    Suggestion {
        name: "move-in-place",
        tier: Some(Tier::TimerHeap),
        classes: &[Class::Timers],
        what: "move a pending timer up or down where it stands instead of a removal and an insertion",
        workloads: &["timers.readd.*", "bufferevent.timeouts.64"],
        futile: |figures| part_is_idle(figures, &[Part::Timers]),
    },
    // ---- searching ----
    Suggestion {
        name: "memmem-in-a-chain",
        tier: Some(Tier::Search),
        classes: &[Class::Searching],
        what: "search each chain by memmem (a first byte by memchr), and only what spans two chains byte by byte",
        workloads: &["evbuffer.search.64k"],
        futile: |figures| part_is_idle(figures, &[Part::Searching, Part::EvbufferSearch]),
    },
    Suggestion {
        name: "remember-where-no-line-ended",
        tier: Some(Tier::Search),
        classes: &[Class::Searching, Class::Protocol],
        what: "begin the next search for an end of line where the last one gave up",
        workloads: &["evbuffer.readln", "http.*"],
        futile: |figures| part_is_idle(figures, &[Part::Searching, Part::EvbufferSearch]),
    },
    // ---- text ----
    Suggestion {
        name: "headers-without-vsnprintf",
        tier: Some(Tier::Formatting),
        classes: &[Class::Formatting, Class::Protocol],
        what: "put lines of headers together from their parts by evbuffer_add instead of evbuffer_add_printf",
        workloads: &["http.keepalive.small.*"],
        futile: |figures| part_is_idle(figures, &[Part::Formatting]),
    },
    Suggestion {
        name: "date-once-a-second",
        tier: Some(Tier::Formatting),
        classes: &[Class::Formatting, Class::Protocol],
        what: "make the text of the Date header once a second",
        workloads: &["http.keepalive.small.*"],
        futile: no_http,
    },
    Suggestion {
        name: "numbers-without-sscanf",
        tier: Some(Tier::Formatting),
        classes: &[Class::Formatting, Class::Protocol],
        what: "read the version of a request line, and other numbers, digit by digit instead of by sscanf",
        workloads: &["http.keepalive.small.*"],
        futile: no_http,
    },
    // ---- allocations ----
    Suggestion {
        name: "header-in-one-block",
        tier: Some(Tier::Allocation),
        classes: &[Class::Allocation, Class::Protocol],
        what: "allocate a header, its name and its value as one block",
        workloads: &["http.keepalive.small.*"],
        futile: no_http,
    },
    Suggestion {
        name: "reuse-the-request",
        tier: Some(Tier::Allocation),
        classes: &[Class::Allocation, Class::Protocol],
        what: "keep a request's buffers and lists for the next request on the same connection",
        workloads: &["http.keepalive.*"],
        futile: no_http,
    },
    // ---- steps that are no technique ----
    Suggestion {
        name: "misses-by-size",
        tier: None,
        classes: &[Class::CacheBound],
        what: "profile the same work at a size that fits into the cache, and see which functions take more ns of an event at the \
               larger one: the misses are of their data",
        workloads: &["timers.readd.1k", "timers.readd.100k", "idle.10000.*"],
        futile: never,
    },
    Suggestion {
        name: "who-is-waited-for",
        tier: None,
        classes: &[Class::LatencyBound],
        what: "follow the waits in the off-CPU flame graph to who ends them: the peer, a timer, or another thread",
        workloads: &["threads.active.asleep.*", "http.*"],
        futile: never,
    },
    Suggestion {
        name: "profile-on-a-quiet-cpu",
        tier: None,
        classes: &[Class::CpuStarved],
        what: "end what else runs on this CPU, or choose another one (`cargo xtask doctor`), and profile again",
        workloads: &["*"],
        futile: never,
    },
    Suggestion {
        name: "profile-another-workload",
        tier: None,
        classes: &[Class::Workload],
        what: "profile a workload that spends its time in libevent: of this one, nothing is left to be gained there",
        workloads: &["*"],
        futile: never,
    },
    Suggestion {
        name: "against-the-limit",
        tier: None,
        classes: &[Class::Unknown],
        what: "hold the workload's time against its limit in playbook/program.md, and get the figures that are unknown",
        workloads: &["*"],
        futile: never,
    },
];
