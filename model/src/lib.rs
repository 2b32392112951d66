//! Domain types of the workspace, without I/O: everything here is a value or a pure function.
//!
//! The worker (`bench-harness`) and the harness (`xtask`) share these types, so that a message or a
//! record has one definition. Units end the names; unknown figures are `None`, never zero.

pub mod abi;
mod added;
pub mod allocations;
pub mod bottleneck;
pub mod build_config;
pub mod calibration;
pub mod callgrind;
pub mod cases;
pub mod compare;
pub mod counts;
pub mod decision;
pub mod experiment;
pub mod gate;
pub mod host;
pub mod hot_methods;
pub mod ledger;
pub mod mutants;
pub mod patch;
pub mod plain;
pub mod profile;
pub mod protocol;
pub mod record;
pub mod sandbox;
pub mod screen;
pub mod stats;
pub mod summary;
pub mod thresholds;
pub mod variant;
pub mod verdict;
pub mod workload;
