//! How libevent is compiled: `config/build.toml` as a type, and the profiles that differ from it.

mod profile;

pub use profile::{Compiler, OptLevel, Profile, ProfileError, WORDS};

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Static libraries of libevent without `lib` and `.a`, dependants first, as linkers want them.
pub const LIBRARIES: &[&str] = &["event_openssl", "event_pthreads", "event_extra", "event_core"];

/// The whole of `config/build.toml`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BuildConfig {
    /// CMAKE_BUILD_TYPE.
    pub build_type: String,
    /// Compiler flags of every build.
    pub c_flags: Vec<String>,
    /// CMake options of every build.
    pub options: BTreeMap<String, String>,
    /// What the code is generated for.
    pub cpu: CpuFlags,
    /// How builds with profile feedback are trained.
    pub pgo: Training,
}

/// Compiler flags that choose the instruction set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CpuFlags {
    /// For everything that is timed.
    pub measure: String,
    /// For builds that run under callgrind.
    pub instructions: String,
}

/// What an instrumented build runs before its profile is used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Training {
    /// Workloads, by glob; none means every one.
    #[serde(default)]
    pub workloads: Vec<String>,
    /// Batches of each: a fixed number, so that two builds of one variant are trained alike.
    pub batches: u64,
}

impl BuildConfig {
    /// Reads `config/build.toml`; an unknown or missing field is an error.
    pub fn parse(text: &str) -> Result<Self, toml::de::Error> {
        toml::from_str(text)
    }
}
