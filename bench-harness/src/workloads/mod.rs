//! The code of the workloads, one file a family; each lists its kinds and their constructors.

use crate::registry::Constructor;

pub mod bufferevent;
mod bufferevent_echo;
pub mod evbuffer;
mod eventfd;
pub mod idle;
pub mod limits;
pub mod signals;
pub mod threads;
#[cfg(libevent_tls)]
pub mod tls;
mod watchdog;

/// Kinds of every family.
pub const KINDS: &[&[(&str, Constructor)]] = &[evbuffer::KINDS, bufferevent::KINDS, idle::KINDS, limits::KINDS, signals::KINDS, threads::KINDS, #[cfg(libevent_tls)] tls::KINDS];
