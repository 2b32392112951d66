//! Instructions per event under callgrind, of exactly the timed part of each batch: a figure that is the
//! same in every run, or none.
//!
//! They are those of user space, libraries included, of a build for an instruction set that callgrind
//! knows; the kernel and the cache are invisible to it. What would make two runs differ is pinned: the
//! clock and random numbers (bench-harness/csrc/pinned_clock.c), the environment, addresses, and which
//! functions of the C library are chosen. What is forgotten shows in the repeat, which is made each time.

use crate::context::Context;
use crate::exit::{Exit, failure};
use crate::sandbox::{Policy, Sandbox};
use crate::session::Surroundings;
use crate::setup::Places;
use crate::worker::WorkerCode;
use crate::{build, process, worker};
use anyhow::{Context as _, Result, bail};
use model::counts::{self, Collected, InstructionCount};
use model::protocol::Message;
use model::variant::Build;
use model::workload::WorkloadSpec;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Batches of the shorter run, cold ones among them; the longer run has twice as many, and the
/// difference is of warm batches alone.
pub(crate) const BATCHES: u64 = 2;
/// Times that both runs are made.
pub(crate) const REPEATS: u32 = 2;
/// The function around the timed part (bench-harness/src/worker/batch.rs).
const TIMED: &str = "bench_timed_batch";
/// callgrind takes about fifty times as long.
const SLOWDOWN: u32 = 100;
/// The longest that one run may take in any case.
const MOST: Duration = Duration::from_secs(300);

/// What a look at the clock takes: about as long as a short callback on a real CPU, so that limits on the
/// time of a loop turn end it after about as many callbacks.
pub(crate) const CLOCK_STEP_NS: u64 = 100;

/// What glibc would otherwise choose by the CPU. callgrind counts `rep movsb` (ERMS, FSRM) once a byte, where
/// a CPU takes 32 or more at a time: a copy of 16 KiB would count eight times what it does without it. The other
/// functions and the sizes of caches are those of the CPU that valgrind 3.19 imitates (x86-64-v3), for later
/// valgrinds, too. Other C libraries take no notice.
pub(crate) const TUNABLES: &str = "glibc.cpu.hwcaps=-ERMS,-FSRM,-RTM,-AVX512F,-AVX512VL,-AVX512BW:\
                        glibc.cpu.x86_data_cache_size=0x8000:\
                        glibc.cpu.x86_shared_cache_size=0x100000:\
                        glibc.cpu.x86_non_temporal_threshold=0xc0000:\
                        glibc.malloc.arena_max=1:\
                        glibc.malloc.hugetlb=0";

/// The names are as long for every build and host: they lie on the worker's stack.
const PROGRAM: &str = "worker";
const PINNED_CLOCK: &str = "pinned_clock.so";
/// Where callgrind writes costs down, if they are asked for.
const OUTPUT: &str = "callgrind.out";

/// Counts one workload on a build made for counting (`Purpose::Instructions`), with what it was taken from.
/// Of wrong work there is no count: that is an error with [`Exit::Failed`]. Nor is there one where two counts
/// of the same work differ.
pub(crate) fn count(
    context: &Context,
    build: &Build,
    code: &WorkerCode,
    spec: &WorkloadSpec,
    surroundings: &Surroundings<'_>,
) -> Result<InstructionCount> {
    let counter = Counter::prepare(context, build, code)?;
    let limit = Counter::limit(surroundings);
    let pairs = both_repeated(&|batches, _| counter.run(spec, batches, limit, None))?;
    let [short, long] = counts::agreed(&pairs)?;
    Ok(InstructionCount {
        per_event: counts::per_event(short, long, spec)?,
        short,
        long,
        batch_events: spec.batch_events,
        repeats: REPEATS,
        clock_step_ns: CLOCK_STEP_NS,
        fixed_addresses: counter.fixed_addresses,
        tunables: TUNABLES.to_owned(),
        valgrind: counter.version,
        build: build.id.clone(),
    })
}

/// The shorter and the longer run, as often as they are made; `run` is told the number of batches and which repeat it is.
pub(crate) fn both_repeated<T: Send>(run: &(impl Fn(u64, u32) -> Result<T> + Sync)) -> Result<Vec<[T; 2]>> {
    let pair = |repeat| -> Result<[T; 2]> { Ok([run(BATCHES, repeat)?, run(2 * BATCHES, repeat)?]) };
    // At the same time: they must agree whatever else the host does, and this halves the wait.
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..REPEATS).map(|repeat| scope.spawn(move || pair(repeat))).collect();
        let ended = running.into_iter().map(|thread| thread.join().unwrap_or_else(|e| std::panic::resume_unwind(e)));
        ended.collect()
    })
}

/// A worker and what pins it, in a folder of their own.
pub(crate) struct Counter {
    valgrind: PathBuf,
    /// `valgrind --version`.
    pub(crate) version: String,
    /// The kernel was told not to draw addresses.
    pub(crate) fixed_addresses: bool,
    folder: tempfile::TempDir,
}

/// Most bytes of callgrind's output file; a tenth of a megabyte is usual.
const MOST_OUTPUT_BYTES: u64 = 64 << 20;

impl Counter {
    /// Most time that one run may take.
    pub(crate) fn limit(surroundings: &Surroundings<'_>) -> Duration {
        (surroundings.limit * SLOWDOWN).min(MOST)
    }

    /// Links the worker and what pins it.
    pub(crate) fn prepare(context: &Context, build: &Build, code: &WorkerCode) -> Result<Counter> {
        // Found as `setup` finds it; the worker's environment has a PATH of its own.
        let valgrind = Places::here().program("valgrind").context("valgrind is not installed")?;
        let version = process::capture(Command::new(&valgrind).arg("--version"), Duration::from_secs(30))?;
        let folder = context.scratch("count-")?;
        // A fixed order of functions: instructions do not depend on it.
        let linked = worker::link(code, build, 0, folder.path())?;
        std::fs::rename(&linked.program, folder.path().join(PROGRAM)).context("cannot rename the worker")?;
        compile_pinned_clock(context, &folder.path().join(PINNED_CLOCK))?;
        let version = version.stdout.trim().to_owned();
        Ok(Counter { valgrind, version, fixed_addresses: may_fix_addresses(), folder })
    }

    /// The worker.
    pub(crate) fn program(&self) -> PathBuf {
        self.folder.path().join(PROGRAM)
    }

    /// Counts as [`Counter::run`] does, with what callgrind writes down: costs by function and by line. `number` tells runs at one time apart.
    pub(crate) fn attributed(
        &self,
        spec: &WorkloadSpec,
        batches: u64,
        number: u32,
        limit: Duration,
    ) -> Result<(Collected, String)> {
        let folder = self.folder.path().join(format!("out-{number}"));
        let collected = self.run(spec, batches, limit, Some(&folder))?;
        let path = folder.join(OUTPUT);
        // The sandbox's user wrote it, and could have put anything in its place.
        let metadata =
            std::fs::symlink_metadata(&path).with_context(|| format!("callgrind left no {}", path.display()))?;
        if !metadata.is_file() || metadata.len() > MOST_OUTPUT_BYTES {
            bail!("{} is no output of callgrind", path.display());
        }
        let bytes = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        std::fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        Ok((collected, String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// Counts the timed parts of so many batches, all of which the worker has checked.
    fn run(&self, spec: &WorkloadSpec, batches: u64, limit: Duration, output: Option<&Path>) -> Result<Collected> {
        let mut command = self.command(output)?;
        let file = output.map_or_else(|| PathBuf::from("/dev/null"), |folder| folder.join(OUTPUT));
        command.args(["--tool=callgrind", &format!("--toggle-collect={TIMED}")]);
        command.arg(format!("--callgrind-out-file={}", file.display()));
        command.arg(format!("./{PROGRAM}"));
        command.args(["profile", "--workload", &spec.name, "--batches", &batches.to_string()]);
        let got = process::capture(&mut command, limit)?;
        if let Some(wrong) = told_failure(&got.stdout) {
            return Err(failure(Exit::Failed, format!("under callgrind: {wrong}")));
        }
        if !got.status.success() {
            bail!("callgrind ended with {}: {}", got.status, last_line(&got.stderr));
        }
        let done = parse_done(&got.stdout).context("the worker did not say how many batches it did")?;
        if done != batches {
            bail!("the worker did {done} of {batches} batches");
        }
        if !is_pinned(&got.stderr) {
            bail!("the clock was not pinned: the worker ran without {PINNED_CLOCK}; {}", last_line(&got.stderr));
        }
        Ok(Collected { batches, instructions: parse_collected(&got.stderr)? })
    }

    /// valgrind in an environment that is the same to the byte for every build, user and host.
    fn command(&self, output: Option<&Path>) -> Result<Command> {
        let writable = output.map(Path::to_owned).into_iter().collect();
        let policy = Policy { readable: vec![self.folder.path().to_owned()], writable, ..Policy::measure() };
        let mut command = Sandbox::open()?.command(&policy, &self.valgrind)?;
        command.env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C").env("GLIBC_TUNABLES", TUNABLES);
        // valgrind hands it on to the worker.
        command.env("LD_PRELOAD", format!("./{PINNED_CLOCK}")).current_dir(self.folder.path());
        if self.fixed_addresses {
            // SAFETY: between fork and exec only personality is called, a plain system call.
            unsafe { command.pre_exec(|| fix_addresses().map(drop)) };
        }
        Ok(command)
    }
}

/// At run time, since cargo makes no shared library of C that would come with xtask; the C compiler is there.
fn compile_pinned_clock(context: &Context, library: &Path) -> Result<()> {
    let source = context.root.join("bench-harness/csrc/pinned_clock.c");
    let mut command = Command::new(build::compiler());
    command.args(["-O2", "-shared", "-fPIC"]).arg(format!("-DPINNED_CLOCK_STEP_NS={CLOCK_STEP_NS}"));
    command.arg("-o").arg(library).arg(&source);
    build::without_compiler_settings(&mut command);
    let got = process::capture(&mut command, Duration::from_secs(60))?;
    if !got.status.success() {
        bail!("{} does not compile: {}", source.display(), got.stderr.trim());
    }
    Ok(())
}

/// Tells the kernel not to draw addresses for this thread and what it starts; returns what it was told before.
fn fix_addresses() -> std::io::Result<libc::c_int> {
    const ASK: libc::c_ulong = 0xffff_ffff;
    let set = |persona: libc::c_ulong| {
        // SAFETY: a plain system call that changes a word of the calling thread.
        let before = unsafe { libc::personality(persona) };
        if before < 0 { Err(std::io::Error::last_os_error()) } else { Ok(before) }
    };
    let before = set(ASK)?;
    set(libc::c_ulong::from((before | libc::ADDR_NO_RANDOMIZE).cast_unsigned()))
}

/// Some containers refuse it; then the repeat alone decides whether addresses make a difference.
fn may_fix_addresses() -> bool {
    // In a thread of its own, which takes the setting with it.
    std::thread::spawn(|| fix_addresses().is_ok()).join().unwrap_or(false)
}

/// The worker's own word that its work was wrong.
fn told_failure(stdout: &str) -> Option<String> {
    let messages = stdout.lines().filter_map(|line| serde_json::from_str(line).ok());
    messages.into_iter().find_map(|message| match message {
        Message::Failed(failed) => Some(failed.error),
        _ => None,
    })
}

/// The number of `4 batches`, the worker's last line.
fn parse_done(stdout: &str) -> Option<u64> {
    stdout.lines().last()?.strip_suffix(" batches")?.parse().ok()
}

/// Whether the preloaded library said, in the worker and not only in what started it, that it is there.
fn is_pinned(stderr: &str) -> bool {
    let line = format!("pinned clock of {PROGRAM}: {CLOCK_STEP_NS} ns a look");
    stderr.lines().any(|said| said == line)
}

/// The total of `==123== Collected : 456`, of one process: a second one would be counted by itself.
fn parse_collected(stderr: &str) -> Result<u64> {
    let totals: Vec<&str> = stderr.lines().filter(|line| line.contains(" Collected : ")).collect();
    match totals.as_slice() {
        [line] => {
            let total = line.rsplit(' ').next().and_then(|word| word.parse().ok());
            total.with_context(|| format!("callgrind printed no total: {line}"))
        }
        [] => bail!("callgrind printed no total: {}", last_line(stderr)),
        more => bail!("callgrind counted {} processes; only workloads of one have an exact count", more.len()),
    }
}

fn last_line(text: &str) -> &str {
    text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("nothing was printed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_callgrinds_total() {
        let text = "==7== Events    : Ir\n==7== Collected : 1234567\n==7== \n==7== I   refs:      1,234,567\n";
        assert_eq!(parse_collected(text).unwrap(), 1_234_567);
        assert!(parse_collected("==7== Events : Ir\n").is_err());
        let two = parse_collected(&format!("{text}==8== Collected : 5\n")).unwrap_err();
        assert!(two.to_string().contains("2 processes"), "{two}");
    }

    #[test]
    fn a_total_without_the_clock_is_not_pinned() {
        let said = format!("x\npinned clock of {PROGRAM}: {CLOCK_STEP_NS} ns a look\n==7== Collected : 5\n");
        assert!(is_pinned(&said));
        assert!(!is_pinned(&said.replace(PROGRAM, "valgrind")), "what starts the worker is not the worker");
        assert!(!is_pinned("ERROR: ld.so: object './pinned_clock.so' cannot be preloaded: ignored.\n"));
    }

    #[test]
    fn the_workers_words_are_understood() {
        assert_eq!(parse_done("4 batches\n"), Some(4));
        assert_eq!(parse_done("batches\n"), None);
        assert_eq!(parse_done(""), None);
        let failed = model::protocol::Failed { workload: Some("w".into()), error: "expected 10 events, got 9".into() };
        let line = serde_json::to_string(&Message::Failed(failed)).unwrap();
        assert_eq!(told_failure(&format!("{line}\n")).as_deref(), Some("expected 10 events, got 9"));
        assert_eq!(told_failure("4 batches\n"), None);
    }

    #[test]
    fn the_thread_that_tries_takes_the_setting_with_it() {
        may_fix_addresses();
        // SAFETY: asks, and changes nothing.
        let persona = unsafe { libc::personality(0xffff_ffff) };
        assert_eq!(persona & libc::ADDR_NO_RANDOMIZE, 0);
    }
}
