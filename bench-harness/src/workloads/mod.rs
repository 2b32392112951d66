//! The code of the workloads, one file a family; each lists its kinds and their constructors.

use crate::registry::Constructor;

pub mod active;
pub mod bufferevent;
mod bufferevent_echo;
pub mod cascade;
pub mod cascade_chain;
pub mod connections;
#[cfg(test)]
mod damage;
pub mod dns;
mod dns_server;
pub mod epoll;
mod epoll_view;
pub mod evbuffer;
pub mod evbuffer_io;
pub mod evbuffer_move;
pub mod evbuffer_text;
mod eventfd;
pub mod http;
pub mod idle;
pub mod limits;
pub mod signals;
pub mod sockets;
pub mod threads;
pub mod timers;
pub mod timers_fire;
#[cfg(libevent_tls)]
pub mod tls;
mod watchdog;

/// Kinds of every family.
pub const KINDS: &[&[(&str, Constructor)]] = &[
    evbuffer::KINDS,
    evbuffer_move::KINDS,
    evbuffer_text::KINDS,
    evbuffer_io::KINDS,
    cascade::KINDS,
    cascade_chain::KINDS,
    timers::KINDS,
    timers_fire::KINDS,
    active::KINDS,
    epoll::KINDS,
    bufferevent::KINDS,
    http::KINDS,
    dns::KINDS,
    connections::KINDS,
    idle::KINDS,
    limits::KINDS,
    signals::KINDS,
    threads::KINDS,
    #[cfg(libevent_tls)]
    tls::KINDS,
];
