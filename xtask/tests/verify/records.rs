//! Gates of libraries that behave, and what is written down of them.

use crate::support::{World, copy_workspace, edit, scratch};

/// Leaves little to run: one configuration, a handful of tests, one run of each on pristine, few cases of models.
pub(crate) fn small(world: World) -> (World, tempfile::TempDir) {
    let folder = scratch();
    let root = folder.path().join("workspace");
    copy_workspace(&root);
    crate::support::copy_libevent(&root.join("libevent"));
    let file = root.join("config/gate.toml");
    edit(&file, "pristine_runs = 3", "pristine_runs = 1");
    edit(&file, "floor_seconds = 15.0", "floor_seconds = 4.0");
    edit(&file, "hung_tests = 6", "hung_tests = 3");
    let core = "core = [\"main/\", \"heap/\", \"evbuffer/\", \"bufferevent/\", \"finalize/\", \"et/\", \"thread/\", \"test-eof\", \
                \"test-closed\", \"test-weof\", \"test-init\"]";
    edit(&file, core, "core = [\"evbuffer/\", \"heap/\", \"test-init\"]");
    let models = root.join("config/models.toml");
    for (random, systematic) in [(400, 600), (2000, 6000), (300, 300), (500, 500)] {
        let cases = |random, systematic| format!("random = {random}\nsystematic = {systematic}\n");
        edit(&models, &cases(random, systematic), &cases(random / 10, systematic / 10));
    }
    edit(&models, "whole = [\"lifetimes\", \"malloc\"]\n", "");
    edit(&models, "whole = [\"lifetimes\"]\n", "");
    let text = std::fs::read_to_string(&file).unwrap();
    let (before, _) = text.split_once("[reach.files]").unwrap();
    std::fs::write(&file, format!("{before}[reach.files]\n\"*\" = []\n\"minheap-internal.h\" = []\n")).unwrap();
    (world.at(&root), folder)
}

#[test]
fn a_harmless_patch_passes_and_what_was_run_is_counted() {
    let (world, _folder) = small(World::prepared());
    let patch = crate::misbehaving::harmless(&world);
    let outcome = world.run(&["verify", "--json", &patch]).expect_code(0);
    let record = outcome.document();
    assert_eq!(
        (&record["schema"], &record["verdict"], &record["tier"]),
        (&"verify/1".into(), &"pass".into(), &"light".into())
    );
    let stages = record["stages"].as_array().unwrap();
    let epoll = stages.iter().find(|stage| stage["name"] == "epoll").unwrap();
    assert_eq!(epoll["tests_run"], epoll["tests_expected"]);
    assert!(epoll["tests_run"].as_u64().unwrap() > 10, "{epoll}");
    assert_eq!(epoll["proof"]["method"], "epoll");
    let [folder] = world.records().try_into().expect("one run, one folder");
    assert!(folder.join("logs/epoll/evbuffer_add1.log").is_file(), "a log for every test");
    world.run(&["verify", &patch, "--rerun-failed"]).expect_refusal(1, &["nothing failed"]);
}
