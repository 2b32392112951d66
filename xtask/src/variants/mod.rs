//! Variants by name: what a name stands for, what variants take of the disk, and what of it may go.

pub(crate) mod discard;
pub(crate) mod disk;
pub(crate) mod edit;
pub(crate) mod names;
pub(crate) mod prune;
pub(crate) mod shell;
