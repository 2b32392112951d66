//! A host that lacks something: network, source, tools, CPUs, disk.

use crate::support::{
    QUICK, TINY, World, checkout, copy_libevent, copy_workspace, edit, finish, on_one_cpu, scratch, snapshot,
};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

#[test]
fn without_network_and_submodule_it_says_what_to_do_and_writes_nothing() {
    let root = scratch();
    copy_workspace(root.path());
    let before = snapshot(root.path());
    let home = scratch();
    let world = World::empty_at(root.path());
    let mut command = world.command(QUICK);
    command.env("CARGO_HOME", home.path()).env("CARGO_NET_OFFLINE", "true");
    finish(command).expect_refusal(4, &["libevent is empty", "git submodule update --init", "--source", "registry"]);
    assert!(fs::read_dir(root.path().join("libevent")).unwrap().next().is_none(), "still empty");
    assert!(snapshot(root.path()) == before, "the checkout is as it was");
    assert!(world.records().is_empty() && world.scratch_folders("fill-").is_empty(), "nothing half-written");
}

#[test]
fn a_changed_byte_in_the_pinned_source_is_tampering() {
    let prepared = World::prepared();
    let root = scratch();
    copy_workspace(root.path());
    let libevent = root.path().join("libevent");
    copy_libevent(&libevent);
    edit(&libevent.join("buffer.c"), "evbuffer_add_buffer_reference(struct", "evbuffer_add_buffer_referencf(struct");
    let before = snapshot(root.path());
    let pinned = "9b59b8aec360426931f641d0e58fe57d2e442bad";
    // A store that knows the pinned tree names the file, a new one the hashes.
    let known = prepared.at(root.path());
    known.run(QUICK).expect_refusal(5, &[pinned, "1 files differ", "buffer.c", "Nothing was changed"]);
    assert!(known.records().is_empty());
    drop(known);
    World::empty_at(root.path()).run(QUICK).expect_refusal(5, &[pinned, "Nothing was changed"]);
    assert!(snapshot(root.path()) == before, "nothing was changed");
}

#[test]
fn a_package_file_with_another_source_is_tampering() {
    refuses_package(|file, scratch| {
        tar(scratch, &["-xzf", file.to_str().unwrap()]);
        let event = scratch.join(PACKAGE).join("libevent/event.c");
        fs::write(&event, fs::read_to_string(&event).unwrap() + "/* not upstream's */\n").unwrap();
        let changed = scratch.join("changed");
        tar(scratch, &["-czf", changed.to_str().unwrap(), PACKAGE]);
        fs::read(changed).unwrap()
    });
}

#[test]
fn a_package_file_cut_short_is_tampering() {
    refuses_package(|file, _| {
        let whole = fs::read(file).unwrap();
        whole[..whole.len() / 2].to_vec()
    });
}

/// The package that carries the pinned source.
const PACKAGE: &str = "libevent-sys-0.4.0";

/// Runs with cargo's own folders as they are, but with a package file that `damage` makes of the real one.
fn refuses_package(damage: impl FnOnce(&Path, &Path) -> Vec<u8>) {
    let cargo_home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let cargo_home = cargo_home.or_else(|| Some(std::env::home_dir()?.join(".cargo"))).unwrap();
    let registries = fs::read_dir(cargo_home.join("registry/cache")).into_iter().flatten().flatten();
    let file_name = format!("{PACKAGE}.crate");
    let Some(registry) = registries.into_iter().find(|registry| registry.path().join(&file_name).is_file()) else {
        eprintln!("NOT RUN: cargo's cache has no {file_name} to damage");
        return;
    };
    let home = scratch();
    let cache = home.path().join("registry/cache").join(registry.file_name());
    fs::create_dir_all(&cache).unwrap();
    symlink(cargo_home.join("registry/index"), home.path().join("registry/index")).unwrap();
    for package in fs::read_dir(registry.path()).unwrap().flatten().filter(|p| p.file_name() != *file_name) {
        symlink(package.path(), cache.join(package.file_name())).unwrap();
    }
    let unpacked = scratch();
    fs::write(cache.join(&file_name), damage(&registry.path().join(&file_name), unpacked.path())).unwrap();

    let root = scratch();
    copy_workspace(root.path());
    let world = World::empty_at(root.path());
    let mut command = world.command(QUICK);
    command.env("CARGO_HOME", home.path()).env("CARGO_NET_OFFLINE", "true");
    let file = cache.join(&file_name);
    finish(command).expect_refusal(5, &[file.to_str().unwrap(), "Nothing was changed", "Remove that file"]);
    assert!(fs::read_dir(root.path().join("libevent")).unwrap().next().is_none(), "still empty");
    assert!(world.scratch_folders("fill-").is_empty(), "nothing half-written");
}

fn tar(folder: &Path, args: &[&str]) {
    let mut command = Command::new("tar");
    command.args(args).current_dir(folder);
    finish(command).expect_code(0);
}

#[test]
fn a_missing_tool_is_named_with_the_command_that_installs_it() {
    let tools = scratch();
    for name in ["cc", "git", "ninja", "tar", "sh"] {
        let path = std::env::var_os("PATH").unwrap();
        let found = std::env::split_paths(&path).map(|folder| folder.join(name)).find(|program| program.is_file());
        symlink(found.unwrap_or_else(|| panic!("{name} is needed to run these tests")), tools.path().join(name))
            .unwrap();
    }
    // A package manager that would leave a trace; another process writes it, because a file that is
    // open for writing in a multi-threaded program may not be executable yet.
    let mut write = Command::new("sh");
    let script = r#"printf '#!/bin/sh\n: > "%s/called"\n' "$0" > "$0/apt-get"; chmod 755 "$0/apt-get""#;
    write.args(["-c", script]).arg(tools.path());
    finish(write).expect_code(0);

    let world = World::empty_at(&checkout());
    let mut command = world.command(&[QUICK, &["--no-install"]].concat());
    command.env("PATH", tools.path());
    finish(command).expect_refusal(4, &["missing: cmake.", "apt-get install -y --no-install-recommends cmake"]);
    assert!(!tools.path().join("called").exists(), "--no-install installs nothing");
}

#[test]
fn one_cpu_is_enough_and_the_record_says_so() {
    let world = World::prepared();
    let mut command = world.command(&[QUICK, &["--workload", "http.keepalive.small.c1", "--json"]].concat());
    on_one_cpu(&mut command);
    let document = finish(command).expect_code(0).document();
    let notes = document["notes"].as_array().unwrap();
    assert!(notes.iter().any(|note| note.as_str().unwrap().contains("lends one CPU")), "{notes:?}");
    assert_eq!(document["settings"]["peer_cpus"], serde_json::json!([document["settings"]["worker_cpu"]]));
    let workloads = document["workloads"].as_array().unwrap();
    // Of each side: there are two where patches are accepted.
    assert_eq!(workloads.iter().filter(|result| result["role"] == "baseline").count(), 2);
    for result in workloads {
        assert!(result["time_per_event_ns_median"].as_f64().is_some_and(|ns| ns > 0.0), "{result}");
    }
    let [parity] = document["parity"].as_array().unwrap().as_slice() else { panic!("bench_http has a counterpart") };
    assert_eq!((&parity["program"], &parity["error"]), (&"bench_http".into(), &serde_json::Value::Null));
    world.assert_no_worker_is_left();
}

#[test]
fn a_folder_that_cannot_be_written_is_said_before_anything_is_measured() {
    let world = World::prepared();
    let file = world.folder.path().join("file");
    fs::write(&file, "").unwrap();
    let below = file.join("below");
    let out = below.to_str().unwrap();
    world.run(&[QUICK, &["--out", out]].concat()).expect_refusal(4, &[out, "--out"]);

    let folder = world.folder.path().join("read-only");
    let kept = world.folder.path().join("kept");
    let Some(command) = on_own_disk(&world, "ro", &folder, &kept, QUICK) else { return };
    finish(command).expect_refusal(4, &[folder.to_str().unwrap(), "Read-only file system", "--out"]);
}

#[test]
fn a_full_disk_loses_no_results_and_leaves_no_half_written_record() {
    let world = World::prepared();
    let folder = world.folder.path().join("full");
    let kept = world.folder.path().join("kept");
    // One page: the journal's first lines fit, the record does not.
    let Some(command) = on_own_disk(&world, "size=4k", &folder, &kept, QUICK) else { return };
    let outcome = finish(command).expect_code(4).expect_said(&[folder.to_str().unwrap(), "No space left"]);
    let row = outcome.stdout.lines().find(|line| line.trim_start().starts_with(TINY));
    assert!(row.is_some_and(|row| row.contains('M')), "the figures are printed all the same: {outcome:?}");
    let left = snapshot(&kept);
    for (path, content) in &left {
        assert_eq!(path.file_name().unwrap(), "launches.jsonl", "nothing half-written");
        assert!(content.is_empty() || content.ends_with(b"\n"), "complete lines only");
        for line in String::from_utf8_lossy(content).lines() {
            serde_json::from_str::<serde_json::Value>(line).expect("complete lines only");
        }
    }
    assert_eq!(left.len(), 1, "the journal stays");
}

#[test]
fn a_disk_that_fills_up_ends_a_comparison_with_what_it_has() {
    let world = World::prepared();
    let folder = world.folder.path().join("full");
    let kept = world.folder.path().join("kept");
    let compare = ["compare", "pristine", "--workload", TINY, "--budget", "24s", "--margin", "40", "--no-confirm"];
    // The batches of one attempt fit, those of some do not, whether they count or are thrown away.
    let Some(command) = on_own_disk(&world, "size=16k", &folder, &kept, &compare) else { return };
    let outcome = finish(command).expect_code(4).expect_said(&[folder.to_str().unwrap(), "No space left"]);
    assert!(
        outcome.stdout.contains("PARTIAL") && outcome.stdout.contains(TINY),
        "it is printed all the same: {outcome:?}"
    );
    let left = snapshot(&kept);
    for (path, content) in &left {
        let name = path.file_name().unwrap().to_str().unwrap();
        if name.ends_with(".jsonl") {
            assert!(content.is_empty() || content.ends_with(b"\n"), "complete lines only");
        }
        let text = String::from_utf8_lossy(content);
        match name {
            "launches.jsonl" | "samples.jsonl" => text.lines().for_each(|line| {
                serde_json::from_str::<serde_json::Value>(line).expect("complete lines only");
            }),
            "record.json" => {
                let record: serde_json::Value = serde_json::from_str(&text).expect("a record is whole");
                assert_eq!(record["partial"], true);
            }
            "summary.txt" => assert!(text.contains("PARTIAL")),
            "picture.svg" => assert!(text.trim_end().ends_with("</svg>")),
            other => panic!("half-written: {other}"),
        }
    }
    assert!(!left.is_empty(), "the batches that were written down stay");
    world.assert_no_worker_is_left();
}

#[test]
fn a_work_folder_on_a_full_disk_is_said() {
    let world = World::prepared();
    let folder = world.folder.path().join("small");
    let kept = world.folder.path().join("kept");
    let Some(mut command) = on_own_disk(&world, "size=64k", &folder, &kept, QUICK) else { return };
    command.env("LIBEVENT_PERF_WORK", &folder);
    finish(command).expect_refusal(4, &["No space left on device"]);
}

/// The program with `--out folder`, where `folder` is a file system of its own, mounted with `options`
/// in a name space that ends with the run; what it holds then is copied to `kept`. `None`, said
/// loudly, on a host that permits no name spaces.
fn on_own_disk(world: &World, options: &str, folder: &Path, kept: &Path, args: &[&str]) -> Option<Command> {
    let permitted = |flags: &&str| Command::new("unshare").args([*flags, "true"]).status().is_ok_and(|s| s.success());
    let Some(flags) = ["-Urm", "-m"].into_iter().find(permitted) else {
        eprintln!("NOT RUN: this host permits no mount name spaces, so a {options} file system cannot be made");
        return None;
    };
    fs::create_dir_all(folder).unwrap();
    fs::create_dir_all(kept).unwrap();
    let script = r#"mount -t tmpfs -o "$1" none "$2" || exit 99
        folder=$2 kept=$3; shift 3; "$@"; code=$?; cp -r "$folder/." "$kept"; exit $code"#;
    let (folder, kept) = (folder.to_str().unwrap(), kept.to_str().unwrap());
    let before = [flags, "sh", "-c", script, "sh", options, folder, kept, env!("CARGO_BIN_EXE_xtask")];
    Some(world.wrapped("unshare", &before, &[args, &["--out", folder, "--no-install"]].concat()))
}
