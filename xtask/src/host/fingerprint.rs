//! Gathers the facts of [`HostFingerprint`].

use super::pinning::{allowed, pinning};
use super::{Facts, parse};
use crate::process;
use model::host::{HostFingerprint, short_sha256};
use std::ffi::OsStr;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

/// Longest time that a compiler may take to tell its version.
const VERSION_LIMIT: Duration = Duration::from_secs(10);

/// This host's fingerprint, gathered once per process.
pub(crate) fn fingerprint() -> HostFingerprint {
    static KNOWN: OnceLock<HostFingerprint> = OnceLock::new();
    KNOWN.get_or_init(|| gather(&Facts::here())).clone()
}

fn gather(facts: &Facts) -> HostFingerprint {
    let allowed = allowed(facts);
    let recorded = recorded(facts);
    let hypervisor = hypervisor(facts);
    let worker_cpu = pinning().map_or(0, |chosen| chosen.worker);
    HostFingerprint {
        cores_allowed: (!allowed.is_empty()).then(|| u32::try_from(allowed.len()).unwrap_or(u32::MAX)),
        governor: governor(facts, worker_cpu),
        libc: libc_version(),
        compiler: first_line("cc"),
        linker: first_line("ld"),
        rustc: first_line("rustc"),
        virtual_machine: if hypervisor.is_some() { Some(true) } else { recorded.virtual_machine },
        hypervisor,
        ..recorded
    }
    .sealed()
}

/// The part that is read from `/proc` and `/sys` alone.
fn recorded(facts: &Facts) -> HostFingerprint {
    let info = facts.read("/proc/cpuinfo").map(|text| parse::cpuinfo(&text)).unwrap_or_default();
    let info = |keys: &[&str]| keys.iter().find_map(|key| info.get(*key).filter(|v| !v.is_empty()).cloned());
    let flags = info(&["flags", "Features"]);
    let online = facts.cpus("/sys/devices/system/cpu/online");
    HostFingerprint {
        arch: std::env::consts::ARCH.to_owned(),
        cpu_vendor: info(&["vendor_id", "CPU implementer"]),
        cpu_model: info(&["model name", "Model", "Hardware"]),
        cpu_family: info(&["cpu family", "CPU architecture"]),
        cpu_model_number: info(&["model", "CPU part"]),
        cpu_stepping: info(&["stepping", "CPU revision"]),
        cpu_microcode: info(&["microcode"]),
        cpu_flags_sha256: flags.as_ref().map(|flags| flags_hash(flags)),
        cores_online: online.map(|cpus| u32::try_from(cpus.len()).unwrap_or(u32::MAX)),
        smt: facts.read("/sys/devices/system/cpu/smt/control"),
        turbo: turbo(facts),
        // Only x86 has the flag; its absence elsewhere tells nothing.
        virtual_machine: flags
            .filter(|_| cfg!(any(target_arch = "x86", target_arch = "x86_64")))
            .map(|flags| flags.split(' ').any(|flag| flag == "hypervisor")),
        kernel_release: facts.read("/proc/sys/kernel/osrelease"),
        clock_source: facts.read("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
        aslr: facts.number("/proc/sys/kernel/randomize_va_space"),
        transparent_huge_pages: facts
            .read("/sys/kernel/mm/transparent_hugepage/enabled")
            .and_then(|text| parse::chosen(&text)),
        memory_bytes: facts.read("/proc/meminfo").and_then(|text| parse::kib_line(&text, "MemTotal")),
        ..HostFingerprint::default()
    }
}

/// The kernel may list flags in any order.
fn flags_hash(flags: &str) -> String {
    let mut flags: Vec<&str> = flags.split_ascii_whitespace().collect();
    flags.sort_unstable();
    short_sha256(flags.join(" ").as_bytes())
}

/// Frequency governor of one CPU; virtual machines rarely have one.
pub(super) fn governor(facts: &Facts, cpu: usize) -> Option<String> {
    facts.read(format!("/sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor"))
}

/// Whether the CPU may run faster than its nominal frequency; the drivers say it in two ways.
pub(super) fn turbo(facts: &Facts) -> Option<bool> {
    let off: Option<u32> = facts.number("/sys/devices/system/cpu/intel_pstate/no_turbo");
    let on: Option<u32> = facts.number("/sys/devices/system/cpu/cpufreq/boost");
    off.map(|off| off == 0).or(on.map(|on| on != 0))
}

/// The hypervisor's name: as the CPU tells it, else as the firmware does.
fn hypervisor(facts: &Facts) -> Option<String> {
    let firmware = || {
        let name = facts.read("/sys/class/dmi/id/sys_vendor")?;
        let virtual_ones = ["QEMU", "VMware", "Xen", "Amazon EC2", "Google", "Microsoft", "innotek", "Parallels"];
        virtual_ones.iter().any(|known| name.contains(known)).then_some(name)
    };
    cpuid_hypervisor().or_else(|| facts.read("/sys/hypervisor/type")).or_else(firmware)
}

/// Twelve letters that a hypervisor leaves in CPUID leaf 0x40000000, such as `KVMKVMKVM`.
#[cfg(target_arch = "x86_64")]
fn cpuid_hypervisor() -> Option<String> {
    use std::arch::x86_64::__cpuid;
    // Bit 31 of leaf 1's ecx tells that there is a hypervisor, without which the leaf means nothing.
    // SAFETY: every x86-64 CPU has the instruction; later versions of Rust declare it safe.
    #[allow(unused_unsafe)]
    let (present, name) = unsafe { (__cpuid(1).ecx >> 31 == 1, __cpuid(0x4000_0000)) };
    let bytes: Vec<u8> = [name.ebx, name.ecx, name.edx].iter().flat_map(|word| word.to_le_bytes()).collect();
    let text: String = bytes.iter().take_while(|byte| byte.is_ascii_graphic()).map(|byte| char::from(*byte)).collect();
    (present && !text.is_empty()).then_some(text)
}

#[cfg(not(target_arch = "x86_64"))]
fn cpuid_hypervisor() -> Option<String> {
    None
}

#[cfg(target_env = "gnu")]
fn libc_version() -> Option<String> {
    // SAFETY: the function takes nothing and returns a static string that ends with a zero byte.
    let version = unsafe { std::ffi::CStr::from_ptr(libc::gnu_get_libc_version()) };
    Some(format!("glibc {}", version.to_str().ok()?))
}

#[cfg(not(target_env = "gnu"))]
fn libc_version() -> Option<String> {
    None
}

/// First line of what `program --version` prints; `None` if there is no such program.
pub(crate) fn first_line(program: impl AsRef<OsStr>) -> Option<String> {
    let mut command = Command::new(program);
    let got = process::capture(command.arg("--version").env("LC_ALL", "C"), VERSION_LIMIT).ok()?;
    let line = got.stdout.lines().next()?.trim();
    (got.status.success() && !line.is_empty()).then(|| line.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_without_proc_and_sys_is_unknown_not_zero() {
        let folder = tempfile::tempdir().unwrap();
        let nothing = recorded(&Facts::below(folder.path()));
        let expected = HostFingerprint { arch: nothing.arch.clone(), ..HostFingerprint::default() };
        assert_eq!(nothing, expected);
    }

    #[test]
    fn the_order_of_flags_does_not_matter_but_each_flag_does() {
        assert_eq!(flags_hash("sse avx2"), flags_hash("avx2 sse"));
        assert_ne!(flags_hash("sse avx2"), flags_hash("sse avx"));
    }

    #[test]
    fn both_drivers_tell_about_turbo() {
        let folder = tempfile::tempdir().unwrap();
        let facts = Facts::below(folder.path());
        let cpu = folder.path().join("sys/devices/system/cpu");
        std::fs::create_dir_all(cpu.join("intel_pstate")).unwrap();
        std::fs::create_dir_all(cpu.join("cpufreq")).unwrap();
        assert_eq!(turbo(&facts), None);
        std::fs::write(cpu.join("cpufreq/boost"), "0\n").unwrap();
        assert_eq!(turbo(&facts), Some(false));
        std::fs::write(cpu.join("intel_pstate/no_turbo"), "0\n").unwrap();
        assert_eq!(turbo(&facts), Some(true));
    }

    #[test]
    fn gathering_twice_gives_one_id() {
        let (one, two) = (gather(&Facts::here()), gather(&Facts::here()));
        assert_eq!(one, two);
        assert_eq!(one.id, one.id());
        assert!(one.compiler.is_some(), "Rust needs a C compiler to link, so there is one");
    }
}
