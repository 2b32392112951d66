//! Folders with unusual names, and cargo's and compilers' settings of the user: neither changes what is measured.

use crate::support::{QUICK, World, copy_libevent, copy_workspace, finish, scratch};
use std::fs;
use std::path::Path;
use std::process::Command;

/// Each of these would stop the worker's or libevent's build, or make another one of it.
const CARGO_SETTINGS: &str = r#"
[build]
rustflags = ["-Cno-such-option"]
rustc-wrapper = "/no/such/wrapper"
[profile.worker]
opt-level = 0
[profile.release]
debug-assertions = true
"#;
const VARIABLES: &[(&str, &str)] = &[
    ("CARGO_PROFILE_WORKER_OPT_LEVEL", "0"),
    ("CARGO_BUILD_TARGET", "no-such-target"),
    ("RUSTFLAGS", "-Cno-such-option"),
    ("RUSTC_WORKSPACE_WRAPPER", "/no/such/wrapper"),
    ("CFLAGS", "-fno-such-option"),
    ("HOST_CFLAGS", "-fno-such-option"),
    ("LDFLAGS", "-fno-such-option"),
    ("CMAKE_TOOLCHAIN_FILE", "/no/such/file"),
];

/// The workspace with libevent at `folder`, and what cargo compiled of it that does not depend on its place.
fn moved_to(folder: &Path, world: &World) -> World {
    copy_workspace(&folder.join("checkout"));
    copy_libevent(&folder.join("checkout/libevent"));
    let moved = World::empty_at(&folder.join("checkout")).working_in(folder.join("work"));
    fs::create_dir_all(&moved.work).unwrap();
    let mut copy = Command::new("cp");
    copy.arg("-a").arg(world.work.join("target")).arg(&moved.work);
    finish(copy).expect_code(0);
    moved
}

#[test]
fn spaces_commas_apostrophes_and_the_users_settings_change_nothing() {
    let world = World::prepared();
    let folder = scratch();
    let folder = folder.path().join("it's a b,c");
    let moved = moved_to(&folder, &world);
    fs::create_dir_all(folder.join(".cargo")).unwrap();
    fs::write(folder.join(".cargo/config.toml"), CARGO_SETTINGS).unwrap();
    let mut command = moved.command(&[QUICK, &["--json"]].concat());
    command.envs(VARIABLES.iter().copied());
    let document = finish(command).expect_code(0).document();

    let build = &document["sides"][0]["build"];
    let compiled = build["event_c_command"].as_str().unwrap();
    assert!(compiled.contains("-ffile-prefix-map=SOURCE=."), "{compiled}");
    assert!(!compiled.contains("a b,c"), "{compiled}");
    let expected = world.build()["event_c_command"].as_str().unwrap();
    let unquoted = |command: &str| command.replace(['"', '\''], "");
    assert_eq!(unquoted(compiled), unquoted(expected));

    let workers = fs::read_dir(moved.work.join("workers")).unwrap();
    let [worker] = workers.map(|entry| entry.unwrap().path()).collect::<Vec<_>>().try_into().expect("one worker");
    let log = fs::read_to_string(worker.join("compile.log")).unwrap();
    assert!(log.contains("[optimized + debuginfo]"), "{log}");
}

#[test]
fn a_folder_with_a_colon_is_a_usage_error() {
    let world = World::prepared();
    let folder = scratch();
    let moved = world.working_in(folder.path().join("a:b"));
    moved.run(QUICK).expect_refusal(1, &["a:b: cargo and compilers cannot work in a folder with a `:`"]);
}

#[test]
fn a_compiler_of_several_words_is_a_usage_error() {
    let world = World::prepared();
    let mut command = world.command(QUICK);
    command.env("CC", "ccache cc");
    finish(command).expect_refusal(1, &["CC=ccache cc", "give one program"]);
}
