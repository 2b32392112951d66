//! All families; one file, or one folder, a family.

mod bufferevent;
mod dns;
mod evbuffer;
mod event;
mod http;
mod life;
mod lifetimes;
mod malloc;
mod threads;
mod timers;

use crate::family::{Entry, entry};

/// In the order of `list`.
pub(crate) fn all() -> Vec<Entry> {
    vec![
        entry::<evbuffer::Buffers>(),
        entry::<lifetimes::Lifetimes>(),
        entry::<malloc::Malloc>(),
        entry::<event::Events>(),
        entry::<timers::Timers>(),
        entry::<http::Server>(),
        entry::<http::Client>(),
        entry::<http::Uris>(),
        entry::<dns::Resolver>(),
        entry::<dns::Server>(),
        entry::<bufferevent::Bufferevents>(),
        entry::<threads::Threads>(),
        entry::<life::Life>(),
    ]
}
