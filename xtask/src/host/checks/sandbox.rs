//! Which parts of the sandbox this host has, and what it costs.

use super::{Check, Status};
use crate::sandbox::{Sandbox, cost_seconds};
use model::sandbox::Part;
use serde_json::json;

pub(super) fn checks() -> Vec<Check> {
    let why = "code of a candidate is built and run where it can do no harm; the same for both sides";
    let sandbox = match Sandbox::open() {
        Ok(sandbox) => sandbox,
        Err(error) => return vec![Check::unknown("sandbox", why, format!("{error:#}"))],
    };
    let shown = match sandbox.missing() {
        [] => Part::ALL.map(Part::name).join(", "),
        _ => sandbox.described(),
    };
    let value = json!({ "missing": sandbox.missing() });
    let parts = Check::ok("sandbox", why, value, shown);
    let parts = if sandbox.missing().is_empty() {
        parts
    } else {
        let fixes: Vec<String> = sandbox
            .missing()
            .iter()
            .map(|missing| format!("{} ({}): {}", missing.part, missing.cause, fix(missing.part)))
            .collect();
        parts.but(Status::Missing, fixes.join("; "))
    };
    vec![parts, cost(&sandbox)]
}

fn cost(sandbox: &Sandbox) -> Check {
    let why = "every launch and every system call of a measured program pays it, on both sides";
    match cost_seconds(sandbox) {
        Ok((launch, call)) => {
            let (launch_ms, call_ns) = (launch * 1e3, call * 1e9);
            let shown = format!("{launch_ms:.1} ms a launch, {call_ns:.0} ns a system call");
            Check::ok("sandbox_cost", why, json!({ "launch_ms": launch_ms, "system_call_ns": call_ns }), shown)
        }
        Err(error) => Check::unknown("sandbox_cost", why, format!("{error:#}")),
    }
}

/// What makes a part available.
fn fix(part: Part) -> &'static str {
    match part {
        Part::Mounts | Part::Network | Part::Users => {
            "allow user namespaces (`sysctl -w kernel.unprivileged_userns_clone=1 user.max_user_namespaces=15000`, on Ubuntu \
             also `kernel.apparmor_restrict_unprivileged_userns=0`), or start the container with `--cap-add SYS_ADMIN` and \
             without its seccomp profile"
        }
        Part::Unprivileged => "start the container with the capabilities SETUID, SETGID and CHOWN",
        Part::Landlock => {
            "boot a kernel from 5.13 on (from 6.2 on where there are no `mounts`) with `landlock` in the `lsm=` list"
        }
        Part::Signals => "boot a kernel from 6.12 on with `landlock` in the `lsm=` list",
        Part::SystemCalls => "use a kernel with CONFIG_SECCOMP_FILTER",
    }
}
