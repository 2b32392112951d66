//! What the kernel is set to, and what it lets this user count and trace.

use super::{Check, Scene, Status};
use crate::host::{counters, fingerprint, is_root};
use serde_json::json;

pub(super) fn checks(scene: &Scene<'_>) -> Vec<Check> {
    vec![release(), aslr(), huge_pages(), paranoid(scene), hardware(scene), tracepoints(scene), ptrace(scene)]
}

fn release() -> Check {
    let why = "most workloads spend their time in the kernel";
    match fingerprint().kernel_release {
        Some(release) => Check::ok("kernel", why, json!(release), release.clone()),
        None => Check::unknown("kernel", why, "mount /proc"),
    }
}

fn aslr() -> Check {
    let why = "random addresses move figures from launch to launch; many launches average that out";
    match fingerprint().aslr {
        Some(level) => {
            let shown = match level {
                0 => "off: all launches share one layout, and its luck",
                1 => "on, without the heap",
                _ => "on",
            };
            let check = Check::ok("aslr", why, json!(level), shown);
            match level {
                2 => check,
                _ => check.but(Status::Degraded, Scene::as_root("sysctl -w kernel.randomize_va_space=2")),
            }
        }
        None => Check::unknown("aslr", why, "mount /proc"),
    }
}

fn huge_pages() -> Check {
    let why = "huge pages given to some launches and not to others move figures";
    match fingerprint().transparent_huge_pages {
        Some(policy) if policy == "always" => {
            let set = "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled";
            Check::ok("transparent_huge_pages", why, json!(policy), policy.clone())
                .but(Status::Degraded, Scene::as_root(&format!("sh -c '{set}'")))
        }
        Some(policy) => Check::ok("transparent_huge_pages", why, json!(policy), policy.clone()),
        None => Check::unknown("transparent_huge_pages", why, "nothing to do: the kernel was built without them"),
    }
}

fn paranoid(scene: &Scene<'_>) -> Check {
    let why = "the kernel decides who may count; tracepoints need -1 or root";
    let Some(level) = counters::paranoid(&scene.facts) else {
        return Check::unknown("perf_event_paranoid", why, "use a kernel with perf events (CONFIG_PERF_EVENTS)");
    };
    let check = Check::ok("perf_event_paranoid", why, json!(level), level.to_string());
    if level < 0 || is_root() {
        return check;
    }
    check.but(Status::Degraded, Scene::as_root("sysctl -w kernel.perf_event_paranoid=-1"))
}

fn hardware(scene: &Scene<'_>) -> Check {
    let why = "they count instructions and cache misses of timed runs; without them callgrind counts instructions";
    let all = counters::hardware();
    let value: serde_json::Map<_, _> = all
        .iter()
        .map(|(name, result)| {
            let error = result.as_ref().err();
            ((*name).to_owned(), json!({ "counts": error.is_none(), "error": error }))
        })
        .collect();
    let broken: Vec<&str> = all.iter().filter(|(_, result)| result.is_err()).map(|(name, _)| *name).collect();
    let Some(reason) = all.iter().find_map(|(_, result)| result.as_ref().err()) else {
        return Check::ok("hardware_counters", why, value.into(), "all count");
    };
    let shown = format!("no {}: {reason}", broken.join(", "));
    let fix = match reason.contains("not permit") {
        true => Scene::as_root("sysctl -w kernel.perf_event_paranoid=-1"),
        false => scene.on_bare_metal("use a kernel with a driver for this processor's counters"),
    };
    Check::ok("hardware_counters", why, value.into(), shown).but(Status::Missing, fix)
}

fn tracepoints(scene: &Scene<'_>) -> Check {
    let why = "they count system calls per event exactly; strace does it where they are missing, and slowly";
    let name = "tracepoints";
    let mounted = counters::tracefs(&scene.facts);
    let error = match counters::system_calls() {
        Ok(()) => return Check::ok(name, why, json!({ "folder": mounted, "counts": true }), "raw_syscalls count"),
        Err(error) => error,
    };
    let check = Check::ok(name, why, json!({ "folder": mounted, "counts": false, "error": error }), error.clone());
    let fix = match (is_root(), mounted.is_some()) {
        (false, _) => "run as root, which may mount and read tracefs".to_owned(),
        (true, false) => "mount -t tracefs nodev /sys/kernel/tracing".to_owned(),
        (true, true) => {
            "start the container with --cap-add PERFMON, or use a kernel with CONFIG_FTRACE_SYSCALLS".to_owned()
        }
    };
    check.but(Status::Missing, fix)
}

fn ptrace(scene: &Scene<'_>) -> Check {
    let why = "strace traces through ptrace";
    let allowed = counters::may_trace();
    let tracer = counters::traced_by(&scene.facts);
    let value = json!({ "allowed": allowed.is_ok(), "tracer_pid": tracer });
    match (allowed, tracer) {
        (Ok(()), None | Some(0)) => Check::ok("ptrace", why, value, "allowed"),
        (Ok(()), Some(pid)) => Check::ok("ptrace", why, value, format!("this process itself is traced by {pid}"))
            .but(Status::Degraded, "do not run under strace or a debugger: it slows every system call"),
        (Err(error), _) => Check::ok("ptrace", why, value, format!("refused: {error}")).but(
            Status::Missing,
            "sysctl -w kernel.yama.ptrace_scope=1 as root, or start the container with --cap-add SYS_PTRACE",
        ),
    }
}
