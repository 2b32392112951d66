//! What records of profiles say for the manifest: of a run that has just ended, and of those that experiments keep.

use super::{HotMethods, Limits, Measured, MeasuredSymbol, Provenance};
use crate::profile::{ProfileRecord, WorkloadProfile};
use crate::record::Role;
use crate::variant::Build;
use std::collections::BTreeMap;

/// What a manifest takes of one workload's profile, or why it takes nothing.
///
/// # Errors
/// A profile that failed, without samples, or with fewer than `fewest_samples`.
pub fn of_workload(
    profile: &WorkloadProfile,
    build: &Build,
    host: &str,
    at: &str,
    fewest_samples: u64,
    present: BTreeMap<String, String>,
) -> Result<Measured, String> {
    let (event, samples) = enough_samples(profile, fewest_samples)?;
    let symbols = profile.symbols.iter().map(|share| MeasuredSymbol {
        symbol: share.symbol.clone(),
        self_pct: share.self_share * 100.0,
        inclusive_pct: Some(share.inclusive_share * 100.0),
    });
    Ok(Measured {
        provenance: Provenance {
            workload: profile.workload.clone(),
            host: host.to_owned(),
            variant: profile.variant.clone(),
            variant_name: build.variant.name.clone(),
            build: build.id.clone(),
            event,
            samples,
            at: at.to_owned(),
        },
        symbols: symbols.collect(),
        present,
    })
}

/// By what a profile was sampled, and how many samples it has.
///
/// # Errors
/// Why they are too few for shares that are kept.
pub fn enough_samples(profile: &WorkloadProfile, fewest: u64) -> Result<(String, u64), String> {
    if let Some(error) = &profile.error {
        return Err(error.clone());
    }
    let attribution = profile.phases.iter().find(|phase| phase.phase == "attribution");
    let Some((event, budget)) = attribution.and_then(|phase| phase.source.clone()).zip(profile.budget.as_ref()) else {
        let why = attribution.and_then(|phase| phase.fallback.as_deref()).unwrap_or("the phase was not done");
        return Err(format!("no samples: {why}"));
    };
    match budget.samples {
        samples if samples >= fewest => Ok((event, samples)),
        samples => Err(format!("{samples} samples, and {fewest} are the fewest; a longer --seconds finds more")),
    }
}

/// What a manifest takes of one side of a record. A record does not tell the files of functions: they are those that `manifest`
/// knows, or that instructions were counted in, or not known. Of a record from before functions with code of their own were kept,
/// nothing is taken: it does not tell what is absent.
pub fn of_record(record: &ProfileRecord, role: Role, manifest: &HotMethods) -> Vec<Measured> {
    let (Some(own), Some(side)) = (record.functions.get(&role), record.sides.iter().find(|side| side.role == role))
    else {
        return vec![];
    };
    let workloads = || record.workloads.iter().filter(|workload| workload.role == role && workload.error.is_none());
    let mut files: BTreeMap<&str, &str> = BTreeMap::new();
    for function in workloads().filter_map(|workload| workload.instructions.as_ref()).flat_map(|all| &all.functions) {
        if let Some(file) = function.file.as_deref().filter(|_| function.part.is_libevent()) {
            files.entry(function.symbol.split('.').next().unwrap_or_default()).or_insert(file);
        }
    }
    files.extend(manifest.unlisted.iter().filter_map(|entry| Some((entry.symbol.as_str(), entry.file.as_deref()?))));
    files.extend(manifest.methods.iter().map(|method| (method.symbol.as_str(), method.file.as_str())));
    let file = |name: &str| files.get(name).map_or(String::new(), |file| (*file).to_owned());
    let present: BTreeMap<String, String> = own.names().map(|name| (name.to_owned(), file(name))).collect();
    let (host, at) = (&record.head.host.id, &record.head.finished_at);
    let fewest = record.settings.config.fewest_samples;
    workloads().filter_map(|one| of_workload(one, &side.build, host, at, fewest, present.clone()).ok()).collect()
}

impl HotMethods {
    /// The manifest with what `records` say, oldest first, as far as it has nothing newer itself: of each workload, the newest profile.
    /// `None` where it has newer ones of all of them. The same records and their own result come to the same again.
    pub fn with_records(&self, records: &[Measured], limits: &Limits) -> Option<HotMethods> {
        let mut newest: BTreeMap<&str, &Measured> = BTreeMap::new();
        for measured in records {
            let workload = measured.provenance.workload.as_str();
            let is_newer = |known: &&Measured| known.provenance.at > measured.provenance.at;
            if newest.get(workload).is_none_or(|known| !is_newer(known)) {
                newest.insert(workload, measured);
            }
        }
        let own = |workload: &str| self.profiles.iter().find(|profile| profile.workload == workload);
        let is_due = |measured: &&&Measured| {
            own(&measured.provenance.workload).is_none_or(|profile| profile.at <= measured.provenance.at)
        };
        let due: Vec<Measured> = newest.values().filter(is_due).map(|measured| (*measured).clone()).collect();
        let last = due.iter().map(|measured| measured.provenance.at.as_str()).max()?;
        let has_newer = self.profiles.iter().any(|profile| profile.at.as_str() > last);
        let mut merged = self.merge(&due, limits).manifest;
        if has_newer {
            // What was absent is said of the last profile, which is none of these.
            for (method, before) in merged.methods.iter_mut().zip(&self.methods) {
                method.absent.clone_from(&before.absent);
            }
        }
        Some(merged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const MANIFEST: &str = "[[method]]\nsymbol = \"evbuffer_add\"\nfile = \"buffer.c\"\ntier = \"evbuffer-data-plane\"\nnote = \"a copy\"\n\n\
                            [[method]]\nsymbol = \"evbuffer_drain\"\nfile = \"buffer.c\"\ntier = \"evbuffer-data-plane\"\nnote = \"frees\"\n";

    fn symbol(name: &str, share: f64) -> Value {
        json!({ "symbol": name, "origin": "libevent", "self_share": share, "inclusive_share": share, "charged_share": null,
            "user_self_share": null })
    }

    fn workload(name: &str, role: &str, share: f64, samples: u64) -> Value {
        let counted = json!({ "symbol": "evbuffer_expand.isra.0", "file": "buffer.c", "part": "evbuffer", "self_per_event": 1.0,
            "self_pct": 1.0, "inclusive_per_event": 1.0, "inclusive_pct": 1.0, "cycle": null });
        json!({ "workload": name, "variant": "c".repeat(12), "role": role, "event": "e", "metric": "cpu_time",
            "kernel_share": null, "user_share": null, "idle_share": null, "bottleneck": null, "tier": null, "classification": null,
            "budget": { "wall_ns_per_event": 1.0, "cpu_ns_per_event": 1.0, "samples": samples, "kernel_share_of_cpu": null,
                "syscall_share": null, "outside_samples": 0, "unplaced_share": 0.0, "several_cpus": false,
                "instructions_per_event": null, "cycles_per_event": null, "instructions_per_cycle": null,
                "branch_misses_per_event": null, "branch_miss_share": null, "cache_misses_per_event": null,
                "cache_misses_per_kilo_instruction": null },
            "symbols": [symbol("evbuffer_add", share), symbol("evbuffer_expand", 0.25), symbol("hidden", 0.1), symbol("memcpy", 0.2)],
            "manifest": {}, "off_cpu": null, "syscalls": [], "io": null,
            "instructions": { "per_event": 100.0, "batches": 1, "events": 1, "repeats": 2, "functions": [counted], "lines": [],
                "annotated": [], "clock_step_ns": 1, "fixed_addresses": true, "tunables": "", "valgrind": "", "build": "" },
            "allocations": null,
            "phases": [{ "phase": "attribution", "source": "cpu-clock", "fallback": null, "seconds": 1.0, "perturbation": null,
                "lost": 0 }],
            "files": {}, "notes": [], "error": null })
    }

    fn record(at: &str, workloads: &[Value]) -> ProfileRecord {
        let build = json!({ "id": "8".repeat(12), "purpose": "measure", "compiler": "gcc", "build_type": "Release", "c_flags": [],
            "options": [], "event_c_command": "", "tls": false, "headers_sha256": "", "libraries": [],
            "variant": { "id": "c".repeat(12), "name": "EXP-0001", "patches": [], "tree": "", "commit": "",
                "source": { "label": "l", "tree": "", "root_commit": "", "upstream_commit": null, "pinned": true } } });
        let config = crate::profile::tests::config();
        serde_json::from_value(json!({
            "schema": "profile/1", "host": crate::host::HostFingerprint::default().sealed(), "partial": false, "id": "x",
            "started_at": "", "finished_at": at, "command": [],
            "settings": { "config": config, "worker_cpu": 0, "peer_cpus": [], "layout_seed": 0, "sandbox": "", "missing": [] },
            "harness": { "commit": null, "dirty": null, "worker_sha256": {}, "ingredients_sha256": "", "xtask_sha256": "",
                "rustc": "", "user_workloads": [] },
            "sides": [{ "role": "candidate", "build": build, "instructions_build": null }],
            "functions": { "candidate": ["evbuffer_add", "evbuffer_expand", "hidden"] },
            "workloads": workloads, "shifts": [], "notes": [],
        }))
        .unwrap()
    }

    fn manifest() -> HotMethods {
        HotMethods::parse(MANIFEST).unwrap()
    }

    fn of(at: &str, share: f64) -> Vec<Measured> {
        of_record(&record(at, &[workload("w1", "candidate", share, 5000)]), Role::Candidate, &manifest())
    }

    #[test]
    fn a_record_says_what_the_run_said_as_far_as_it_tells() {
        let workloads = [
            workload("w1", "baseline", 0.9, 5000),
            workload("w1", "candidate", 0.2, 5000),
            workload("w2", "candidate", 0.2, 10),
        ];
        let record = record("2026-11-28T05:00:00Z", &workloads);
        let [measured] = &of_record(&record, Role::Candidate, &manifest())[..] else {
            panic!("one with samples enough")
        };
        let provenance = &measured.provenance;
        assert_eq!(
            (provenance.workload.as_str(), provenance.samples, provenance.at.as_str()),
            ("w1", 5000, "2026-11-28T05:00:00Z")
        );
        assert_eq!((provenance.variant_name.as_str(), provenance.event.as_str()), ("EXP-0001", "cpu-clock"));
        let merged = manifest().with_records(std::slice::from_ref(measured), &Limits::default()).unwrap();
        assert_eq!(merged.methods[0].share.as_ref().unwrap()["w1"], 20.0);
        assert!(merged.methods[1].absent.as_ref().unwrap().contains("not in EXP-0001"), "{:?}", merged.methods[1]);
        // Hot, libevent's and no method: the file of the one is that in which its instructions were counted, of the other nobody knows it.
        let unlisted: Vec<_> =
            merged.unlisted.iter().map(|entry| (entry.symbol.as_str(), entry.file.as_deref())).collect();
        assert_eq!(unlisted, [("evbuffer_expand", Some("buffer.c")), ("hidden", None)]);
        HotMethods::parse(&merged.to_toml()).unwrap();
        let old = ProfileRecord { functions: BTreeMap::new(), ..record };
        assert!(of_record(&old, Role::Candidate, &manifest()).is_empty(), "it does not tell what is absent");
    }

    #[test]
    fn the_newest_profile_of_a_workload_counts_and_the_same_comes_to_the_same() {
        let [one, two] = [("2026-11-28T05:00:00Z", 0.2), ("2026-11-28T06:00:00Z", 0.123_456)]
            .map(|(at, share)| of(at, share).remove(0));
        let limits = Limits::default();
        let share = |manifest: &HotMethods| manifest.methods[0].share.as_ref().unwrap()["w1"];
        for records in [[one.clone(), two.clone()], [two.clone(), one.clone()]] {
            let merged = manifest().with_records(&records, &limits).unwrap();
            assert!((share(&merged) - 12.3456).abs() < 1e-9, "whatever their order");
            let text = merged.to_toml();
            let again = HotMethods::parse(&text).unwrap().with_records(&records, &limits).unwrap();
            assert_eq!(again.to_toml(), text);
        }
        assert_eq!(manifest().with_records(&[], &limits), None);
        // What the manifest has that is newer stays.
        let newer = manifest().with_records(std::slice::from_ref(&two), &limits).unwrap();
        assert_eq!(newer.with_records(std::slice::from_ref(&one), &limits), None);
        let mut other = two.clone();
        other.provenance.workload = "w2".to_owned();
        other.present.insert("evbuffer_drain".to_owned(), "buffer.c".to_owned());
        let both = manifest().merge(std::slice::from_ref(&other), &limits).manifest;
        assert_eq!(both.methods[1].absent, None);
        let merged = both.with_records(std::slice::from_ref(&one), &limits).unwrap();
        assert_eq!((share(&merged), merged.profiles.len()), (20.0, 2));
        assert_eq!(merged.methods[1].absent, None, "the last profile had it");
    }
}
