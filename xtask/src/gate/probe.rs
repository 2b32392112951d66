//! Is a configuration the one that its name says? A program of ours, linked against the very library that is tested
//! and run in the very environment of its tests, asks the library and the kernel.

use super::build::GateBuild;
use super::child::{self, Bounds};
use super::launch;
use crate::build::outside::Outside;
use crate::build::without_compiler_settings;
use crate::context::Context;
use crate::{process, sandbox};
use anyhow::{Context as _, Result};
use model::gate::Proof;
use model::gate::tinytest::Ended;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

const CODE: &str = include_str!("probe.c");
/// Compiling and running it take a second.
const LIMIT: Duration = Duration::from_secs(20);
/// Kinds of descriptors that tell backends and timers apart.
const TELLING: &[&str] = &["eventpoll", "timerfd"];

/// Links the probe against a build, in `folder`.
pub(super) fn link(build: &GateBuild, folder: &Path) -> Result<PathBuf> {
    let place = folder.join(&build.id);
    let (code, program) = (folder.join("probe.c"), place.join("probe"));
    std::fs::write(&code, CODE).with_context(|| format!("cannot write {}", code.display()))?;
    let readable: Vec<&Path> = build.libraries.iter().map(PathBuf::as_path).chain([code.as_path()]).collect();
    let mut cc = sandbox::build_tool(&build.cc, &readable, &place)?;
    without_compiler_settings(&mut cc);
    cc.args(["-O1", "-g"]).args(&build.flags).arg("-o").arg(&program).arg(&code);
    cc.args(&build.libraries).args(&build.system_libraries).arg("-lpthread");
    let outside = Outside::begin(folder);
    let got = process::within_bounds("linking the probe", process::capture(&mut cc, LIMIT))?;
    if got.status.success() {
        return Ok(program);
    }
    let message = format!("the probe cannot be linked against build {}: {}", build.id, got.stderr.trim());
    Err(outside.error(got.status, &got.stderr, message))
}

/// What the library says of itself in an environment, or why it says nothing.
pub(super) fn ask(
    context: &Context,
    build: &GateBuild,
    program: &Path,
    environment: &BTreeMap<String, String>,
) -> Result<Result<Proof, String>> {
    let mut command = launch::command(context, build, program, environment)?;
    let abandoned = AtomicBool::new(false);
    let got = child::run(&mut command, None, Bounds { limit: LIMIT, output_bytes: 1 << 16, abandoned: &abandoned })?;
    Ok(match got.ended {
        Some(Ended::Exit(0)) => read(&got.stdout),
        Some(Ended::Hung) => Err(format!("the probe hangs: {}", got.hung_at.unwrap_or_default())),
        other => Err(format!("the probe ended with {other:?}: {}", got.stderr.trim())),
    })
}

fn read(text: &str) -> Result<Proof, String> {
    let all = |name: &str| -> Vec<String> {
        let values = text.lines().filter_map(|line| line.split_once('=')).filter(|(key, _)| *key == name);
        values.map(|(_, value)| value.to_owned()).collect()
    };
    let [method] = all("method").try_into().map_err(|_| format!("the probe printed no method: {text}"))?;
    let mut descriptors = all("descriptor");
    descriptors.retain(|kind| TELLING.contains(&kind.as_str()));
    descriptors.sort();
    descriptors.dedup();
    Ok(Proof { method, descriptors, debug_mode: all("debug") == ["1"] })
}

/// What differs between what is wanted and what was found.
pub(super) fn difference(wanted: &Proof, found: &Proof) -> Option<String> {
    let mut wanted = wanted.clone();
    wanted.descriptors.sort();
    if wanted == *found {
        return None;
    }
    let shown = |proof: &Proof| {
        let debug = if proof.debug_mode { ", debug mode" } else { "" };
        format!("method `{}`, descriptors [{}]{debug}", proof.method, proof.descriptors.join(", "))
    };
    Some(format!("the library uses {}, and this configuration is {}", shown(found), shown(&wanted)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_probe_prints_is_compared_with_what_is_wanted() {
        let text =
            "version=2\nsupported=epoll\nmethod=epoll\nfeatures=7\ndescriptor=timerfd\ndescriptor=eventpoll\ndebug=0\n";
        let found = read(text).unwrap();
        let wanted = Proof {
            method: "epoll".into(),
            descriptors: vec!["timerfd".into(), "eventpoll".into()],
            debug_mode: false,
        };
        assert_eq!(difference(&wanted, &found), None);
        let why = difference(&Proof { method: "poll".into(), ..Proof::default() }, &found).unwrap();
        assert!(why.contains("`epoll`") && why.contains("`poll`"), "{why}");
        assert!(difference(&Proof { debug_mode: true, ..wanted }, &found).is_some());
        assert!(read("").is_err() && read("method=a\nmethod=b\n").is_err());
    }
}
