//! Everything that `doctor` looks at, each as one [`Check`].

mod cpu;
mod disturbance;
mod kernel;
mod resources;
mod sandbox;
mod tools;

use crate::context::Context;
use crate::host::{Facts, Pinning};
use serde::Serialize;
use serde_json::Value;

/// What a check found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    /// As it should be.
    Ok,
    /// Figures can be taken, but are noisier or slower to get.
    Degraded,
    /// Some figures cannot be taken, or a tool is not there.
    Missing,
    /// The host does not tell.
    Unknown,
}

/// One line of the doctor's answer.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Check {
    /// Stable name.
    pub(crate) name: &'static str,
    /// What was found.
    pub(crate) status: Status,
    /// The figures, for machines.
    pub(crate) value: Value,
    /// The same, for people.
    pub(crate) shown: String,
    /// Why it matters, in one sentence.
    pub(crate) why: &'static str,
    /// What to do; always there unless all is well.
    pub(crate) fix: Option<String>,
    /// Nothing can be measured until it is fixed.
    pub(crate) blocks: bool,
}

impl Check {
    /// All is well.
    fn ok(name: &'static str, why: &'static str, value: Value, shown: impl Into<String>) -> Self {
        Check { name, status: Status::Ok, value, shown: shown.into(), why, fix: None, blocks: false }
    }

    /// Something is not as it should be, and what to do about it.
    fn but(self, status: Status, fix: impl Into<String>) -> Self {
        Check { status, fix: Some(fix.into()), ..self }
    }

    /// The host does not tell, and why that may be.
    fn unknown(name: &'static str, why: &'static str, fix: impl Into<String>) -> Self {
        Check::ok(name, why, Value::Null, "unknown").but(Status::Unknown, fix)
    }

    /// Nothing can be measured until it is fixed.
    fn blocking(self) -> Self {
        Check { blocks: true, ..self }
    }
}

/// What checks know when they start.
pub(crate) struct Scene<'a> {
    facts: Facts,
    context: &'a Context,
    pinning: Option<Pinning>,
    virtual_machine: bool,
}

impl<'a> Scene<'a> {
    /// The running system.
    pub(crate) fn here(context: &'a Context, virtual_machine: bool) -> Self {
        Scene { facts: Facts::here(), context, pinning: super::pinning().ok(), virtual_machine }
    }

    /// The fix on a real machine, or the word that there is none in a virtual one.
    fn on_bare_metal(&self, fix: &str) -> String {
        match self.virtual_machine {
            true => "cannot be changed from inside a virtual machine".to_owned(),
            false => fix.to_owned(),
        }
    }

    /// A command that needs the rights of root, as this user types it.
    fn as_root(command: &str) -> String {
        match super::is_root() {
            true => command.to_owned(),
            false => format!("sudo {command}"),
        }
    }
}

/// Runs every check, in the order in which people read them. Takes a few seconds.
pub(crate) fn all(scene: &Scene<'_>) -> Vec<Check> {
    // The load is looked at first, before the checks themselves cause any.
    let disturbance = disturbance::checks(scene);
    let mut checks = cpu::checks(scene);
    checks.extend(disturbance);
    checks.extend(kernel::checks(scene));
    checks.extend(resources::checks(scene));
    checks.extend(sandbox::checks());
    checks.extend(tools::checks(scene));
    checks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_that_tells_nothing_still_gets_an_answer_with_fixes() {
        let folder = tempfile::tempdir().unwrap();
        let context = Context {
            root: folder.path().to_owned(),
            work: folder.path().join("work"),
            runs: folder.path().join("runs"),
            calibrations: folder.path().join("calibrations"),
            install: false,
            json: true,
            sandbox_without: vec![],
        };
        let scene =
            Scene { facts: Facts::below(folder.path()), context: &context, pinning: None, virtual_machine: true };
        let mut checks = cpu::checks(&scene);
        checks.extend(kernel::checks(&scene));
        checks.extend(resources::checks(&scene));
        checks.extend(tools::checks(&scene));
        for check in &checks {
            assert_eq!(check.status == Status::Ok, check.fix.is_none(), "{check:?}");
            assert!(check.status != Status::Unknown || check.value.is_null(), "{check:?}");
            assert!(!check.why.is_empty() && !check.shown.is_empty(), "{check:?}");
        }
        let status = |name| checks.iter().find(|check| check.name == name).unwrap();
        assert_eq!(status("memory").status, Status::Unknown);
        assert_eq!(status("tracepoints").value["folder"], Value::Null);
        assert!(status("pinning").blocks, "without a CPU to pin to, nothing can be measured");
    }
}
