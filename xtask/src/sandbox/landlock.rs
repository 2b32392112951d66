//! Landlock: the kernel refuses writes outside of the given folders, and signals to others. What it can refuse depends on
//! its version: what this kernel's lacks is said, not passed over.

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

/// The first version that refuses truncation of files (Linux 6.2); writes are refused by all.
const TRUNCATION: u32 = 3;
/// The first version that keeps signals in (Linux 6.12).
const SIGNALS: u32 = 6;

/// The version of this kernel's Landlock; 0 if it has none.
pub(super) fn abi() -> u32 {
    const VERSION: libc::c_uint = 1;
    // SAFETY: with this flag nothing is read and no descriptor is made.
    let abi =
        unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<libc::c_void>(), 0_usize, VERSION) };
    u32::try_from(abi).unwrap_or(0)
}

/// Fails if this version lets others' files be changed. Where the file tree is its own, the mounts are read-only, too.
pub(super) fn refuses_writes(abi: u32, mounts: bool) -> Result<()> {
    match abi {
        0 => bail!("the kernel has no Landlock (CONFIG_SECURITY_LANDLOCK, and `landlock` in its list of modules)"),
        1..TRUNCATION if !mounts => {
            bail!("version {abi} of Landlock does not refuse to truncate files; {TRUNCATION} does (Linux 6.2)")
        }
        _ => Ok(()),
    }
}

/// Fails if this version lets signals out, or if there is no ruleset to keep them in.
pub(super) fn keeps_signals(abi: u32, landlock: bool) -> Result<()> {
    if abi < SIGNALS {
        let has = if abi == 0 { "no Landlock".to_owned() } else { format!("version {abi} of Landlock") };
        bail!("the kernel has {has}, and {SIGNALS} is the first that keeps signals to others in (Linux 6.12)");
    }
    if !landlock {
        bail!("they are kept in by Landlock, which is left out");
    }
    Ok(())
}

/// Confines this process and all that it starts.
pub(super) fn confine(policy: &Policy) -> Result<()> {
    // The newest rules that this kernel knows; what the older ones lack was looked at before.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_version_lacks_is_said() {
        for (abi, writes_with_mounts, writes_without, signals) in [
            (0, false, false, false),
            (1, true, false, false),
            (2, true, false, false),
            (3, true, true, false),
            (5, true, true, false),
            (6, true, true, true),
            (9, true, true, true),
        ] {
            assert_eq!(refuses_writes(abi, true).is_ok(), writes_with_mounts, "{abi}");
            assert_eq!(refuses_writes(abi, false).is_ok(), writes_without, "{abi}");
            assert_eq!(keeps_signals(abi, true).is_ok(), signals, "{abi}");
            assert!(keeps_signals(abi, false).is_err(), "{abi}");
        }
        let cause = keeps_signals(4, true).unwrap_err().to_string();
        assert!(cause.contains("version 4") && cause.contains("6.12"), "{cause}");
        assert!(keeps_signals(0, false).unwrap_err().to_string().contains("no Landlock"));
    }

    #[test]
    fn this_kernel_says_its_version() {
        // Whatever it is: the call is understood.
        assert!(abi() < 100);
    }
}
