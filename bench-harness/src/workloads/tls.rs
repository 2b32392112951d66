//! TLS echo through bufferevent_openssl, in builds with OpenSSL.

use super::bufferevent::{shape, socketpair};
use super::bufferevent_echo::Echo;
use crate::Workload;
use crate::params::Params;
use crate::registry::Constructor;
use anyhow::Result;
use libevent_sys::{BufferEvent, TlsContext, TlsSide, make_nonblocking};

/// Kinds of this family.
pub const KINDS: &[(&str, Constructor)] = &[("tls_echo", echo)];

/// Both ends speak TLS 1.3 over a socketpair; handshake and keys are made in the set-up.
fn echo(params: &Params<'_>) -> Result<Box<dyn Workload>> {
    let context = TlsContext::self_signed(c"TLS_AES_128_GCM_SHA256")?;
    let echo = Echo::new(shape(params)?, &mut |base| {
        let (client, server) = socketpair()?;
        make_nonblocking(&client)?;
        make_nonblocking(&server)?;
        Ok((
            BufferEvent::tls_socket(base, client, &context, TlsSide::Client, 0)?,
            BufferEvent::tls_socket(base, server, &context, TlsSide::Server, 0)?,
        ))
    })?;
    Ok(Box::new(echo))
}
