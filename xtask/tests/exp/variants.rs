//! `variant`: names, worktrees for editing, disk use.

use crate::desk::Desk;
use crate::support::{Outcome, TINY, World};
use serde_json::Value;
use std::fs;
use std::path::PathBuf;

fn variant(world: &World, args: &[&str]) -> Outcome {
    world.run(&[&["variant"], args].concat())
}

/// The prepared state without names.
fn prepared() -> World {
    let world = World::prepared();
    for name in ["names", "edits", "set-aside"] {
        fs::remove_dir_all(world.work.join(name)).unwrap_or(());
    }
    world
}

#[test]
#[ignore = "builds two variants and times one; part of the soak"]
fn a_name_stands_for_a_patch_wherever_code_does() {
    let world = prepared();
    let desk = Desk::new(&world);
    let patch = desk.patch("buffer.c", "int evbuffer_unused_(void);\nint evbuffer_unused_(void) { return 1; }");
    let patch = patch.to_str().unwrap();
    let made = variant(&world, &["new", "my-idea", "--patch", patch, "--json"]).expect_code(0).document();
    assert_eq!(
        (&made["schema"], &made["name"], &made["partial"]),
        (&"variant/1".into(), &"my-idea".into(), &false.into())
    );
    let id = made["id"].as_str().unwrap();

    let shown = variant(&world, &["show", "my-idea", "--json"]).expect_code(0).document();
    assert_eq!(shown["id"], id);
    assert_eq!(shown["variant"]["patches"].as_array().unwrap().len(), 1);
    let by_id = variant(&world, &["show", &id[..8], "--json"]).expect_code(0).document();
    assert_eq!(by_id["variant"]["tree"], shown["variant"]["tree"]);

    let stat = variant(&world, &["diff", "my-idea", "--stat"]).expect_code(0).stdout;
    assert_eq!(stat, "buffer.c: +2 -0\n");
    let diff = variant(&world, &["diff", "pristine", "my-idea", "--json"]).expect_code(0).document();
    assert!(diff["diff"].as_str().unwrap().contains("-int evbuffer_unused_(void);"), "{diff}");

    // Other verbs: the record names the variant by its name.
    let args = ["bench", "--quick", "--launches", "2", "--workload", TINY, "--variant", "my-idea", "--json"];
    let record = world.run(&args).expect_code(0).document();
    let build = &record["sides"][1]["build"];
    assert_eq!((&build["variant"]["id"], &build["variant"]["name"]), (&id.into(), &"my-idea".into()));

    let listed = variant(&world, &["list", "--json"]).expect_code(0).document();
    let of = |id: &str| listed["variants"].as_array().unwrap().iter().find(|v| v["id"] == id).unwrap().clone();
    assert_eq!((&of(id)["state"], &of(id)["names"][0]), (&"named".into(), &"my-idea".into()));
    let pristine = world.build()["variant"]["id"].as_str().unwrap();
    assert_eq!(of(pristine)["state"], "needed");
    let sum: u64 = listed["variants"].as_array().unwrap().iter().map(|v| v["bytes"].as_u64().unwrap()).sum();
    assert_eq!(listed["bytes"].as_u64(), Some(sum));
    assert!(of(id)["places"].as_array().unwrap().iter().any(|place| place["kind"] == "build"), "{}", of(id));

    variant(&world, &["new", "my-idea", "--patch", patch]).expect_refusal(1, &["my-idea", "--replace"]);
    variant(&world, &["new", "lto"]).expect_refusal(1, &["`lto`", "means something else"]);
    variant(&world, &["show", "no-such-name"]).expect_refusal(1, &["no variant `no-such-name`", "`variant new` gave"]);

    // What would go, what is refused, and what goes.
    let would = variant(&world, &["prune", "my-idea", "--forget", "--dry-run", "--json"]).expect_code(0).document();
    assert_eq!((&would["doomed"][0]["id"], &would["forgotten"][0]), (&id.into(), &"my-idea".into()));
    assert!(world.work.join("variants").join(id).is_dir(), "a dry run removes nothing");
    variant(&world, &["prune", pristine]).expect_refusal(1, &[pristine, "cannot go: it is pristine"]);
    variant(&world, &["prune", "my-idea", "--forget"]).expect_code(0);
    assert!(!world.work.join("variants").join(id).exists());
    assert!(!world.work.join("names/my-idea.json").exists());
    variant(&world, &["show", "my-idea"]).expect_refusal(1, &["no variant `my-idea`"]);
}

#[test]
fn edits_become_a_patch_by_the_rules_for_patches() {
    let world = prepared();
    let made = variant(&world, &["new", "draft", "--edit", "--json"]).expect_code(0).document();
    let worktree = PathBuf::from(made["edit"].as_str().unwrap());
    variant(&world, &["save", "draft"]).expect_refusal(1, &["nothing in", "differs"]);

    let buffer = worktree.join("buffer.c");
    let pristine = fs::read_to_string(&buffer).unwrap();
    fs::write(&buffer, format!("{pristine}int evbuffer_unused_(void);\nint evbuffer_unused_(void) {{ return 2; }}\n"))
        .unwrap();
    let shown = variant(&world, &["show", "draft", "--json"]).expect_code(0).document();
    assert_eq!(
        (&shown["unsaved_edits"], &shown["id"]),
        (&true.into(), &made["id"]),
        "what is measured is what was saved"
    );
    let out = world.folder.path().join("draft.patch");
    let saved = variant(&world, &["save", "draft", "--out", out.to_str().unwrap(), "--json"]).expect_code(0).document();
    assert_ne!(saved["id"], made["id"]);
    assert!(fs::read_to_string(&out).unwrap().contains("+int evbuffer_unused_(void) { return 2; }"));
    // The same patch by its file is the same variant.
    let by_file = variant(&world, &["show", out.to_str().unwrap(), "--json"]).expect_code(0).document();
    assert_eq!(by_file["id"], saved["id"]);
    assert_eq!(by_file["variant"]["tree"], saved["variant"]["tree"]);

    // What no patch may touch is refused, and the variant stays what it was.
    let bench = worktree.join("test/bench.c");
    let text = fs::read_to_string(&bench).unwrap();
    fs::write(&bench, format!("{text}/* faster */\n")).unwrap();
    variant(&world, &["save", "draft"]).expect_refusal(2, &["refused", "touches test/bench.c"]);
    let shown = variant(&world, &["show", "draft", "--json"]).expect_code(0).document();
    assert_eq!(shown["id"], saved["id"]);

    // Edits that are not saved are somebody's work.
    let id = saved["id"].as_str().unwrap();
    let pruned = variant(&world, &["prune", id, "--forget", "--json"]).expect_code(0).document();
    assert!(pruned["kept"][0].as_str().unwrap().contains("not saved"), "{pruned}");
    assert!(bench.exists());
    fs::write(&bench, text).unwrap();
    variant(&world, &["prune", id, "--forget"]).expect_code(0);
    assert!(!worktree.exists());
}

#[test]
fn a_shell_leaves_no_process_behind_and_has_no_terminal() {
    let world = prepared();
    // One in the shell's group, and one that has left it.
    let script = "sleep 86399 & setsid sleep 86398 & sleep 0.5; cut -d' ' -f7 /proc/$$/stat";
    let shown = variant(&world, &["shell", "pristine", "--", "sh", "-c", script]).expect_code(0).stdout;
    assert_eq!(shown.trim(), "0", "no controlling terminal");
    let left = || {
        let processes = fs::read_dir("/proc").unwrap().flatten();
        let lines = processes.filter_map(|of| fs::read(of.path().join("cmdline")).ok());
        lines
            .map(|line| String::from_utf8_lossy(&line).into_owned())
            .filter(|line| line.contains("8639"))
            .collect::<Vec<_>>()
    };
    assert!(crate::support::eventually(|| left().is_empty()), "{:?}", left());
}

#[test]
fn names_of_edits_that_were_begun_and_ended_are_no_work() {
    let world = prepared();
    variant(&world, &["new", "draft", "--edit"]).expect_code(0);
    // As a kill in the middle of making the worktree leaves it.
    fs::write(world.work.join("edits/draft/src.unfinished"), "").unwrap();
    fs::remove_file(world.work.join("edits/draft/src/buffer.c")).unwrap();
    variant(&world, &["save", "draft"]).expect_refusal(1, &["has no worktree for editing"]);
    variant(&world, &["new", "draft", "--edit"]).expect_refusal(1, &["--replace"]);
    variant(&world, &["new", "draft", "--edit", "--replace"]).expect_code(0);
    assert!(world.work.join("edits/draft/src/buffer.c").exists());
    // A damaged name hides nothing but itself.
    fs::write(world.work.join("names/other.json"), "{").unwrap();
    let listed = variant(&world, &["list", "--json"]).expect_code(0).expect_said(&["other.json"]).document();
    assert!(listed["variants"].as_array().unwrap().iter().any(|of| of["names"][0] == "draft"), "{listed}");
}

#[test]
fn a_shell_is_in_the_sandbox_and_writes_only_where_edits_are() {
    let world = prepared();
    let script = "echo $VARIANT_ID; id -u; touch buffer.c 2>/dev/null && echo edited; echo x > $BUILD/x && echo built";
    let shell = |name: &str| variant(&world, &["shell", name, "--", "sh", "-c", script]).expect_code(0).stdout;
    let pristine = world.build()["variant"]["id"].as_str().unwrap();
    let shown = shell("pristine");
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!((lines[0], lines[2..].to_vec()), (pristine, vec!["built"]), "{shown}");
    assert_ne!(lines[1], "0", "never as root");
    variant(&world, &["new", "draft", "--edit"]).expect_code(0);
    assert!(shell("draft").ends_with("edited\nbuilt\n"));
    variant(&world, &["shell", "draft", "--", "false"]).expect_refusal(2, &["false ended with"]);
}

#[test]
fn a_record_of_a_name_that_was_edited_is_tampering() {
    let world = prepared();
    variant(&world, &["new", "draft"]).expect_code(0);
    let path = world.work.join("names/draft.json");
    let mut record: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    record["variant"]["id"] = "000000000000".into();
    fs::write(&path, serde_json::to_vec(&record).unwrap()).unwrap();
    variant(&world, &["show", "draft"]).expect_refusal(5, &["draft.json", "edited"]);
    variant(&world, &["new", "draft", "--replace"]).expect_code(0);
    variant(&world, &["show", "draft"]).expect_code(0);
}
