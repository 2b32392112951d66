//! Functions of libevent that are worth an engineer's time: config/hot-methods.toml.
//!
//! People write which functions those are and what is known of them; `profile --update-manifest` writes what was
//! measured, with where it comes from. The whole file is written anew each time, so everything in it is a field or a
//! comment above an entry, and both are kept.

mod file;
mod merge;
pub mod recorded;
#[cfg(test)]
mod tests;

pub use merge::{Limits, Measured, MeasuredSymbol, Merged};

use crate::bottleneck::Tier;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The whole of config/hot-methods.toml.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HotMethods {
    /// Where measured shares come from, one for each workload: the last profile of it.
    #[serde(default, rename = "profile")]
    pub profiles: Vec<Provenance>,
    /// Functions that experiments are about.
    #[serde(default, rename = "method")]
    pub methods: Vec<HotMethod>,
    /// Functions of libevent that were hot in a profile and are no `method`. Written by the tool.
    #[serde(default, rename = "unlisted")]
    pub unlisted: Vec<Unlisted>,
    /// Functions that must not be made larger or harder to read for speed. Written by people, or by the tool with what it
    /// was measured at.
    #[serde(default, rename = "cold")]
    pub cold: Vec<Cold>,
}

/// One function.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HotMethod {
    /// Its name in the source.
    pub symbol: String,
    /// Its file, below the source's folder.
    pub file: String,
    /// The tier of playbook/program.md that it belongs to.
    pub tier: Tier,
    /// What is known of it.
    pub note: String,
    /// Self share by workload, in per cent of the samples (or instructions) of the profile in `profile`. `None`: never
    /// measured. A workload that is not there was not measured; one with 0 was, and no sample fell on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<BTreeMap<String, f64>>,
    /// The same with what it calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inclusive: Option<BTreeMap<String, f64>>,
    /// What the last profile said of it where it was not in the profiled program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub absent: Option<String>,
    /// Comment lines above the entry, without `#`.
    #[serde(skip)]
    pub comments: Vec<String>,
}

/// Where the shares of one workload come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provenance {
    /// Name of the workload.
    pub workload: String,
    /// Fingerprint of the host.
    pub host: String,
    /// Variant id.
    pub variant: String,
    /// Its name, for people.
    pub variant_name: String,
    /// Build id.
    pub build: String,
    /// What shares are of: `cycles`, `cpu-clock`, `instructions`.
    pub event: String,
    /// Samples, or instructions.
    pub samples: u64,
    /// When, in UTC.
    pub at: String,
}

/// A function of libevent that was hot and is in no entry.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unlisted {
    /// Its name.
    pub symbol: String,
    /// Its file, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Self share by workload, in per cent.
    pub share: BTreeMap<String, f64>,
}

/// A function that is not to be optimised for speed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cold {
    /// Its name.
    pub symbol: String,
    /// Its file.
    pub file: String,
    /// Why.
    pub note: String,
    /// Self share by workload, as methods have it. `None`: never measured, or by a version that kept the largest one alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<BTreeMap<String, f64>>,
    /// Largest self share over the profiled workloads, in per cent; `None`: never measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub largest_share: Option<f64>,
    /// Comment lines above the entry, without `#`.
    #[serde(skip)]
    pub comments: Vec<String>,
}

/// Why a manifest is refused.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Not TOML, a field missing or unknown, a tier that the playbook does not have.
    #[error("{0}")]
    Syntax(#[from] toml::de::Error),
    /// The same function twice, or as hot and cold.
    #[error("`{0}` is there twice")]
    Twice(String),
    /// A name or file that is none.
    #[error("`{symbol}`: {why}")]
    Entry {
        /// Which entry.
        symbol: String,
        /// What is wrong.
        why: &'static str,
    },
    /// A share without its provenance, or out of range.
    #[error("`{symbol}`: the share of workload `{workload}` {why}")]
    Share {
        /// Which entry.
        symbol: String,
        /// Which workload.
        workload: String,
        /// What is wrong.
        why: &'static str,
    },
}

impl HotMethods {
    /// Reads the manifest, with the comments above entries.
    ///
    /// # Errors
    /// What [`ManifestError`] lists.
    pub fn parse(text: &str) -> Result<HotMethods, ManifestError> {
        file::parse(text)
    }

    /// The file, with its header.
    pub fn to_toml(&self) -> String {
        file::to_toml(self)
    }

    /// The manifest with what was measured, and what stands out. Shares of workloads that were not measured stay.
    pub fn merge(&self, measured: &[Measured], limits: &Limits) -> Merged {
        merge::merge(self, measured, limits)
    }

    /// Names of the functions that a profile is scoped to.
    pub fn symbols(&self) -> impl Iterator<Item = &str> {
        self.methods.iter().map(|method| method.symbol.as_str())
    }

    /// The entry of a function.
    pub fn find(&self, symbol: &str) -> Option<&HotMethod> {
        self.methods.iter().find(|method| method.symbol == symbol)
    }
}
