//! A filter of system calls: those are refused that no event library needs and that lead out of the sandbox,
//! out of its process group, or into others' processes.

use super::Policy;
use anyhow::{Context as _, Result};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};
use std::collections::BTreeMap;

/// Refused with EPERM, always.
const REFUSED: &[libc::c_long] = &[
    libc::SYS_add_key,
    libc::SYS_bpf,
    libc::SYS_chroot,
    libc::SYS_delete_module,
    libc::SYS_finit_module,
    libc::SYS_init_module,
    libc::SYS_io_uring_setup,
    libc::SYS_kexec_load,
    libc::SYS_keyctl,
    libc::SYS_mount,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_perf_event_open,
    libc::SYS_pivot_root,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_reboot,
    libc::SYS_request_key,
    libc::SYS_setns,
    libc::SYS_swapon,
    libc::SYS_syslog,
    libc::SYS_umount2,
    libc::SYS_unshare,
    libc::SYS_userfaultfd,
];

/// With these a process leaves its group, and is not ended with it.
const GROUPS: &[libc::c_long] = &[libc::SYS_setsid, libc::SYS_setpgid];

/// Flags of clone(2) that make namespaces.
const NAMESPACES: libc::c_int = libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWUTS;

/// Installs the filter for this process and all that it starts.
pub(super) fn restrict(policy: &Policy) -> Result<()> {
    let mut refused: Vec<libc::c_long> = REFUSED.to_vec();
    if !policy.groups {
        refused.extend(GROUPS);
    }
    if !policy.sanitizer {
        // The leak checker stops its own threads by it.
        refused.push(libc::SYS_ptrace);
    }
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = refused.into_iter().map(|call| (call, vec![])).collect();
    let mut clone = Vec::new();
    for bit in 0..u64::BITS {
        let flag = 1_u64 << bit;
        if u64::from(NAMESPACES.cast_unsigned()) & flag == 0 {
            continue;
        }
        let set = SeccompCondition::new(0, SeccompCmpArgLen::Qword, SeccompCmpOp::MaskedEq(flag), flag)?;
        clone.push(SeccompRule::new(vec![set])?);
    }
    rules.insert(libc::SYS_clone, clone);
    let architecture = std::env::consts::ARCH.try_into().context("no filter for this architecture")?;
    let eperm = SeccompAction::Errno(libc::EPERM.cast_unsigned());
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, eperm, architecture)?;
    // Its flags are in memory, where a filter cannot look: refused as unknown, C libraries use clone instead.
    let clone3 = BTreeMap::from([(libc::SYS_clone3, vec![])]);
    let enosys = SeccompAction::Errno(libc::ENOSYS.cast_unsigned());
    let without_clone3 = SeccompFilter::new(clone3, SeccompAction::Allow, enosys, architecture)?;
    for filter in [without_clone3, filter] {
        let program: BpfProgram = filter.try_into()?;
        seccompiler::apply_filter(&program)
            .context("the kernel has no filter of system calls (CONFIG_SECCOMP_FILTER)")?;
    }
    Ok(())
}
