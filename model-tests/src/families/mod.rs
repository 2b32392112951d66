//! All families; one file, or one folder, a family.

mod evbuffer;
mod lifetimes;
mod malloc;

use crate::family::{Entry, entry};

/// In the order of `list`.
pub(crate) fn all() -> Vec<Entry> {
    vec![entry::<evbuffer::Buffers>(), entry::<lifetimes::Lifetimes>(), entry::<malloc::Malloc>()]
}
