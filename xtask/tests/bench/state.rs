//! Derived state that is not what it was: noticed, never silently used.

use crate::support::{QUICK, TINY, World, eventually};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_else(|| panic!("no {field} in {value}"))
}

#[test]
fn a_tampered_library_is_noticed_and_built_again() {
    let world = World::prepared();
    let before = world.build();
    let library = world.work.join("builds").join(text(before, "id")).join("cmake/lib/libevent_core.a");
    let mut bytes = fs::read(&library).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&library, &bytes).unwrap();
    let outcome = world.run(&[QUICK, &["--json"]].concat()).expect_code(0);
    let outcome = outcome.expect_said(&["libevent_core.a is not what was built; building again"]);
    assert_eq!(outcome.document()["sides"][0]["build"]["libraries"], before["libraries"], "the same bytes again");
}

#[test]
fn a_library_that_changes_while_it_is_measured_voids_the_figures() {
    let world = World::prepared();
    let build = world.build();
    let library = world.work.join("builds").join(text(build, "id")).join("cmake/lib/libevent_core.a");
    let mut run = world.start(&["bench", "--launches", "5", "--workload", TINY]);
    world.await_journal(&mut run, 1);
    let original = Restored::now(&library);
    // The date of the archive's first member: another file, of the same code.
    let mut bytes = original.1.clone();
    assert_eq!((&bytes[..8], bytes[24]), (&b"!<arch>\n"[..], b'0'));
    bytes[24] = b'1';
    fs::write(&library, bytes).unwrap();
    run.wait().expect_refusal(5, &["libevent_core.a", "changed while it was measured", "void"]);
    drop(original);
    let [folder] = world.records().try_into().expect("one run, one folder");
    assert!(!folder.join("record.json").exists(), "void figures make no record");
}

#[test]
fn a_build_cut_short_is_not_taken_for_a_finished_one() {
    let world = World::prepared();
    let before = world.build();
    let folder = world.work.join("builds").join(text(before, "id"));
    fs::remove_dir_all(&folder).unwrap();
    let run = world.start(QUICK);
    let compiled = || fs::read_to_string(folder.join("build.log")).is_ok_and(|log| log.contains("--build"));
    assert!(eventually(compiled), "compiling does not begin");
    run.signal(libc::SIGTERM);
    run.wait().expect_refusal(130, &["interrupted"]);
    assert!(!folder.join("build.json").exists(), "it is not finished");
    let document = world.run(&[QUICK, &["--json"]].concat()).expect_code(0).document();
    assert_eq!(document["sides"][0]["build"]["libraries"], before["libraries"], "the same bytes again");
}

#[test]
fn an_edited_worktree_is_set_aside_and_never_built() {
    let world = World::prepared();
    let before = world.build();
    let variant = text(&before["variant"], "id").to_owned();
    let file = world.work.join("variants").join(&variant).join("src/buffer.c");
    let edited = fs::read_to_string(&file).unwrap() + "int edited_by_hand(void) { return 1; }\n";
    fs::write(&file, &edited).unwrap();
    fs::remove_dir_all(world.work.join("builds").join(text(before, "id"))).unwrap();

    let outcome = world.run(&[QUICK, &["--json"]].concat()).expect_code(0);
    let outcome = outcome.expect_said(&[&variant, "set aside"]);
    assert_eq!(outcome.document()["sides"][0]["build"]["libraries"], before["libraries"], "built from the right tree");
    let aside: Vec<PathBuf> =
        fs::read_dir(world.work.join("set-aside")).unwrap().map(|entry| entry.unwrap().path()).collect();
    let kept = aside.iter().find(|folder| fs::read_to_string(folder.join("src/buffer.c")).is_ok_and(|t| t == edited));
    fs::remove_dir_all(kept.expect("what was edited is kept")).unwrap();
}

#[test]
fn a_file_that_git_would_ignore_is_seen_in_a_worktree() {
    let world = World::prepared();
    let before = world.build();
    let variant = text(&before["variant"], "id").to_owned();
    let file = world.work.join("variants").join(&variant).join("src/evconfig-private.h");
    fs::write(&file, "#error found by the compiler\n").unwrap();
    fs::remove_dir_all(world.work.join("builds").join(text(before, "id"))).unwrap();

    let outcome = world.run(&[QUICK, &["--json"]].concat()).expect_code(0);
    let outcome = outcome.expect_said(&[&variant, "set aside"]);
    assert_eq!(outcome.document()["sides"][0]["build"]["libraries"], before["libraries"], "built from the right tree");
    assert!(!file.exists());
    fs::remove_dir_all(world.work.join("set-aside")).unwrap();
}

#[test]
fn folders_of_others_in_the_work_folder_are_left_alone() {
    let world = World::prepared();
    let theirs = world.work.join("links-of-somebody");
    fs::create_dir_all(theirs.join("inside")).unwrap();
    world.run(QUICK).expect_code(0);
    assert!(theirs.join("inside").is_dir());
    fs::remove_dir_all(&theirs).unwrap();
}

/// Puts a file back however the test ends: the state is shared.
struct Restored(PathBuf, Vec<u8>);

impl Restored {
    fn now(path: &Path) -> Restored {
        Restored(path.to_owned(), fs::read(path).unwrap())
    }
}

impl Drop for Restored {
    fn drop(&mut self) {
        fs::write(&self.0, &self.1).unwrap();
    }
}

#[test]
fn a_damaged_header_is_tampering() {
    let world = World::prepared();
    let build = world.build();
    let folder = world.work.join("headers").join(&text(build, "headers_sha256")[..16]);
    let header = folder.join("event2/event.h");
    let original = Restored::now(&header);
    fs::write(&header, [&original.1[..], b"\n"].concat()).unwrap();
    world.run(QUICK).expect_refusal(5, &[folder.to_str().unwrap(), "changed"]);
    drop(original);
    world.run(QUICK).expect_code(0);
}
