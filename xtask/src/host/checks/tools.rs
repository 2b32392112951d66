//! The tools that verbs need, with their versions.

use super::{Check, Scene, Status};
use crate::host::fingerprint;
use crate::setup::{self, Places, TODAY, TOOLS, Tool, Verb};
use serde_json::json;

pub(super) fn checks(scene: &Scene<'_>) -> Vec<Check> {
    let places = Places::here();
    let mut checks: Vec<Check> = TOOLS.iter().map(|tool| check(tool, &places, scene)).collect();
    checks.push(rust());
    checks
}

fn check(tool: &'static Tool, places: &Places, scene: &Scene<'_>) -> Check {
    if let Some(path) = places.find(tool) {
        let version = setup::version(tool, &path);
        let shown = version.clone().unwrap_or_else(|| path.display().to_string());
        return Check::ok(tool.name, tool.lost, json!({ "path": path, "version": version }), shown);
    }
    let by_hand = setup::command_for(tool).unwrap_or_else(|| "install it by hand".to_owned());
    let all = if tool.is_required(TODAY) { "" } else { " --all" };
    let check = Check::ok(tool.name, tool.lost, json!({ "path": null, "version": null }), "not found")
        .but(Status::Missing, format!("cargo xtask setup{all}; or {by_hand}"));
    // What bench installs by itself does not keep it from measuring.
    if tool.is_required(&[Verb::Bench]) && !setup::installs_by_itself(scene.context) { check.blocking() } else { check }
}

fn rust() -> Check {
    let why = "the worker's own code is compiled by it";
    match fingerprint().rustc {
        Some(version) => Check::ok("rustc", why, json!({ "version": version }), version.clone()),
        None => Check::unknown("rustc", why, "put rustc into PATH (https://rustup.rs)"),
    }
}
