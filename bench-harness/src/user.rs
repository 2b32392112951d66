//! Workloads of users: C and Rust files that were built in beside ours (docs/WORKLOADS.md).
//!
//! BENCH_USER_WORKLOADS names them at build time; build.rs compiles them and writes the list that is
//! included here.

mod c;

use crate::Workload;
use anyhow::{Context, Result};
use model::workload::WorkloadSpec;

/// One workload of a user: its description, and the code that sets it up.
pub struct UserWorkload {
    /// As in `config/workloads.toml`; `kind` and `params` are for the reader only.
    pub spec: WorkloadSpec,
    /// Allocates, opens, connects. Not timed.
    pub set_up: Box<dyn Fn() -> Result<Box<dyn Workload>>>,
}

/// What a user's Rust file exports as `workloads`.
type RustFile = fn() -> Vec<UserWorkload>;

/// Every workload that users built in, in the order of the files.
pub fn all() -> Result<Vec<UserWorkload>> {
    let mut workloads: Vec<UserWorkload> =
        generated::rust_files().into_iter().flat_map(|(_, workloads)| workloads()).collect();
    for (file, array) in generated::c_files() {
        // SAFETY: `array` is the `bench_workloads` of a C file that was compiled against the header
        // that `Descriptor` mirrors; the header asks for an entry without a name at its end.
        let read = unsafe { c::read_array(array) };
        workloads.extend(read.with_context(|| format!("user workloads of {file}"))?);
    }
    Ok(workloads)
}

/// Written by build.rs.
mod generated {
    include!(concat!(env!("OUT_DIR"), "/user_workloads.rs"));
}
