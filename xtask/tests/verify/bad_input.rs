//! What ends before any test, or without one.

use crate::misbehaving::{harmless, patch};
use crate::records::small;
use crate::support::World;
use std::process::Command;

#[test]
fn a_variant_that_does_not_compile_is_a_record_with_the_compilers_words() {
    let (world, _folder) = small(World::prepared());
    let broken = patch(
        &world,
        "buffer.c",
        "struct evbuffer *\nevbuffer_new(void)\n{",
        "struct evbuffer *\nevbuffer_new(void)\n{ nonsense here;",
    );
    let record = world.run(&["verify", "--json", &broken]).expect_code(2).document();
    let stages = record["stages"].as_array().unwrap();
    let build = stages.iter().find(|stage| stage["name"] == "build").unwrap();
    assert_eq!(build["verdict"], "fail");
    assert!(build["why"].as_str().unwrap().contains("nonsense"), "{build}");
    let epoll = stages.iter().find(|stage| stage["name"] == "epoll").unwrap();
    assert_eq!(epoll["verdict"], "not-run");
    assert_eq!(world.records().len(), 1, "a record all the same");
}

#[test]
fn a_patch_that_may_not_be_is_a_failed_stage() {
    let (world, _folder) = small(World::prepared());
    let touches = patch(&world, "test/regress.h", "struct basic_test_data {", "struct basic_test_data { int fewer;");
    let record = world.run(&["verify", "--json", &touches]).expect_code(2).document();
    assert_eq!((&record["variant"], &record["stages"][0]["name"]), (&serde_json::Value::Null, &"patch".into()));
}

#[test]
fn names_that_are_none_are_usage_errors() {
    let world = World::empty_at(&crate::support::checkout());
    world
        .run(&["verify", "--without", "nothing"])
        .expect_refusal(1, &["--without nothing", "epoll-changelist", "thread"]);
}

#[test]
fn a_missing_python_is_said() {
    let (world, _folder) = small(World::prepared());
    let tools = world.folder.path().join("tools");
    std::fs::create_dir(&tools).unwrap();
    for folder in std::env::split_paths(&std::env::var_os("PATH").unwrap()) {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            if !entry.file_name().to_string_lossy().starts_with("python") {
                // A name that an earlier folder of PATH has, too.
                drop(std::os::unix::fs::symlink(entry.path(), tools.join(entry.file_name())));
            }
        }
    }
    let mut command = world.command(&["verify", "--no-install"]);
    command.env("PATH", &tools);
    crate::support::finish(command).expect_refusal(4, &["python3"]);
}

#[test]
fn a_full_disk_is_an_error_with_its_cause() {
    let (world, _folder) = small(World::prepared());
    let patch = harmless(&world);
    world.run(&["verify", &patch]).expect_code(0);
    let permitted = |flags: &&str| Command::new("unshare").args([*flags, "true"]).status().is_ok_and(|s| s.success());
    let Some(flags) = ["-m", "-Urm"].into_iter().find(permitted) else {
        eprintln!("NOT RUN: this host permits no mount name spaces, so a small file system cannot be made");
        return;
    };
    let full = world.folder.path().join("full");
    std::fs::create_dir(&full).unwrap();
    let full = full.to_str().unwrap();
    // The folder of the run fits, logs of some tests, too.
    let script = "mount -t tmpfs -o size=32k none \"$1\" || exit 99; shift; exec \"$@\"";
    let before = [flags, "sh", "-c", script, "sh", full, env!("CARGO_BIN_EXE_xtask")];
    let mut command = world.wrapped("unshare", &before, &["verify", "--out", full, &patch]);
    // Where a user name space was needed for the disk, its root has nobody to become.
    command.env("LIBEVENT_PERF_SANDBOX_WITHOUT", "unprivileged,users,network,mounts");
    let outcome = crate::support::finish(command);
    outcome.expect_code(4).expect_said(&["No space left", full]);
}

#[test]
fn a_sanitizer_that_cannot_start_is_no_pass_unless_it_is_left_out() {
    use std::os::unix::fs::PermissionsExt as _;
    let (world, _folder) = small(World::prepared());
    let file = world.root.join("config/gate.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    // A gate in which no test ran is no pass: there has to be another configuration.
    let keep =
        |part: &&str| ["\"epoll\"\n", "\"thread\"\n"].iter().any(|name| part.starts_with(&format!("\nname = {name}")));
    let (head, rest) = text.split_once("[[configuration]]").unwrap();
    let (configurations, tail) = rest.split_once("# libevent's other test programs").unwrap();
    let kept: String =
        configurations.split("[[configuration]]").filter(keep).map(|part| format!("[[configuration]]{part}")).collect();
    std::fs::write(&file, format!("{head}{kept}#{tail}")).unwrap();
    let cc = world.folder.path().join("cc-without-thread");
    let script =
        "#!/bin/sh\ncase \"$*\" in *fsanitize=thread*) echo 'cannot find -ltsan' >&2; exit 1;; esac\nexec cc \"$@\"\n";
    std::fs::write(&cc, script).unwrap();
    std::fs::set_permissions(&cc, std::fs::Permissions::from_mode(0o755)).unwrap();
    let run = |more: &[&str]| {
        let models = ["models", "models-address", "models-undefined"].map(|name| ["--without", name]).concat();
        let mut command = world.command(&[&["verify", "--full", "--json"], &models[..], more].concat());
        command.env("CC", &cc);
        crate::support::finish(command)
    };
    let stage = |record: &serde_json::Value| {
        let stages = record["stages"].as_array().unwrap();
        stages.iter().find(|stage| stage["name"] == "thread").unwrap().clone()
    };
    let record = run(&[]).expect_code(2).document();
    assert_eq!((&stage(&record)["verdict"], &record["verdict"]), (&"not-run".into(), &"fail".into()));
    assert!(stage(&record)["why"].as_str().unwrap().contains("cannot find -ltsan"), "{record}");
    let record = run(&["--without", "thread"]).expect_code(0).document();
    assert_eq!((&stage(&record)["verdict"], &stage(&record)["excluded"]), (&"not-run".into(), &true.into()));
}
