//! What a host is, as far as measured figures depend on it, and what disturbed it meanwhile.
//!
//! Gathering is the harness's business (`xtask/src/host`); here are the types that go into records,
//! and the pure functions over them. A fact that the host does not tell is `None`.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// Facts of a host that move measured figures, and a few that explain them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostFingerprint {
    /// [`HostFingerprint::id`] at the time of writing; kept in records so that readers need not hash.
    pub id: String,
    /// Architecture, such as `x86_64`.
    pub arch: String,
    /// Manufacturer of the CPU as it names itself.
    pub cpu_vendor: Option<String>,
    /// Marketing name of the CPU.
    pub cpu_model: Option<String>,
    /// `cpu family` (x86) or `CPU architecture` (Arm).
    pub cpu_family: Option<String>,
    /// `model` (x86) or `CPU part` (Arm).
    pub cpu_model_number: Option<String>,
    /// `stepping` (x86) or `CPU revision` (Arm).
    pub cpu_stepping: Option<String>,
    /// Microcode revision.
    pub cpu_microcode: Option<String>,
    /// SHA-256 (first 16 digits) of the sorted instruction-set flags: what -march=native sees.
    pub cpu_flags_sha256: Option<String>,
    /// CPUs that the kernel has switched on.
    pub cores_online: Option<u32>,
    /// CPUs that this process may run on, by affinity and control group.
    pub cores_allowed: Option<u32>,
    /// Hyper-threading: `on`, `off`, or the kernel's word for a fixed state.
    pub smt: Option<String>,
    /// Frequency governor of the CPU that workers are pinned to.
    pub governor: Option<String>,
    /// Whether the CPU may exceed its nominal frequency.
    pub turbo: Option<bool>,
    /// Hypervisor as it names itself; `None` on bare metal, see `virtual_machine`.
    pub hypervisor: Option<String>,
    /// Whether the CPU says that it is a virtual one.
    pub virtual_machine: Option<bool>,
    /// Kernel release, as `uname -r` prints it.
    pub kernel_release: Option<String>,
    /// Clock source of the kernel, such as `tsc`.
    pub clock_source: Option<String>,
    /// kernel.randomize_va_space: 0 off, 1 without the heap, 2 full.
    pub aslr: Option<u32>,
    /// Policy for transparent huge pages.
    pub transparent_huge_pages: Option<String>,
    /// Physical memory.
    pub memory_bytes: Option<u64>,
    /// First line of `cc --version`.
    pub compiler: Option<String>,
    /// First line of `ld --version`.
    pub linker: Option<String>,
    /// Version of the C library, such as `glibc 2.36`.
    pub libc: Option<String>,
    /// `rustc --version`.
    pub rustc: Option<String>,
}

impl HostFingerprint {
    /// Sixteen hexadecimal digits over everything that moves measured figures.
    ///
    /// Left out: memory to the byte (it varies by some pages between boots of one machine; whole GiB
    /// count), and `id` itself. A calibration holds for one id.
    pub fn id(&self) -> String {
        let memory_gib = self.memory_bytes.map(|bytes| (bytes + (1 << 29)) >> 30);
        let parts = (
            (&self.arch, &self.cpu_vendor, &self.cpu_model, &self.cpu_family, &self.cpu_model_number),
            (&self.cpu_stepping, &self.cpu_microcode, &self.cpu_flags_sha256),
            (self.cores_online, self.cores_allowed, &self.smt, &self.governor, self.turbo),
            (&self.hypervisor, self.virtual_machine, &self.kernel_release, &self.clock_source),
            (self.aslr, &self.transparent_huge_pages, memory_gib),
            (&self.compiler, &self.linker, &self.libc, &self.rustc),
        );
        // JSON of a tuple is unambiguous: every part is quoted and absent parts are `null`.
        let text = serde_json::to_string(&parts).expect("strings and numbers serialise");
        short_sha256(text.as_bytes())
    }

    /// The fingerprint with its `id` filled in.
    #[must_use]
    pub fn sealed(mut self) -> Self {
        self.id = self.id();
        self
    }

    /// One line for people.
    pub fn summary(&self) -> String {
        let known = |value: &Option<String>| value.clone().unwrap_or_else(|| "unknown".to_owned());
        let cores = self.cores_allowed.or(self.cores_online).map_or("? CPUs".to_owned(), |n| match n {
            1 => "1 CPU".to_owned(),
            n => format!("{n} CPUs"),
        });
        let machine = match (&self.hypervisor, self.virtual_machine) {
            (Some(name), _) => format!("virtual machine ({name})"),
            (None, Some(true)) => "virtual machine".to_owned(),
            (None, Some(false)) => "bare metal".to_owned(),
            (None, None) => "machine of unknown kind".to_owned(),
        };
        format!(
            "{}, {cores}, {machine}, Linux {}, {}",
            known(&self.cpu_model),
            known(&self.kernel_release),
            known(&self.compiler)
        )
    }
}

/// First sixteen hexadecimal digits of SHA-256.
pub fn short_sha256(content: &[u8]) -> String {
    Sha256::digest(content).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// What happened on the host outside the processes of a run, between two instants.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct External {
    /// Time between the two instants.
    pub wall_time_ns: u64,
    /// CPUs that were counted.
    pub cpus: u32,
    /// Time that the hypervisor withheld, summed over CPUs. Counted in ticks of `resolution_ns`.
    pub steal_ns: Option<u64>,
    /// `steal_ns` of the pinned CPU alone.
    pub steal_on_worker_cpu_ns: Option<u64>,
    /// CPU time of processes that are not ours, interrupts included, summed over CPUs.
    pub other_cpu_time_ns: Option<u64>,
    /// Time that our processes were runnable and waited for a CPU, exact to the nanosecond.
    pub run_delay_ns: Option<u64>,
    /// Load average of one minute at the end.
    pub load_average_1m: Option<f64>,
    /// Granularity of the figures that are counted in ticks.
    pub resolution_ns: Option<u64>,
}

impl External {
    /// Share of the CPU time of all CPUs that was stolen, 0 to 1.
    pub fn steal_share(&self) -> Option<f64> {
        self.share(self.steal_ns)
    }

    /// Share of the CPU time of all CPUs that other processes took, 0 to 1.
    pub fn other_share(&self) -> Option<f64> {
        self.share(self.other_cpu_time_ns)
    }

    fn share(&self, part_ns: Option<u64>) -> Option<f64> {
        let whole = self.wall_time_ns.checked_mul(u64::from(self.cpus)).filter(|whole| *whole > 0)?;
        part_ns.map(|part| part as f64 / whole as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> HostFingerprint {
        HostFingerprint {
            arch: "x86_64".into(),
            cpu_model: Some("EPYC".into()),
            memory_bytes: Some(24_684_096 * 1024),
            governor: Some("performance".into()),
            compiler: Some("gcc 12".into()),
            cores_allowed: Some(2),
            ..HostFingerprint::default()
        }
    }

    #[test]
    fn the_id_follows_what_moves_figures_and_nothing_else() {
        let id = host().id();
        assert_eq!(id.len(), 16);
        assert_eq!(id, host().sealed().id, "sealing does not change what is hashed");
        assert_eq!(id, host().sealed().id(), "the stored id is not part of itself");
        assert_eq!(id, HostFingerprint { memory_bytes: Some(24_684_000 * 1024), ..host() }.id());
        let changed = [
            HostFingerprint { governor: Some("powersave".into()), ..host() },
            HostFingerprint { governor: None, ..host() },
            HostFingerprint { cores_allowed: Some(1), ..host() },
            HostFingerprint { compiler: Some("gcc 13".into()), ..host() },
            HostFingerprint { memory_bytes: Some(12 << 30), ..host() },
            HostFingerprint { aslr: Some(0), ..host() },
        ];
        for other in changed {
            assert_ne!(id, other.id(), "{other:?}");
        }
    }

    #[test]
    fn a_value_cannot_slip_into_the_next_field() {
        let one = HostFingerprint { compiler: Some("a".into()), linker: None, ..host() };
        let two = HostFingerprint { compiler: None, linker: Some("a".into()), ..host() };
        assert_ne!(one.id(), two.id());
    }

    #[test]
    fn unknown_figures_are_null_in_records_and_come_back() {
        let text = serde_json::to_string(&host().sealed()).unwrap();
        assert!(text.contains("\"turbo\":null"));
        assert_eq!(serde_json::from_str::<HostFingerprint>(&text).unwrap(), host().sealed());
    }

    #[test]
    fn shares_are_of_all_cpus_and_unknown_stays_unknown() {
        let external = External { wall_time_ns: 1000, cpus: 2, steal_ns: Some(100), ..External::default() };
        assert!((external.steal_share().unwrap() - 0.05).abs() < 1e-12);
        assert_eq!(external.other_share(), None);
        assert_eq!(External { steal_ns: Some(1), ..External::default() }.steal_share(), None, "no time passed");
    }
}
