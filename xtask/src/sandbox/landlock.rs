//! Landlock: the kernel refuses writes outside of the given folders, and signals to others.

use super::Policy;
use ::landlock::{
    ABI, Access as _, AccessFs, CompatLevel, Compatible as _, Ruleset, RulesetAttr as _, RulesetCreatedAttr as _,
    RulesetStatus, Scope, path_beneath_rules,
};
use anyhow::{Result, bail};
use std::path::{Path, PathBuf};

/// What everything may be read from; the file tree has been cut down before.
const TREE: &str = "/";

/// Written to by everybody, and of no consequence.
const DEVICES: &[&str] = &["/dev/null", "/dev/zero", "/dev/full", "/dev/tty"];

/// Confines this process and all that it starts.
pub(super) fn confine(policy: &Policy) -> Result<()> {
    // The newest rules that this kernel knows: those of 5.13 already refuse writes.
    let abi = ABI::V6;
    let writable = policy.writable.iter().map(PathBuf::as_path).chain([Path::new("/tmp"), Path::new("/dev/shm")]);
    let status = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(abi))?
        .scope(Scope::from_all(abi))?
        .create()?
        .add_rules(path_beneath_rules([TREE], AccessFs::from_read(abi)))?
        .add_rules(path_beneath_rules(DEVICES, AccessFs::from_file(abi)))?
        .add_rules(path_beneath_rules(writable, AccessFs::from_all(abi)))?
        .restrict_self()?;
    if status.ruleset == RulesetStatus::NotEnforced {
        bail!("the kernel has no Landlock (CONFIG_SECURITY_LANDLOCK, and `landlock` in its list of modules)");
    }
    Ok(())
}
