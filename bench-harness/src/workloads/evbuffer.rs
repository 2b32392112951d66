//! Buffers: adding, draining, moving, searching.

use crate::registry::Constructor;

/// Kinds of this family.
pub const KINDS: &[(&str, Constructor)] = &[];
