//! Shares in config/hot-methods.toml, from the profiles of accepted experiments: each is one of the tip that its acceptance made.

use super::Place;
use super::rebuild::read;
use crate::exp::steps::read_json;
use crate::{files, variant};
use anyhow::Result;
use model::hot_methods::{HotMethods, Limits, Measured, recorded};
use model::ledger::event::FileRef;
use model::ledger::history::{Experiment, History};
use model::profile::ProfileRecord;
use model::record::Role;

/// Relative to the workspace.
pub(super) const NAME: &str = "config/hot-methods.toml";

/// The manifest with the newest profile of each workload; `None` where no accepted experiment has one that is newer than the
/// manifest's own, and where there is no manifest: then it stays as people left it.
pub(super) fn text(place: &Place, history: &History) -> Result<Option<String>> {
    let accepted = history.series.iter().filter_map(|id| history.experiments.get(id));
    let profiled: Vec<(&Experiment, &FileRef)> =
        accepted.filter_map(|experiment| Some((experiment, of_its_tip(experiment)?))).collect();
    if profiled.is_empty() {
        return Ok(None);
    }
    let Some(text) = read(place, NAME)? else { return Ok(None) };
    // Such as one in which git left a conflict: it is people's to mend, and nothing else waits for that. `unreadable` names it.
    let Ok(manifest) = HotMethods::parse(&text) else { return Ok(None) };
    let mut measured: Vec<Measured> = Vec::new();
    for (experiment, record) in profiled {
        let path = place.folder(&experiment.id).join(&record.path);
        // One that is not what the ledger vouches for is no record; the check of the ledger names it.
        if path.is_file() && files::sha256_file(&path)? == record.sha256 {
            // A record of another version has no shares that this one can read.
            let record = read_json::<ProfileRecord>(&path);
            measured.extend(record.iter().flat_map(|record| recorded::of_record(record, Role::Candidate, &manifest)));
        }
    }
    Ok(manifest.with_records(&measured, &Limits::default()).map(|manifest| manifest.to_toml()))
}

/// What is wrong with the manifest, if there is one and it cannot be read: then shares of accepted experiments are not in it.
pub(super) fn unreadable(place: &Place) -> Result<Option<String>> {
    let Some(text) = read(place, NAME)? else { return Ok(None) };
    Ok(HotMethods::parse(&text).err().map(|error| format!("cannot be read: {error}; correct the entry, and rebuild")))
}

/// The record of an accepted experiment's profile, if its candidate was the tip that the acceptance made. One that was forced
/// against another tip than it started from was not.
fn of_its_tip(experiment: &Experiment) -> Option<&FileRef> {
    let (profiled, tip) = (experiment.profiled.as_ref()?, experiment.acceptance.as_ref()?.tip());
    (profiled.sides[1] == variant::id_of(&tip.source_tree, &tip.patches)).then_some(&profiled.record)
}

#[cfg(test)]
mod tests {
    use super::super::check::{self, Severity};
    use super::super::fixtures::{Workspace, forced, opened};
    use super::*;
    use model::gate::{Tier, Verdict};
    use model::ledger::event::{Attached, Event, Gated, Profiled, TipRef};
    use serde_json::{Value, json};

    const MANIFEST: &str = "[[method]]\nsymbol = \"evbuffer_add\"\nfile = \"buffer.c\"\ntier = \"evbuffer-data-plane\"\nnote = \"a copy\"\n";

    fn record(at: &str, share: f64) -> Value {
        let config = model::profile::Config::parse(include_str!("../../../config/profile.toml")).unwrap();
        let build = json!({ "id": "8".repeat(12), "purpose": "measure", "compiler": "gcc", "build_type": "Release", "c_flags": [],
            "options": [], "event_c_command": "", "tls": false, "headers_sha256": "", "libraries": [],
            "variant": { "id": "c".repeat(12), "name": "EXP-0001", "patches": [], "tree": "", "commit": "",
                "source": { "label": "l", "tree": "", "root_commit": "", "upstream_commit": null, "pinned": true } } });
        let symbol = json!({ "symbol": "evbuffer_add", "origin": "libevent", "self_share": share, "inclusive_share": share,
            "charged_share": null, "user_self_share": null });
        let workload = json!({ "workload": "w", "variant": "c".repeat(12), "role": "candidate", "event": "e", "metric": "cpu_time",
            "kernel_share": null, "user_share": null, "idle_share": null, "bottleneck": null, "tier": null, "classification": null,
            "budget": model::profile::Budget { samples: 5000, ..Default::default() }, "symbols": [symbol], "manifest": {},
            "off_cpu": null, "syscalls": [], "io": null, "instructions": null, "allocations": null,
            "phases": [{ "phase": "attribution", "source": "cpu-clock", "fallback": null, "seconds": 1.0, "perturbation": null,
                "lost": 0 }],
            "files": {}, "notes": [], "error": null });
        json!({
            "schema": "profile/1", "host": model::host::HostFingerprint::default().sealed(), "partial": false, "id": "x",
            "started_at": "", "finished_at": at, "command": [],
            "settings": { "config": config, "worker_cpu": 0, "peer_cpus": [], "layout_seed": 0, "sandbox": "", "missing": [] },
            "harness": { "commit": null, "dirty": null, "worker_sha256": {}, "ingredients_sha256": "", "xtask_sha256": "",
                "rustc": "", "user_workloads": [] },
            "sides": [{ "role": "candidate", "build": build, "instructions_build": null }],
            "functions": { "candidate": ["evbuffer_add"] }, "workloads": [workload], "shifts": [], "notes": [],
        })
    }

    /// An experiment with a profile; returns its id and the tip that it would make.
    fn profiled(workspace: &Workspace, record: &Value) -> (String, TipRef) {
        let mut book = workspace.book();
        let id = book.open_experiment(opened("Larger reads", &TipRef::default())).unwrap();
        let put = |name: &str, text: &str| {
            files::write_atomic(&workspace.place.folder(&id).join(name), text.as_bytes()).unwrap();
        };
        put("p.patch", "patch");
        put("run-1-a/gate.json", "{}");
        put("run-1-a/profile.json", &record.to_string());
        let patch = book.file(&id, "p.patch").unwrap();
        let tip = TipRef { patches: vec![patch.sha256.clone()], commit: "d".repeat(40), ..TipRef::default() };
        let candidate = variant::id_of(&tip.source_tree, &tip.patches);
        let attached = Attached {
            patch,
            test_patch: None,
            variant: candidate.clone(),
            screened: vec![],
            tree: None,
            reason: None,
        };
        book.append(&id, Event::Attached(attached), &[]).unwrap();
        let gated = Gated {
            variant: candidate.clone(),
            tier: Tier::Full,
            verdict: Verdict::Pass,
            failed: vec![],
            record: book.file(&id, "run-1-a/gate.json").unwrap(),
            tests_changed: vec![],
            attempt: None,
        };
        book.append(&id, Event::Gated(gated), &[]).unwrap();
        let record = book.file(&id, "run-1-a/profile.json").unwrap();
        let profiled =
            Profiled { sides: ["b".repeat(12), candidate], shifts: vec![], record, missing: vec![], attempt: None };
        book.append(&id, Event::Profiled(profiled), &[]).unwrap();
        (id, tip)
    }

    fn stale(workspace: &Workspace) -> Vec<String> {
        let findings = check::of(&workspace.place).unwrap().findings;
        findings.into_iter().filter(|finding| finding.severity == Severity::Stale).map(|finding| finding.file).collect()
    }

    #[test]
    fn shares_are_those_of_the_accepted_tip_and_a_check_says_when_they_are_not() {
        let workspace = Workspace::new();
        let manifest = workspace.place.root.join(NAME);
        let now = || std::fs::read_to_string(&manifest).unwrap();
        files::write_atomic(&manifest, MANIFEST.as_bytes()).unwrap();
        let (id, tip) = profiled(&workspace, &record("2026-11-28T05:00:00Z", 0.215));
        workspace.book().rebuild().unwrap();
        assert_eq!(now(), MANIFEST, "nothing is accepted");
        workspace.book().append(&id, forced(tip), &[]).unwrap();
        assert!(stale(&workspace).contains(&NAME.to_owned()));
        let written = workspace.book().rebuild().unwrap();
        assert!(written.contains(&manifest), "{written:?}");
        let text = now();
        assert!(text.contains("share = { w = 21.50 }") || text.contains("share = { \"w\" = 21.50 }"), "{text}");
        assert!(stale(&workspace).is_empty() && workspace.book().rebuild().unwrap().is_empty(), "it is what it was");
        std::fs::write(&manifest, text.replace("21.50", "1.50")).unwrap();
        assert_eq!(stale(&workspace), [NAME]);
        workspace.book().rebuild().unwrap();
        assert_eq!(now(), text);
        // A newer profile of somebody's stays, and what people write does.
        let newer = text.replace("05:00:00Z", "07:00:00Z").replace("21.50", "3.50").replace("a copy", "a copy of all");
        std::fs::write(&manifest, &newer).unwrap();
        assert!(stale(&workspace).is_empty() && workspace.book().rebuild().unwrap().is_empty());
        assert_eq!(now(), newer);
    }

    #[test]
    fn a_record_that_was_changed_and_a_profile_of_another_tip_say_nothing() {
        let workspace = Workspace::new();
        let manifest = workspace.place.root.join(NAME);
        files::write_atomic(&manifest, MANIFEST.as_bytes()).unwrap();
        let (id, tip) = profiled(&workspace, &record("2026-11-28T05:00:00Z", 0.2));
        let of = |change: fn(&mut History, &str)| {
            let (_, mut history) = workspace.place.read().unwrap();
            change(&mut history, &id);
            text(&workspace.place, &history).unwrap()
        };
        workspace.book().append(&id, forced(tip), &[]).unwrap();
        assert!(of(|_, _| {}).is_some());
        let other = |history: &mut History, id: &str| {
            history.experiments.get_mut(id).unwrap().profiled.as_mut().unwrap().sides[1] = "e".repeat(12);
        };
        assert_eq!(of(other), None, "it was forced against another tip than it was profiled on");
        let file = workspace.place.folder(&id).join("run-1-a/profile.json");
        std::fs::write(&file, record("2026-11-28T05:00:00Z", 0.9).to_string()).unwrap();
        assert_eq!(of(|_, _| {}), None, "the ledger vouches for another one");
    }

    #[test]
    fn a_manifest_that_git_left_in_conflict_is_named_and_nothing_else_waits_for_it() {
        let workspace = Workspace::new();
        let manifest = workspace.place.root.join(NAME);
        files::write_atomic(&manifest, MANIFEST.as_bytes()).unwrap();
        let (id, tip) = profiled(&workspace, &record("2026-11-28T05:00:00Z", 0.2));
        workspace.book().append(&id, forced(tip), &[]).unwrap();
        workspace.book().rebuild().unwrap();
        assert!(stale(&workspace).is_empty());
        let conflict = "<<<<<<< ours\n[x]\n=======\n[y]\n>>>>>>> theirs\n";
        std::fs::write(&manifest, conflict).unwrap();
        let index = workspace.place.root.join(model::experiment::layout::EXPERIMENTS).join("EXPERIMENTS.md");
        std::fs::write(&index, "stale").unwrap();
        workspace.book().rebuild().unwrap();
        assert_ne!(std::fs::read_to_string(&index).unwrap(), "stale", "pages are made all the same");
        assert_eq!(std::fs::read_to_string(&manifest).unwrap(), conflict, "people's to mend");
        assert_eq!(stale(&workspace), [NAME]);
    }
}
