//! Where the time goes.

pub(crate) mod allocations;
pub(crate) mod callgrind;
pub(crate) mod functions;
pub(crate) mod manifest;
