//! What people look at: tables for terminals, pull requests and README, all from records.

pub(crate) mod format;
pub(crate) mod readme;
pub(crate) mod table;
