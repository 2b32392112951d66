//! A workspace of its own with the prepared state: its experiments are nobody else's.

use crate::desk::Desk;
use crate::support::{Outcome, World, copy_libevent, copy_workspace};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

/// A workspace without experiments, in the prepared work folder.
pub(crate) struct Lab {
    pub(crate) world: World,
    pub(crate) desk: Desk,
    /// Such variants of other tests, whose work folder it is, too: to those with a test patch no id leads (xtask/src/variant.rs).
    unnamed: Vec<PathBuf>,
    _folder: tempfile::TempDir,
}

/// Folders of variants that nothing says what they are.
fn unnamed(work: &Path) -> Vec<PathBuf> {
    let variants = fs::read_dir(work.join("variants")).into_iter().flatten().flatten().map(|entry| entry.path());
    variants.filter(|variant| !variant.join("variant.json").is_file()).collect()
}

/// What a run of an experiment depends on in the work folder, besides builds.
const OF_RUNS: &[&str] = &["steps", "experiments"];

impl Lab {
    pub(crate) fn new() -> Lab {
        let world = World::prepared();
        let desk = Desk::new(&world);
        let folder = crate::support::scratch();
        let root = folder.path().join("workspace");
        copy_workspace(&root);
        fs::remove_dir(root.join("libevent")).unwrap();
        copy_libevent(&root.join("libevent"));
        let template = fs::read(root.join("experiments/TEMPLATE.md")).ok();
        fs::remove_dir_all(root.join("experiments")).unwrap();
        fs::create_dir_all(root.join("experiments")).unwrap();
        template.iter().for_each(|text| fs::write(root.join("experiments/TEMPLATE.md"), text).unwrap());
        let unnamed = unnamed(&world.work);
        let lab = Lab { world: world.at(&root), desk, unnamed, _folder: folder };
        lab.forget_runs();
        fs::remove_dir_all(lab.world.work.join("names")).unwrap_or(());
        fs::remove_dir_all(lab.world.work.join("edits")).unwrap_or(());
        fs::remove_dir_all(lab.world.work.join("set-aside")).unwrap_or(());
        lab
    }

    /// Results of steps are forgotten: the next run does all of them.
    pub(crate) fn forget_runs(&self) {
        OF_RUNS.iter().for_each(|name| fs::remove_dir_all(self.world.work.join(name)).unwrap_or(()));
    }

    /// Runs `exp` with `--json` behind it.
    pub(crate) fn exp(&self, args: &[&str]) -> Outcome {
        self.world.run(&[&["exp"], args, &["--json"]].concat())
    }

    /// A patch that changes nothing that anybody calls.
    pub(crate) fn harmless(&self) -> PathBuf {
        self.desk.patch("buffer.c", "int evbuffer_unused_(void);\nint evbuffer_unused_(void) { return 1; }")
    }

    /// Opens an experiment with a patch; returns its id.
    pub(crate) fn proposed(&self, patch: &Path) -> String {
        let open = ["open", "--hypothesis", "a test's own", "--technique", "none", "--predict", "evbuffer_drain=less"];
        let id = self.exp(&open).expect_code(0).document()["id"].as_str().unwrap().to_owned();
        self.exp(&["attach", &id, patch.to_str().unwrap()]).expect_code(0);
        id
    }

    pub(crate) fn ledger(&self) -> PathBuf {
        self.world.root.join("experiments/ledger.jsonl")
    }

    /// Entries of the ledger; fails unless every line is whole.
    pub(crate) fn entries(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.ledger()).unwrap();
        assert!(text.is_empty() || text.ends_with('\n'), "half a line: {text}");
        text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
    }

    /// Kinds of the entries about an experiment.
    pub(crate) fn kinds(&self, id: &str) -> Vec<String> {
        let of = |entry: &Value| entry["event"]["kind"].as_str().unwrap().to_owned();
        self.entries().iter().filter(|entry| entry["experiment"] == id).map(of).collect()
    }

    pub(crate) fn folder(&self, id: &str) -> PathBuf {
        self.world.root.join("experiments").join(id)
    }

    /// What the verdict of an experiment is made of, without what a clock says: sides, tests, seeds, draws.
    pub(crate) fn inputs(&self, id: &str) -> Value {
        let document = self.exp(&["show", id]).expect_code(0).document();
        let (gate, compare) = (&document["gate"], &document["compare"]);
        let stages: Vec<Value> = gate["stages"]
            .as_array()
            .unwrap()
            .iter()
            .map(|stage| serde_json::json!([stage["name"], stage["verdict"], stage["tests_run"], stage["failed"]]))
            .collect();
        let workloads: Vec<Value> = compare["workloads"]
            .as_array()
            .unwrap()
            .iter()
            .map(|workload| {
                let draw = |block: &Value| {
                    let pair = &block["pairs"][0];
                    serde_json::json!([
                        block["layout_seed"],
                        pair["environment_bytes"],
                        pair["candidate_started_first"]
                    ])
                };
                let blocks = workload["block_records"].as_array().unwrap();
                let draws: Vec<Value> = blocks.iter().take(8).map(draw).collect();
                assert!(draws.len() == 8, "{workload}");
                serde_json::json!([workload["workload"], workload["checksum"], draws])
            })
            .collect();
        serde_json::json!({
            "gate": [gate["variant"], gate["pristine"], gate["tier"], gate["verdict"], stages],
            "compare": [compare["baseline"], compare["candidate"], compare["settings"]["seed"],
                compare["settings"]["budget_s"], workloads],
            "decision": document["experiment"]["decision"]["verdict"],
        })
    }

    /// Fails if there is a worktree that nothing leads to, or a scratch folder of a run that has ended.
    fn assert_no_folder_is_orphaned(&self) {
        let work = &self.world.work;
        let below =
            |name: &str| fs::read_dir(work.join(name)).into_iter().flatten().flatten().map(|entry| entry.path());
        for edit in below("edits") {
            let name = edit.file_name().unwrap().to_string_lossy().into_owned();
            assert!(work.join(format!("names/{name}.json")).is_file(), "nothing leads to {}", edit.display());
        }
        for variant in unnamed(work) {
            assert!(self.unnamed.contains(&variant), "nothing says what {} is", variant.display());
        }
        assert_eq!(below("scratch").collect::<Vec<_>>(), Vec::<PathBuf>::new(), "of runs that have ended");
    }

    /// Fails if anything is left that belongs to a run which has ended.
    pub(crate) fn assert_nothing_is_left(&self) {
        self.world.assert_no_worker_is_left();
        let aside = fs::read_dir(self.world.work.join("set-aside")).into_iter().flatten().flatten();
        let aside: Vec<PathBuf> =
            aside.map(|entry| entry.path()).filter(|path| !path.to_string_lossy().contains("ledger-line-")).collect();
        assert_eq!(aside, Vec::<PathBuf>::new(), "a worktree was taken for somebody's work");
        self.assert_no_folder_is_orphaned();
        for variant in fs::read_dir(self.world.work.join("variants")).unwrap().flatten() {
            let names = fs::read_dir(variant.path()).unwrap().flatten().map(|entry| entry.file_name());
            for name in names {
                assert!(!name.to_string_lossy().ends_with(".unfinished"), "{:?}", variant.path());
            }
        }
    }
}
