//! Processors: how many, which are used, and what changes their speed.

use super::{Check, Scene, Status};
use crate::host::{cgroup, fingerprint, parse};
use serde_json::json;

pub(super) fn checks(scene: &Scene<'_>) -> Vec<Check> {
    vec![model(), machine(), cores(scene), pinning(scene), quota(scene), governor(scene), turbo(scene), smt(scene)]
}

fn model() -> Check {
    let why = "figures of different processors cannot be compared";
    let host = fingerprint();
    let Some(model) = &host.cpu_model else {
        return Check::unknown("cpu_model", why, "nothing to do: the kernel does not name the processor");
    };
    let value = json!({ "model": model, "family": host.cpu_family, "number": host.cpu_model_number,
        "stepping": host.cpu_stepping, "microcode": host.cpu_microcode });
    Check::ok("cpu_model", why, value, model.clone())
}

fn machine() -> Check {
    let why = "a hypervisor takes CPU time away and hides counters and frequencies";
    let host = fingerprint();
    let value = json!({ "virtual": host.virtual_machine, "hypervisor": host.hypervisor });
    match (&host.hypervisor, host.virtual_machine) {
        (None, Some(false)) => Check::ok("machine", why, value, "bare metal"),
        (None, None) => Check::unknown("machine", why, "nothing to do: the processor does not tell"),
        (name, _) => {
            let shown = format!("virtual machine ({})", name.as_deref().unwrap_or("unnamed hypervisor"));
            Check::ok("machine", why, value, shown)
                .but(Status::Degraded, "cannot be changed from inside a virtual machine; bare metal measures finer")
        }
    }
}

fn cores(scene: &Scene<'_>) -> Check {
    let why = "the worker needs one CPU, and its peers another, or they disturb each other";
    let online = scene.facts.cpus("/sys/devices/system/cpu/online");
    let group = cgroup::cpuset(&scene.facts);
    let Some(pinning) = &scene.pinning else {
        return Check::unknown("cores", why, "mount /proc, so that the allowed CPUs can be read").blocking();
    };
    let allowed = &pinning.all_allowed;
    let shown = format!(
        "{} allowed ({}) of {} online",
        allowed.len(),
        parse::show_cpus(allowed),
        online.as_ref().map_or("an unknown number".to_owned(), |cpus| cpus.len().to_string())
    );
    let value = json!({ "online": online, "allowed": allowed, "cgroup": group });
    let check = Check::ok("cores", why, value, shown);
    if allowed.len() > 1 {
        check
    } else if online.is_some_and(|online| online.len() > 1) {
        check.but(Status::Degraded, "start without `taskset`, or give the container more than one CPU (--cpuset-cpus)")
    } else {
        check.but(Status::Degraded, scene.on_bare_metal("use a machine with two CPUs or more"))
    }
}

fn pinning(scene: &Scene<'_>) -> Check {
    let why = "a process that moves between CPUs loses its caches in the middle of a measurement";
    let Some(pinning) = &scene.pinning else {
        return Check::unknown("pinning", why, "mount /proc, so that the allowed CPUs can be read").blocking();
    };
    let shown = format!("worker on CPU {}, peers on {}", pinning.worker, parse::show_cpus(&pinning.peers));
    let check = Check::ok("pinning", why, json!(pinning), shown);
    if pinning.shared {
        check.but(
            Status::Degraded,
            "allow a second CPU; until then figures of workloads with peers include their peers' disturbance",
        )
    } else if pinning.same_core {
        check.but(Status::Degraded, "allow CPUs of a second core; the peers run on the other thread of the worker's")
    } else {
        check
    }
}

fn quota(scene: &Scene<'_>) -> Check {
    let why = "a container over its CPU quota is stopped for milliseconds, in the middle of a batch";
    let throttled = cgroup::throttled_periods(&scene.facts);
    let Some(quota) = cgroup::quota(&scene.facts) else {
        return Check::ok("cpu_quota", why, json!({ "cpus": null, "throttled_periods": throttled }), "none");
    };
    let shown = format!("{:.2} CPUs by {}", quota.cpus, quota.file.display());
    let value = json!({ "cpus": quota.cpus, "file": quota.file, "throttled_periods": throttled });
    let check = Check::ok("cpu_quota", why, value, shown);
    let used = scene.pinning.as_ref().map_or(1, |pinning| pinning.all_allowed.len());
    if quota.cpus >= used as f64 {
        check
    } else {
        check.but(Status::Degraded, "start the container without --cpus; limit it with --cpuset-cpus instead")
    }
}

fn governor(scene: &Scene<'_>) -> Check {
    let why = "a governor that saves power runs short measurements at another frequency than long ones";
    let cpu = scene.pinning.as_ref().map_or(0, |pinning| pinning.worker);
    match fingerprint().governor {
        Some(name) if name == "performance" => Check::ok("governor", why, json!(name), name.clone()),
        Some(name) => {
            let set = format!("echo performance > /sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor");
            let fix = Scene::as_root(&format!("sh -c '{set}'"));
            Check::ok("governor", why, json!(name), name.clone()).but(Status::Degraded, fix)
        }
        None => Check::unknown(
            "governor",
            why,
            scene.on_bare_metal("nothing to do: the kernel has no frequency driver for this CPU"),
        ),
    }
}

fn turbo(scene: &Scene<'_>) -> Check {
    let why = "turbo depends on temperature and on the neighbours' load";
    match fingerprint().turbo {
        Some(false) => Check::ok("turbo", why, json!(false), "off"),
        Some(true) => {
            let intel = "/sys/devices/system/cpu/intel_pstate/no_turbo";
            let set = match scene.facts.path(intel).exists() {
                true => format!("echo 1 > {intel}"),
                false => "echo 0 > /sys/devices/system/cpu/cpufreq/boost".to_owned(),
            };
            Check::ok("turbo", why, json!(true), "on").but(Status::Degraded, Scene::as_root(&format!("sh -c '{set}'")))
        }
        None => {
            let fix = scene.on_bare_metal("look in the firmware's settings: the kernel does not tell");
            Check::unknown("turbo", why, fix)
        }
    }
}

fn smt(scene: &Scene<'_>) -> Check {
    let why = "work on the other thread of a core takes up to half of it";
    let active: Option<u32> = scene.facts.number("/sys/devices/system/cpu/smt/active");
    let value = json!({ "active": active.map(|n| n == 1), "control": fingerprint().smt });
    match active {
        Some(0) => Check::ok("smt", why, value, "off"),
        Some(_) => {
            let fix = Scene::as_root("sh -c 'echo off > /sys/devices/system/cpu/smt/control'");
            Check::ok("smt", why, value, "on").but(Status::Degraded, scene.on_bare_metal(&fix))
        }
        None => Check::unknown("smt", why, "nothing to do: the kernel does not tell"),
    }
}
