//! `verify --test-patch`: a second patch, of libevent's unit tests.

use crate::misbehaving::harmless;
use crate::records::small;
use crate::support::World;
use model::ledger::event::{Acceptance, Event, Forced, TipRef};
use model::ledger::history::History;
use model::ledger::{Draft, chain};
use serde_json::{Value, json};
use std::fs;

/// A patch that replaces text everywhere in files of the source, by name of the file.
fn edited(world: &World, name: &str, edits: &[(&str, &str, &str)]) -> String {
    let work = world.folder.path().join(name);
    for (file, _, _) in edits {
        let text = fs::read_to_string(world.root.join("libevent").join(file)).unwrap();
        let of_file = edits.iter().filter(|(other, _, _)| other == file);
        let changed = of_file.fold(text.clone(), |text, (_, old, new)| {
            assert!(text.contains(old), "{old} in {file}");
            text.replace(old, new)
        });
        for (side, content) in [("a", text), ("b", changed)] {
            let target = work.join(side).join(file);
            fs::create_dir_all(target.parent().unwrap()).unwrap();
            fs::write(target, content).unwrap();
        }
    }
    let mut diff = std::process::Command::new("git");
    diff.current_dir(&work).args(["diff", "--no-index", "--no-prefix", "a", "b"]);
    let path = world.folder.path().join(format!("{name}.patch"));
    fs::write(&path, diff.output().unwrap().stdout).unwrap();
    path.to_str().unwrap().to_owned()
}

const HEAP: &str = "test/regress_minheap.c";
const LIST: &str = "struct testcase_t minheap_testcases[] = {\n";

/// One more test, which ends with this statement.
fn more(statement: &str) -> (String, String) {
    let function = format!("static void\ntest_heap_more(void *ptr)\n{{\n\t{statement}\nend:\n\t;\n}}\n\n");
    let entry = "\t{ \"more\", test_heap_more, 0, NULL, NULL },\n";
    (LIST.to_owned(), format!("{function}{LIST}{entry}"))
}

fn stage(record: &Value) -> Value {
    record["stages"].as_array().unwrap().iter().find(|stage| stage["name"] == "test-patch").unwrap().clone()
}

#[test]
fn an_adapted_test_decides_where_pristines_does_not_compile_and_everything_it_changes_is_named() {
    let (world, _folder) = small(World::prepared());
    let renamed = ("min_heap_size_", "min_heap_count_");
    let library =
        edited(&world, "library", &[("minheap-internal.h", renamed.0, renamed.1), ("event.c", renamed.0, renamed.1)]);
    // Without the second patch that is a build that failed: gate::tests::a_test_that_does_not_compile_any_more_is_named.
    let (list, longer) = more("tt_int_op(1, ==, 1);");
    let tests = edited(&world, "tests", &[(HEAP, renamed.0, renamed.1), (HEAP, &list, &longer)]);
    // An adaptation is no way to change tests that compile as they are.
    let (buffers, weaker) = ("test/regress_buffer.c", "tt_int_op(1, ==, 1);");
    let both = edited(&world, "both", &[(HEAP, renamed.0, renamed.1), (buffers, "evbuffer_validate(evb);", weaker)]);
    let args = ["verify", "--json", "--without", "models", &library, "--test-patch", &both];
    let refused = world.run(&args).expect_code(2).document();
    assert!(refused["stages"][1]["why"].as_str().unwrap().contains("has to change that file alone"), "{refused}");

    let args = ["verify", "--json", "--without", "models", &library, "--test-patch", &tests];
    let record = world.run(&args).expect_code(0).document();
    let patch = &record["test_patch"];
    assert_eq!(patch["changes"], json!({ HEAP: ["FILE SCOPE", "test_heap_more", "test_heap_randomized"] }));
    assert_eq!(patch["tests_added"], json!(["heap/more"]));
    assert!(patch["pristine_tests_do_not_compile"].as_str().unwrap().contains("regress_minheap.c"), "{patch}");
    assert_eq!((&stage(&record)["verdict"], &stage(&record)["tests_run"]), (&"pass".into(), &1.into()));
    let epoll = record["stages"].as_array().unwrap().iter().find(|stage| stage["name"] == "epoll").unwrap();
    assert_eq!(epoll["tests_run"], epoll["tests_expected"], "pristine's list, by the adapted tests");
}

#[test]
fn a_new_test_that_fails_is_a_failure_and_other_files_are_refused() {
    let (world, _folder) = small(World::prepared());
    let library = harmless(&world);
    let (list, longer) = more("tt_int_op(1, ==, 2);");
    let tests = edited(&world, "tests", &[(HEAP, &list, &longer)]);
    let args = ["verify", "--without", "models", &library, "--test-patch"];
    let outcome = world.run(&[&args[..], &[&tests]].concat()).expect_code(2);
    let text = &outcome.stdout;
    for said in [
        "tests.patch",
        "changes test/regress_minheap.c: FILE SCOPE, test_heap_more",
        "adds heap/more",
        "assert(1 == 2)",
    ] {
        assert!(text.contains(said), "{said} in {text}");
    }
    let other =
        edited(&world, "other", &[("test/regress.h", "struct basic_test_data {", "struct basic_test_data { int x;")]);
    let record = world.run(&[&args[..], &[&other, "--json"]].concat()).expect_code(2).document();
    assert!(stage(&record)["why"].as_str().unwrap().contains("it touches test/regress.h"), "{record}");
    assert_eq!(record["stages"].as_array().unwrap().len(), 1, "nothing was built");
    world.run(&[&args[..], &["no-such-file"]].concat()).expect_refusal(1, &["no such file"]);
}

/// Accepts the patch of an experiment as a person on a terminal does.
fn accept(world: &World, id: &str) {
    let path = world.root.join("experiments/ledger.jsonl");
    let mut ledger = chain::read(&fs::read(&path).unwrap()).unwrap().ledger;
    let experiment = History::of(&ledger).unwrap().experiments[id].clone();
    let patches = vec![experiment.attached.unwrap().patch.sha256];
    let tip = TipRef { source_tree: experiment.base.source_tree, patches, commit: "0".repeat(40) };
    let event = Event::Accepted(Acceptance::forced(Forced { by: "a test".into(), against: vec![] }, "a test", tip));
    let draft = Draft { experiment: Some(id.to_owned()), event, files: Default::default() };
    let last = ledger.lines().last().unwrap().entry.clone();
    let entry = ledger.next(draft, &last.time, last.origin.unwrap());
    ledger.push(entry).unwrap();
    fs::write(&path, ledger.text()).unwrap();
    world.run(&["ledger", "rebuild"]).expect_code(0);
}

#[test]
#[ignore = "gates of the tip and of an experiment on it; part of the soak"]
fn test_patches_that_were_accepted_are_part_of_the_tip() {
    let (world, _folder) = small(World::prepared());
    let exp = |args: &[&str]| world.run(&[&["exp"], args, &["--json"]].concat());
    let open = || {
        let opened = exp(&["open", "--hypothesis", "a test's own", "--technique", "none"]).expect_code(0).document();
        opened["id"].as_str().unwrap().to_owned()
    };
    // Pristine's tests do not compile with the accepted patch, and what else its test patch changed is not in the way.
    let renamed = ("min_heap_size_", "min_heap_count_");
    let library =
        edited(&world, "library", &[("minheap-internal.h", renamed.0, renamed.1), ("event.c", renamed.0, renamed.1)]);
    let weaker = ("test/regress_buffer.c", "evbuffer_validate(evb);", "tt_int_op(1, ==, 1);");
    let tests = edited(&world, "tests", &[(HEAP, renamed.0, renamed.1), weaker]);
    let first = open();
    exp(&["attach", &first, &library, "--test-patch", &tests]).expect_code(0);
    accept(&world, &first);
    let record = world.run(&["verify", "--json", "--without", "models"]).expect_code(0).document();
    let patch = &record["test_patch"];
    assert_eq!((&record["asked"], patch["of_tip"].as_array().unwrap().len()), (&"tip".into(), 1), "{record}");
    assert!(patch["pristine_tests_do_not_compile"].as_str().unwrap().contains("regress_minheap.c"), "{patch}");
    // All of it ran as well: pristine's other files decided before.
    assert!(stage(&record)["tests_run"].as_u64().unwrap() > 10, "{record}");
    // Code on it needs no test patch of its own, and one of its own lies on what was accepted.
    let second = open();
    let (list, longer) = more("tt_int_op(1, ==, 1);");
    let own = edited(&world, "own", &[(HEAP, &list, &longer)]);
    exp(&["attach", &second, &harmless(&world), "--test-patch", &own]).expect_code(0);
    let name = format!("on-tip-{}", std::process::id());
    world.run(&["variant", "new", &name, "--from", "tip", "--patch", &harmless(&world)]).expect_code(0);
    for (own, is_more) in [(None, false), (Some(&own), true)] {
        let args = ["verify", "--json", "--without", "models", &name];
        let with = own.map_or(vec![], |own| vec!["--test-patch", own.as_str()]);
        let record = world.run(&[&args[..], &with].concat()).expect_code(0).document();
        let patch = &record["test_patch"];
        assert_eq!(patch["of_tip"].as_array().unwrap().len(), 1, "{record}");
        assert_eq!(patch["changes"].as_object().unwrap().len(), 2, "{patch}");
        let is_added = patch["tests_added"] == json!(["heap/more"]);
        assert_eq!(is_added, is_more, "{patch}");
    }
    fs::remove_dir_all(world.work.join("names")).unwrap_or(());
}
