//! `--variant CODE+WORD...`: the same code, built in another way.

use crate::support::{QUICK, World, scratch};
use serde_json::Value;
use std::fs;

/// The builds of both sides of a quick run.
fn builds(world: &World, variant: &str) -> (Value, [Value; 2]) {
    let document = world.run(&[QUICK, &["--json", "--variant", variant]].concat()).expect_code(0).document();
    let builds = [0, 1].map(|side| document["sides"][side]["build"].clone());
    (document, builds)
}

fn has_flag(build: &Value, flag: &str) -> bool {
    build["c_flags"].as_array().unwrap().iter().any(|given| given == flag)
}

#[test]
fn another_level_is_another_build_of_the_same_variant() {
    let world = World::prepared();
    let (document, [baseline, candidate]) = builds(&world, "-O3");
    assert_eq!((&baseline["profile"], &candidate["profile"]), (&"default".into(), &"O3".into()));
    assert_ne!(baseline["id"], candidate["id"]);
    assert_eq!(baseline["variant"], candidate["variant"]);
    assert!(has_flag(&candidate, "-O3") && !has_flag(&baseline, "-O3"));
    let command = candidate["event_c_command"].as_str().unwrap();
    assert!(command.contains(" -O3 ") && !command.contains(" -O2 "), "{command}");
    let workers = &document["harness"]["worker_sha256"];
    assert_eq!(workers["baseline"], workers["candidate"], "the measuring code is the same on both sides");
    assert!(!document["notes"].to_string().contains("identical"));

    // What the default does anyway is no other build.
    let (document, [baseline, candidate]) = builds(&world, "pristine+O2");
    assert_eq!(baseline["id"], candidate["id"]);
    assert_eq!(candidate["profile"], "O2");
    assert!(document["notes"].to_string().contains("identical"));
}

#[test]
fn libraries_are_optimised_as_a_whole_with_the_profile_of_a_training() {
    let world = World::prepared();
    let (document, [baseline, candidate]) = builds(&world, "pgo+lto");
    assert_eq!(candidate["profile"], "lto+pgo");
    assert_ne!(baseline["id"], candidate["id"]);
    assert!(has_flag(&candidate, "-flto"), "{candidate}");
    assert!(candidate["lto_command"].as_str().unwrap().contains("--whole-archive"), "{candidate}");
    assert_eq!(candidate["pgo_profile_sha256"].as_str().unwrap().len(), 64);
    assert_eq!((&baseline["lto_command"], &baseline["pgo_profile_sha256"]), (&Value::Null, &Value::Null));
    assert!(!candidate.to_string().contains(world.work.to_str().unwrap()), "no path of this machine: {candidate}");
    let workers = &document["harness"]["worker_sha256"];
    assert_eq!(workers["baseline"], workers["candidate"], "the worker's own code is not optimised with libevent");
    let error = |side: usize| document["workloads"][side]["error"].clone();
    assert_eq!((error(0), error(1)), (Value::Null, Value::Null));

    // The training is not done again.
    let (_, [_, again]) = builds(&world, "lto+pgo");
    assert_eq!(again["pgo_profile_sha256"], candidate["pgo_profile_sha256"]);
    assert_eq!((&again["id"], &again["libraries"]), (&candidate["id"], &candidate["libraries"]));
}

#[test]
fn a_variant_is_named_by_its_id() {
    let world = World::prepared();
    let id = world.build()["variant"]["id"].as_str().unwrap();
    for name in [&id[..6], id] {
        let (_, [baseline, candidate]) = builds(&world, &format!("{name}+O2"));
        assert_eq!(baseline["variant"]["tree"], candidate["variant"]["tree"]);
    }
    let nobody = if id.starts_with("00000000") { "11111111" } else { "00000000" };
    world.run(&["bench", "--variant", nobody]).expect_refusal(1, &[nobody, "begins so"]);
}

#[test]
fn a_text_that_names_nothing_is_answered_with_what_is_known() {
    let world = World::prepared();
    for (text, words) in [
        ("O9", &["no variant `O9`", "`tip`", "gcc, clang, O1, O2, O3, Os, lto, pgo"][..]),
        ("pristine+O9", &["pristine+O9", "PATH@REVISION"]),
        ("gcc+clang", &["both `gcc` and `clang`"]),
        ("O2+-O3", &["both `O2` and `O3`"]),
        ("pristine+lto+lto", &["`lto` twice"]),
        ("rev:master", &["rev:REVISION", "--source"]),
    ] {
        world.run(&["bench", "--quick", "--variant", text]).expect_refusal(1, words);
    }
    assert!(world.records().is_empty(), "nothing was measured");
}

#[test]
fn a_file_with_plus_signs_in_its_name_is_a_file() {
    let world = World::prepared();
    let folder = scratch();
    let patch = folder.path().join("my+O3");
    fs::write(&patch, "no patch at all\n").unwrap();
    world.run(&["bench", "--quick", "--variant", patch.to_str().unwrap()]).expect_refusal(2, &["my+O3", "apply"]);
    // With a word behind it, it is still the file.
    let text = format!("{}+O3", patch.display());
    world.run(&["bench", "--quick", "--variant", &text]).expect_refusal(2, &["my+O3", "apply"]);
}
