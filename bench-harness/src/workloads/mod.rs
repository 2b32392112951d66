//! The code of the workloads, one file a family; each lists its kinds and their constructors.

use crate::registry::Constructor;

pub mod evbuffer;

/// Kinds of every family.
pub const KINDS: &[&[(&str, Constructor)]] = &[evbuffer::KINDS];
