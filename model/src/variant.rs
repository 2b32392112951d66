//! Sources, variants and builds, as values that go into records.

use crate::build_config::Profile;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// A source tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// For people: the pinned tag, or what the user gave.
    pub label: String,
    /// Git tree hash of the files.
    pub tree: String,
    /// Parentless commit of that tree, the same on every machine.
    pub root_commit: String,
    /// Commit that the tree was taken from, where it came from one.
    pub upstream_commit: Option<String>,
    /// The tree is the pinned one.
    pub pinned: bool,
}

/// A patch, by content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Patch {
    /// File name without its folder.
    pub name: String,
    /// SHA-256 of the file.
    pub sha256: String,
}

/// What is built: the same id on every machine for the same files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Variant {
    /// Twelve hexadecimal digits, a hash of the source's tree and the patches' contents.
    pub id: String,
    /// For people: `pristine`, `tip` or the name of the patch file.
    pub name: String,
    /// What the patches apply to.
    pub source: Source,
    /// In the order in which they were applied.
    pub patches: Vec<Patch>,
    /// Tree hash with the patches applied.
    pub tree: String,
    /// Commit of that tree, the same on every machine.
    pub commit: String,
}

/// What a build is for; part of its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// To be timed: this machine's instruction set.
    Measure,
    /// To be run under callgrind, which does not know every instruction.
    Instructions,
}

/// A finished build of a variant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Build {
    /// Twelve hexadecimal digits: variant, flags, compiler and instruction set.
    pub id: String,
    /// What was compiled.
    pub variant: Variant,
    /// What for.
    pub purpose: Purpose,
    /// How it differs from config/build.toml; records of older versions have only builds that do not.
    #[serde(default)]
    pub profile: Profile,
    /// For calibration: part of the path it was built in, another one of the same variant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    /// First line of the compiler's `--version`.
    pub compiler: String,
    /// CMake's build type.
    pub build_type: String,
    /// Compiler flags given to CMake.
    pub c_flags: Vec<String>,
    /// CMake options given.
    pub options: Vec<(String, String)>,
    /// The command that compiled event.c, as CMake recorded it.
    pub event_c_command: String,
    /// The command that optimised the libraries as a whole, where the profile has `lto`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lto_command: Option<String>,
    /// SHA-256 over what the training recorded, where the profile has `pgo`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pgo_profile_sha256: Option<String>,
    /// libevent was built with OpenSSL.
    pub tls: bool,
    /// SHA-256 over the public headers, generated ones included.
    pub headers_sha256: String,
    /// Static libraries in link order, with their SHA-256.
    pub libraries: Vec<Library>,
    /// Where it is on this machine; not part of records.
    #[serde(skip)]
    pub folder: PathBuf,
}

/// One static library.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Library {
    /// File name.
    pub name: String,
    /// SHA-256 of the file.
    pub sha256: String,
}
