//! `dns`: evdns asks servers that this process plays, valid and hostile ones, over loopback; and
//! `dns-server`: evdns answers hostile questions. No resolver of the host is ever asked.

mod client;
mod server;
mod wire;

pub(crate) use client::Resolver;
pub(crate) use server::Server;
