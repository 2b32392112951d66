//! Parts of a process that symbols are grouped by.

use serde::{Deserialize, Serialize};

/// A part of libevent, or of what it calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// Chains, their references, callbacks of evbuffers.
    Evbuffer,
    /// Searching in evbuffers.
    EvbufferSearch,
    /// Bufferevents: sockets, pairs, filters, rate limits, TLS.
    Bufferevent,
    /// The loop, activation, queues, event_add and event_del.
    EventLoop,
    /// The heap, common timeouts, clocks.
    Timers,
    /// Descriptors and signals to events.
    Evmap,
    /// epoll, poll, select and their kin; changelists; signals.
    Backend,
    /// Locks, libevent's and the C library's.
    Locks,
    /// malloc, free and their kin.
    Allocation,
    /// memcpy, memmove, memset and their kin.
    Copying,
    /// memchr, memcmp, strlen, strcasecmp and their kin.
    Searching,
    /// vsnprintf and its kin; numbers to text and back.
    Formatting,
    /// The C library's functions around system calls.
    Calls,
    /// evhttp.
    Http,
    /// evdns.
    Dns,
    /// Listeners, utilities, tags, logs: the rest of libevent.
    OtherLibevent,
    /// The kernel on behalf of the process. Never found by name: whoever samples knows the address.
    Kernel,
    /// The workload's own code, and the runtime of its language.
    Workload,
    /// What no rule names.
    Other,
}

/// Names, without leading underscores, of functions that are a system call and nothing else. Whole names: `epoll_wait` is the
/// C library's, `epoll_dispatch` libevent's.
const CALLS: &[&str] = &[
    "accept",
    "accept4",
    "bind",
    "close",
    "connect",
    "epoll_create1",
    "epoll_ctl",
    "epoll_pwait",
    "epoll_pwait2",
    "epoll_wait",
    "eventfd_write",
    "fcntl",
    "fcntl64",
    "getpid",
    "getrandom",
    "getsockname",
    "getsockopt",
    "ioctl",
    "kill",
    "listen",
    "madvise",
    "mmap",
    "munmap",
    "poll",
    "ppoll",
    "pselect",
    "raise",
    "read",
    "readv",
    "recv",
    "recvfrom",
    "recvmsg",
    "sched_yield",
    "select",
    "send",
    "sendfile",
    "sendfile64",
    "sendmsg",
    "sendto",
    "setsockopt",
    "shutdown",
    "socket",
    "socketpair",
    "syscall",
    "tgkill",
    "timerfd_settime",
    "write",
    "writev",
];

/// Words at the beginning of names, without leading underscores, of what libevent calls.
const LIBRARY: &[(Part, &[&str])] = &[
    (Part::Copying, &["memcpy", "memmove", "memset", "mempcpy", "bcopy", "strcpy", "strncpy", "stpcpy", "memccpy"]),
    (
        Part::Searching,
        &[
            "memchr",
            "memrchr",
            "rawmemchr",
            "memcmp",
            "bcmp",
            "memmem",
            "strlen",
            "strnlen",
            "strchr",
            "strrchr",
            "strcmp",
            "strncmp",
            "strcasecmp",
            "strncasecmp",
            "strstr",
            "strspn",
            "strcspn",
            "strpbrk",
            "strsep",
            "evutil_ascii_str",
            "two_way",
        ],
    ),
    (
        Part::Allocation,
        &[
            "malloc",
            "calloc",
            "realloc",
            "reallocarray",
            "free",
            "cfree",
            "posix_memalign",
            "aligned_alloc",
            "memalign",
            "libc_malloc",
            "libc_calloc",
            "libc_realloc",
            "libc_free",
            "int_malloc",
            "int_free",
            "int_realloc",
            "int_memalign",
            "unlink_chunk",
            "sysmalloc",
            "systrim",
            "tcache",
            "arena_get",
            "event_mm_",
            "strdup",
            "strndup",
        ],
    ),
    (
        Part::Formatting,
        &[
            "vsnprintf",
            "snprintf",
            "vsprintf",
            "sprintf",
            "vfprintf",
            "vasprintf",
            "asprintf",
            "printf_",
            "itoa",
            "IO_",
            "strto",
            "strtol",
            "strtoul",
            "atoi",
            "atol",
            "strftime",
            "strchrnul",
            "evutil_snprintf",
            "evutil_vsnprintf",
            "evutil_strto",
            "evutil_date_",
            "parse_one_spec",
            "vfscanf",
            "sscanf",
            "vsscanf",
            "isoc99_",
            "isoc23_",
        ],
    ),
    (
        Part::Locks,
        &[
            "pthread_mutex",
            "pthread_rwlock",
            "pthread_spin",
            "pthread_cond",
            "pthread_self",
            "lll_",
            "evthread",
            "debug_lock",
        ],
    ),
    (
        Part::Timers,
        &["vdso_clock", "vdso_gettime", "clock_gettime", "gettimeofday", "evutil_gettime", "evutil_gettimeofday"],
    ),
];

/// Words at the beginning of libevent's own names; the first that fits counts.
const LIBEVENT: &[(Part, &[&str])] = &[
    (
        Part::EvbufferSearch,
        &[
            "evbuffer_search",
            "evbuffer_find",
            "evbuffer_readln",
            "evbuffer_readline",
            "evbuffer_strchr",
            "evbuffer_strspn",
            "evbuffer_ptr_memcmp",
            "evbuffer_getchr",
        ],
    ),
    (Part::Evbuffer, &["evbuffer", "advance_last_with_data", "get_n_bytes_readable", "evbuffer_file_segment"]),
    (
        Part::Bufferevent,
        &["bufferevent", "be_socket", "be_pair", "be_filter", "be_openssl", "be_ssl", "be_async", "ev_token"],
    ),
    (
        Part::Timers,
        &["min_heap", "minheap", "timeout_", "common_timeout", "update_time_cache", "gettime", "event_heap"],
    ),
    (Part::Evmap, &["evmap", "event_io_map", "event_signal_map", "event_changelist"]),
    (Part::Backend, &["epoll_", "poll_", "select_", "evsig", "evport", "devpoll", "kqueue"]),
    (Part::Http, &["evhttp", "http_", "evrpc"]),
    (Part::Dns, &["evdns", "dnsname", "dnslabel", "nameserver", "request_", "reply_", "transaction_id"]),
    (Part::EventLoop, &["event_", "event_base", "evloop", "evcb", "evwatch", "event_callback", "evutil_eventfd"]),
    (Part::OtherLibevent, &["evconnlistener", "listener_", "evutil", "evtag", "evsock"]),
];

/// Files of libevent's source by the beginning of their names.
const FILES: &[(&str, Part)] = &[
    ("bufferevent", Part::Bufferevent),
    ("buffer", Part::Evbuffer),
    ("evbuffer", Part::Evbuffer),
    ("minheap", Part::Timers),
    ("evutil_time", Part::Timers),
    ("evmap", Part::Evmap),
    ("epoll", Part::Backend),
    ("poll", Part::Backend),
    ("select", Part::Backend),
    ("signal", Part::Backend),
    ("kqueue", Part::Backend),
    ("evport", Part::Backend),
    ("devpoll", Part::Backend),
    ("evthread", Part::Locks),
    ("http", Part::Http),
    ("evrpc", Part::Http),
    ("evdns", Part::Dns),
    ("event", Part::EventLoop),
    ("watch", Part::EventLoop),
    ("defer", Part::EventLoop),
];

impl Part {
    /// The part that a symbol of user space belongs to. `file` is the file of its source, where that is known; its
    /// folder does not count. Names alone decide where it is not, so a library with other names ends up as `Other`.
    pub fn of(symbol: &str, file: Option<&str>) -> Part {
        let symbol = symbol.split('@').next().unwrap_or(symbol);
        if is_of_rust(symbol, file) || symbol.starts_with("bench_") {
            return Part::Workload;
        }
        let bare = symbol.trim_start_matches('_').trim_start_matches("GI_").trim_start_matches('_');
        if CALLS.contains(&bare.strip_prefix("libc_").unwrap_or(bare)) {
            return Part::Calls;
        }
        if let Some(part) = named(LIBRARY, bare) {
            return part;
        }
        if let Some(part) = named(LIBEVENT, bare).filter(|part| *part != Part::EventLoop) {
            return part;
        }
        file.and_then(of_file).or_else(|| named(LIBEVENT, bare)).unwrap_or(Part::Other)
    }

    /// Whether it is libevent's own code.
    pub fn is_libevent(self) -> bool {
        matches!(
            self,
            Part::Evbuffer
                | Part::EvbufferSearch
                | Part::Bufferevent
                | Part::EventLoop
                | Part::Timers
                | Part::Evmap
                | Part::Backend
                | Part::Http
                | Part::Dns
                | Part::OtherLibevent
        )
    }

    /// Whether it is mostly made of functions of the C library, and so not known where that has no names.
    pub fn is_by_names_of_libraries(self) -> bool {
        matches!(
            self,
            Part::Locks | Part::Allocation | Part::Copying | Part::Searching | Part::Formatting | Part::Calls
        )
    }

    /// As records have it.
    pub fn name(self) -> &'static str {
        match self {
            Part::Evbuffer => "evbuffer",
            Part::EvbufferSearch => "evbuffer-search",
            Part::Bufferevent => "bufferevent",
            Part::EventLoop => "event-loop",
            Part::Timers => "timers",
            Part::Evmap => "evmap",
            Part::Backend => "backend",
            Part::Locks => "locks",
            Part::Allocation => "allocation",
            Part::Copying => "copying",
            Part::Searching => "searching",
            Part::Formatting => "formatting",
            Part::Calls => "calls",
            Part::Http => "http",
            Part::Dns => "dns",
            Part::OtherLibevent => "other-libevent",
            Part::Kernel => "kernel",
            Part::Workload => "workload",
            Part::Other => "other",
        }
    }
}

fn named(table: &[(Part, &[&str])], bare: &str) -> Option<Part> {
    table.iter().find(|(_, words)| words.iter().any(|word| bare.starts_with(word))).map(|(part, _)| *part)
}

fn of_file(file: &str) -> Option<Part> {
    let name = file.rsplit('/').next().unwrap_or(file);
    FILES.iter().find(|(word, _)| name.starts_with(word)).map(|(_, part)| *part)
}

/// Mangled names of both kinds, demangled ones, and sources in Rust.
fn is_of_rust(symbol: &str, file: Option<&str>) -> bool {
    let legacy = symbol.strip_prefix("_ZN").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    let mangled = symbol.strip_prefix("_R").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_uppercase()));
    legacy || mangled || symbol.contains("::") || file.is_some_and(|file| file.ends_with(".rs"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbols_belong_to_parts_by_name() {
        let cases = [
            ("evbuffer_add", Part::Evbuffer),
            ("evbuffer_chain_new.constprop.0", Part::Evbuffer),
            ("evbuffer_search_eol", Part::EvbufferSearch),
            ("evbuffer_readln", Part::EvbufferSearch),
            ("bufferevent_readcb", Part::Bufferevent),
            ("event_base_loop", Part::EventLoop),
            ("event_add_nolock_", Part::EventLoop),
            ("min_heap_shift_down_", Part::Timers),
            ("timeout_process", Part::Timers),
            ("evmap_io_active_", Part::Evmap),
            ("epoll_dispatch", Part::Backend),
            ("epoll_apply_one_change", Part::Backend),
            ("evthread_posix_lock", Part::Locks),
            ("___pthread_mutex_lock", Part::Locks),
            ("__GI___pthread_mutex_unlock_usercnt", Part::Locks),
            ("_int_malloc", Part::Allocation),
            ("cfree@GLIBC_2.2.5", Part::Allocation),
            ("event_mm_malloc_", Part::Allocation),
            ("__memmove_avx_unaligned_erms", Part::Copying),
            ("__memchr_avx2", Part::Searching),
            ("evutil_ascii_strncasecmp", Part::Searching),
            ("__vfprintf_internal", Part::Formatting),
            ("_IO_default_xsputn", Part::Formatting),
            ("evutil_vsnprintf", Part::Formatting),
            ("__vfscanf_internal", Part::Formatting),
            ("__isoc99_sscanf", Part::Formatting),
            ("epoll_wait", Part::Calls),
            ("epoll_ctl", Part::Calls),
            ("__send", Part::Calls),
            ("__libc_write", Part::Calls),
            ("send_document_cb", Part::Other),
            ("__vdso_clock_gettime", Part::Timers),
            ("evhttp_make_header", Part::Http),
            ("evdns_request_remove", Part::Dns),
            ("evconnlistener_new", Part::OtherLibevent),
            ("bench_timed_batch", Part::Workload),
            ("_ZN13bench_harness9workloads8evbuffer3run17h0E", Part::Workload),
            ("_RNvXs_NtCs1_13bench_harness3run", Part::Workload),
            ("<bench_harness::Foo as Workload>::run", Part::Workload),
            ("frobnicate", Part::Other),
        ];
        for (symbol, part) in cases {
            assert_eq!(Part::of(symbol, None), part, "{symbol}");
        }
    }

    #[test]
    fn a_file_names_the_part_of_what_has_a_plain_name() {
        assert_eq!(Part::of("frobnicate", Some("./buffer.c")), Part::Evbuffer);
        assert_eq!(Part::of("frobnicate", Some("bufferevent_sock.c")), Part::Bufferevent);
        assert_eq!(Part::of("grow", Some("minheap-internal.h")), Part::Timers);
        assert_eq!(Part::of("frobnicate", Some("event.c")), Part::EventLoop);
        assert_eq!(Part::of("run", Some("src/workloads/evbuffer.rs")), Part::Workload);
        assert_eq!(Part::of("frobnicate", Some("other.c")), Part::Other);
        // A name that says more than its file: the heap's functions are compiled as part of event.c.
        assert_eq!(Part::of("min_heap_push_", Some("event.c")), Part::Timers);
        assert_eq!(Part::of("event_signal_closure", Some("event.c")), Part::EventLoop);
    }
}
