//! What a workload is, as data: `config/workloads.toml` and what users add to it.

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// The figure that a workload is judged by; the other one is a guard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// User and system time of the worker process, per event: throughput workloads.
    CpuTime,
    /// Elapsed time per event: latency workloads.
    WallTime,
}

/// One workload of the manifest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkloadSpec {
    /// Unique name, `family.case.parameter`, in lower case.
    pub name: String,
    /// The code that runs it: a key of the worker's registry of constructors.
    pub kind: String,
    /// Parameters of the code, by name; a name that the code does not know is an error.
    #[serde(default)]
    pub params: toml::Table,
    /// What one event is, in words, so that "ns per event" means something.
    pub event: String,
    /// Events in one batch, the smallest thing that is timed. Fixed, so that both sides of a
    /// comparison do the same work. A batch should last about a third of a millisecond where the work
    /// allows: longer than its clocks and probes, shorter than most disturbances of a shared host.
    pub batch_events: u64,
    /// Checksum of the work that one batch does, in hexadecimal (`0x...`).
    pub checksum: Checksum,
    /// What the workload is judged by.
    pub metric: Metric,
    /// The worker runs other processes (a client on another core) beside the one it is charged for.
    #[serde(default)]
    pub peer_process: bool,
    /// The worker runs several threads.
    #[serde(default)]
    pub threads: bool,
    /// The feature of the build that it needs, such as `tls`; absent from builds without it.
    #[serde(default)]
    pub needs: Option<String>,
    /// Instructions per event are the same in every run whose clock and random numbers are pinned: one
    /// process, one thread. System calls are, too, unless their number depends on the clock.
    #[serde(default)]
    pub exact_counts: bool,
}

/// The checksum of one batch of work, printed as `0x` and sixteen hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Checksum(pub u64);

impl std::fmt::Display for Checksum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:#018x}", self.0)
    }
}

impl std::str::FromStr for Checksum {
    type Err = ManifestError;

    fn from_str(text: &str) -> Result<Self, ManifestError> {
        text.strip_prefix("0x")
            .filter(|digits| digits.len() == 16)
            .and_then(|digits| u64::from_str_radix(digits, 16).ok())
            .map(Checksum)
            .ok_or_else(|| ManifestError::Checksum(text.to_owned()))
    }
}

impl Serialize for Checksum {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Checksum {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The whole of `config/workloads.toml`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// In the order in which they are run and shown.
    #[serde(rename = "workload")]
    pub workloads: Vec<WorkloadSpec>,
}

/// Why a manifest is refused.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Not TOML, or a field is missing, unknown or of another type.
    #[error("workload manifest: {0}")]
    Syntax(#[from] toml::de::Error),
    /// A checksum is not `0x` and sixteen hexadecimal digits.
    #[error("`{0}` is no checksum; write 0x and sixteen hexadecimal digits")]
    Checksum(String),
    /// Two workloads have one name.
    #[error("workload `{0}` is declared twice; names are unique")]
    Duplicate(String),
    /// A name holds something other than lower-case letters, digits, `_` and `.`.
    #[error("workload name `{0}` must be made of a-z, 0-9, `_` and `.`")]
    Name(String),
    /// A batch of no events cannot be timed.
    #[error("workload `{0}` declares batch_events = 0; a batch needs at least one event")]
    EmptyBatch(String),
}

impl Manifest {
    /// Reads a manifest and checks what the types cannot: unique well-formed names, non-empty batches.
    pub fn parse(text: &str) -> Result<Self, ManifestError> {
        let manifest: Manifest = toml::from_str(text)?;
        check(&manifest.workloads)?;
        Ok(manifest)
    }
}

/// Checks a list of workloads from any source: names unique and well formed, batches not empty.
pub fn check(workloads: &[WorkloadSpec]) -> Result<(), ManifestError> {
    let mut seen = BTreeSet::new();
    for workload in workloads {
        let well_formed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_.".contains(c);
        if workload.name.is_empty() || !workload.name.chars().all(well_formed) {
            return Err(ManifestError::Name(workload.name.clone()));
        }
        if !seen.insert(workload.name.as_str()) {
            return Err(ManifestError::Duplicate(workload.name.clone()));
        }
        if workload.batch_events == 0 {
            return Err(ManifestError::EmptyBatch(workload.name.clone()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = r#"
        [[workload]]
        name = "evbuffer.add_drain.64"
        kind = "evbuffer_add_drain"
        params = { size_bytes = 64 }
        event = "one add and one drain"
        batch_events = 1000
        checksum = "0x00000000000000ff"
        metric = "cpu_time"
    "#;

    #[test]
    fn reads_a_workload_and_prints_its_checksum_as_written() {
        let manifest = Manifest::parse(ONE).unwrap();
        assert_eq!(manifest.workloads[0].checksum, Checksum(255));
        assert_eq!(manifest.workloads[0].checksum.to_string(), "0x00000000000000ff");
        assert_eq!(manifest.workloads[0].metric, Metric::CpuTime);
    }

    #[test]
    fn refuses_what_would_make_a_figure_meaningless() {
        let twice = format!("{ONE}{ONE}");
        assert!(matches!(Manifest::parse(&twice), Err(ManifestError::Duplicate(_))));
        let empty = ONE.replace("= 1000", "= 0");
        assert!(matches!(Manifest::parse(&empty), Err(ManifestError::EmptyBatch(_))));
        let name = ONE.replace("evbuffer.add_drain.64", "Evbuffer 64");
        assert!(matches!(Manifest::parse(&name), Err(ManifestError::Name(_))));
        let checksum = ONE.replace("0x00000000000000ff", "255");
        assert!(Manifest::parse(&checksum).is_err());
        let unknown = ONE.replace("metric", "metrik");
        assert!(Manifest::parse(&unknown).is_err());
    }
}
