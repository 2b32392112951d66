//! Event bases as cases draw them: a backend, flags, priorities.

use crate::{Rng, clock, note};
use libevent_sys::ffi;
use libevent_sys::ffi::event_base_config_flag as flag;
use serde::{Deserialize, Serialize};
use std::ffi::{CStr, c_char, c_int};

/// Names of the ways to wait.
const METHODS: [&CStr; 3] = [c"epoll", c"poll", c"select"];

/// What libevent waits with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Backend {
    /// epoll, told of each change at once.
    Epoll,
    /// epoll, told of changes once a turn.
    Changelist,
    /// epoll with its precise timer.
    Precise,
    /// poll.
    Poll,
    /// select.
    Select,
}

impl Backend {
    /// All of them, in turn, so that any few cases in a row cover them.
    pub(crate) const ALL: [Backend; 5] =
        [Backend::Epoll, Backend::Changelist, Backend::Poll, Backend::Select, Backend::Precise];

    /// That of case `number`.
    pub(crate) fn of(number: u64) -> Backend {
        Self::ALL[(number % 5) as usize]
    }

    fn method(self) -> &'static str {
        match self {
            Backend::Epoll | Backend::Changelist | Backend::Precise => "epoll",
            Backend::Poll => "poll",
            Backend::Select => "select",
        }
    }
}

/// How a base is made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Plan {
    /// What it waits with.
    pub(crate) backend: Backend,
    /// The time is asked for at every use.
    pub(crate) no_cache_time: bool,
    /// Number of priorities.
    pub(crate) priorities: i32,
    /// After that many callbacks of priority `limit_from` or less urgent the loop looks again.
    pub(crate) most_callbacks: Option<i32>,
    /// See `most_callbacks`.
    pub(crate) limit_from: i32,
    /// After that many milliseconds the loop looks again, likewise.
    pub(crate) most_ms: Option<u64>,
}

impl Plan {
    /// A base without wishes but for the backend.
    pub(crate) fn plain(backend: Backend) -> Plan {
        Plan { backend, no_cache_time: false, priorities: 1, most_callbacks: None, limit_from: 0, most_ms: None }
    }

    /// A base with `priorities`, sometimes with limits.
    pub(crate) fn draw(rng: &mut Rng, backend: Backend, priorities: i32) -> Plan {
        Plan {
            backend,
            no_cache_time: rng.u8(..5) == 0,
            priorities,
            most_callbacks: (rng.u8(..4) == 0).then(|| rng.i32(1..4)),
            limit_from: rng.i32(0..3),
            most_ms: (rng.u8(..6) == 0).then(|| rng.u64(1..50)),
        }
    }

    /// Makes the base; its loop is watched by the clock.
    ///
    /// # Errors
    /// libevent makes none, or one with another backend.
    pub(crate) fn make(&self) -> Result<*mut ffi::event_base, String> {
        // SAFETY: the configuration is made, used and freed here; callbacks are functions.
        unsafe {
            ffi::event_set_log_callback(Some(log));
            let config = ffi::event_config_new();
            // Not from event_get_supported_methods, which keeps the memory of its answer.
            for name in METHODS.iter().filter(|name| name.to_bytes() != self.backend.method().as_bytes()) {
                ffi::event_config_avoid_method(config, name.as_ptr());
            }
            let mut flags = flag::EVENT_BASE_FLAG_IGNORE_ENV;
            flags |= match self.backend {
                Backend::Changelist => flag::EVENT_BASE_FLAG_EPOLL_USE_CHANGELIST,
                Backend::Precise => flag::EVENT_BASE_FLAG_PRECISE_TIMER,
                _ => 0,
            };
            if self.no_cache_time {
                flags |= flag::EVENT_BASE_FLAG_NO_CACHE_TIME;
            }
            ffi::event_config_set_flag(config, flags as c_int);
            let interval = self.most_ms.map(clock::timeval);
            if interval.is_some() || self.most_callbacks.is_some() {
                let interval = interval.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
                let callbacks = self.most_callbacks.unwrap_or(-1);
                ffi::event_config_set_max_dispatch_interval(config, interval, callbacks, self.limit_from);
            }
            let base = ffi::event_base_new_with_config(config);
            ffi::event_config_free(config);
            if base.is_null() {
                return Err(format!("no base with backend {}", self.backend.method()));
            }
            let method = CStr::from_ptr(ffi::event_base_get_method(base)).to_string_lossy();
            let expected =
                if self.backend == Backend::Changelist { "epoll (with changelist)" } else { self.backend.method() };
            if method != expected {
                return Err(format!("asked for backend {expected}, got {method}"));
            }
            if self.priorities > 1 && ffi::event_base_priority_init(base, self.priorities) != 0 {
                return Err(format!("{} priorities are refused", self.priorities));
            }
            clock::watch(base);
            Ok(base)
        }
    }
}

/// libevent's warnings are for readers: their words may change.
unsafe extern "C" fn log(severity: c_int, text: *const c_char) {
    // SAFETY: libevent passes a string.
    let text = unsafe { CStr::from_ptr(text) }.to_string_lossy();
    note!("log {severity}: {text}");
}
