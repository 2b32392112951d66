//! Hostile patches, each with its refusal: what they may not touch, what they may not define, and what they
//! cannot do while they run.

use crate::desk::Desk;
use crate::support::{Outcome, World, checkout, eventually, git};
use serde_json::Value;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

fn run(world: &World, patch: &Path, more: &[&str]) -> Outcome {
    world.run(&[&["bench", "--quick", "--launches", "2", "--variant", patch.to_str().unwrap()], more].concat())
}

/// A patch of whatever `change` does to the pinned files.
fn patch_of(desk: &Desk, name: &str, change: impl Fn(&Path)) -> PathBuf {
    let tree = desk.tree();
    change(&tree);
    git(&tree, &["add", "--all", "--force", "."]);
    let patch = tree.with_file_name(name);
    fs::write(&patch, git(&tree, &["diff", "--cached", "--binary"]) + "\n\n").unwrap();
    git(&tree, &["reset", "--quiet", "--hard"]);
    patch
}

#[test]
fn what_a_patch_may_not_touch_is_refused_before_anything_is_built() {
    let world = World::prepared();
    let desk = Desk::new(&world);
    let append = |file: &'static str| {
        move |tree: &Path| {
            fs::create_dir_all(tree.join(file).parent().unwrap()).unwrap();
            let text = fs::read_to_string(tree.join(file)).unwrap_or_default();
            fs::write(tree.join(file), text + "/* x */\n").unwrap();
        }
    };
    type Change = Box<dyn Fn(&Path)>;
    let cases: Vec<(&str, Change, &[&str])> = vec![
        ("a benchmark", Box::new(append("test/bench.c")), &["touches test/bench.c"]),
        ("a test", Box::new(append("test/regress_buffer.c")), &["touches test/regress_buffer.c"]),
        ("how it is built", Box::new(append("CMakeLists.txt")), &["touches CMakeLists.txt"]),
        ("a template", Box::new(append("event-config.h.cmake")), &["touches event-config.h.cmake"]),
        ("a sample", Box::new(append("sample/new.c")), &["touches sample/new.c"]),
        ("a hidden file", Box::new(append(".github/x.c")), &["touches .github/x.c"]),
        (
            "a link",
            Box::new(|tree| symlink("/etc/passwd", tree.join("users.c")).unwrap()),
            &["mode of users.c", "120000"],
        ),
        (
            "a mode",
            Box::new(|tree| {
                fs::set_permissions(tree.join("event.c"), fs::Permissions::from_mode(0o755)).unwrap();
            }),
            &["mode of event.c", "100755"],
        ),
        (
            "a rename to the tests",
            Box::new(|tree| fs::rename(tree.join("event.c"), tree.join("test/event.c")).unwrap()),
            &["touches test/event.c"],
        ),
        (
            "bytes that are no text",
            Box::new(|tree| fs::write(tree.join("x.c"), [0_u8, 1, 2, 255]).unwrap()),
            &["x.c", "binary"],
        ),
        ("too much", Box::new(|tree| fs::write(tree.join("x.c"), "int x;\n".repeat(200_000)).unwrap()), &["bytes"]),
        ("nothing", Box::new(|_| ()), &["does not apply"]),
    ];
    for (name, change, words) in cases {
        let patch = patch_of(&desk, "hostile.patch", change);
        let outcome = run(&world, &patch, &[]);
        assert_eq!(outcome.code, Some(2), "{name}: {outcome:?}");
        outcome.expect_refusal(2, &[&["hostile.patch"], words].concat());
    }
    let text = |path: &str| format!("--- /dev/null\n+++ b/{path}\n@@ -0,0 +1 @@\n+int x;\n");
    for path in ["../outside.c", "/tmp/outside.c", "a/../../outside.c", ".git/hooks/x.c"] {
        let patch = desk.tree().with_file_name("path.patch");
        fs::write(&patch, format!("diff --git a/{path} b/{path}\nnew file mode 100644\n{}", text(path))).unwrap();
        run(&world, &patch, &[]).expect_refusal(2, &["path.patch"]);
    }
    assert!(world.records().is_empty(), "nothing was measured");
}

#[test]
fn lines_that_get_around_a_check_are_refused_before_anything_is_built() {
    let world = World::prepared();
    let desk = Desk::new(&world);
    for (file, line, words) in [
        ("event.c", "__attribute__((no_sanitize(\"address\"))) void hidden_(void);", ["no_sanitize", "sanitizer"]),
        ("event.c", "__attribute__((no_sani\\\ntize_thread)) void hidden_(void);", ["no_sanitize_thread", "sanitizer"]),
        ("buffer.c", "#ifdef __SANITIZE_ADDRESS__\n#endif", ["__SANITIZE_ADDRESS__", "sanitizer"]),
        ("buffer.c", "#if __has_feature(thread_sanitizer)\n#endif", ["thread_sanitizer", "sanitizer"]),
        ("buffer.c", "const char *__lsan_default_suppressions(void) { return \"leak:*\"; }", ["__lsan_", "sanitizer"]),
        ("util-internal.h", "#define tinytest_set_test_failed_(x) ((void)0)", ["tinytest_set_test_failed_", "tests"]),
        ("util-internal.h", "#define TT_DECLARE(prefix, args) ((void)0)", ["TT_DECLARE", "tests"]),
        ("util-internal.h", "#define memcmp(a, b, n) 0", ["memcmp", "tests"]),
        ("buffer.c", "#include \"/dev/stdin\"", ["/dev/stdin", "none of the library's headers"]),
        ("buffer.c", "#include \"../../secret.h\"", ["../../secret.h", "none of the library's headers"]),
        ("buffer.c", "__asm__(\".incbin \\\"/etc/passwd\\\"\");", [".incbin", "no source"]),
    ] {
        let outcome = run(&world, &desk.patch(file, line), &[]);
        outcome.expect_refusal(2, &[file, words[0], words[1]]);
    }
    for file in ["string.h", "include/sys/epoll.h", "include/event2/event-config.h", "tinytest_local.h"] {
        let patch = patch_of(&desk, "header.patch", |tree| {
            fs::create_dir_all(tree.join(file).parent().unwrap()).unwrap();
            fs::write(tree.join(file), "#define x y\n").unwrap();
        });
        run(&world, &patch, &[]).expect_refusal(2, &["header.patch", file, "in its place"]);
    }
    assert!(world.records().is_empty(), "nothing was measured");
}

#[test]
fn a_library_may_not_define_what_belongs_to_the_system() {
    let world = World::prepared();
    let desk = Desk::new(&world);
    let clock = "#include <time.h>\nint clock_gettime(clockid_t c, struct timespec *t) { t->tv_sec = t->tv_nsec = 0; return 0; }";
    run(&world, &desk.patch("buffer.c", clock), &[]).expect_refusal(2, &["clock_gettime", "belong to the system"]);
    assert!(world.records().is_empty(), "nothing was measured");
}

#[test]
fn a_build_sees_no_files_of_the_user() {
    let world = World::prepared();
    let desk = Desk::new(&world);
    let secret = world.folder.path().join("secret.h");
    fs::write(&secret, "#error SECRET\n").unwrap();
    let include = format!("#include \"{}\"\n", secret.display());
    run(&world, &desk.patch("buffer.c", &include), &[])
        .expect_refusal(2, &["secret.h", "none of the library's headers"]);
    // What a patch may not say, another source may: it is compiled where the file is not.
    let file = desk.tree().join("buffer.c");
    fs::write(&file, fs::read_to_string(&file).unwrap() + &include).unwrap();
    let source = desk.tree();
    let args = ["bench", "--quick", "--launches", "2", "--source", source.to_str().unwrap()];
    let outcome = world.run(&args).expect_code(2).expect_said(&["secret.h", "No such file"]);
    assert!(!outcome.stderr.contains("#error"), "{}", outcome.stderr);
}

#[test]
fn events_that_are_dropped_are_an_error_and_no_figure() {
    let world = World::prepared();
    let desk = Desk::new(&world);
    let head = "event_active_nolock_(struct event *ev, int res, short ncalls)\n{\n";
    let dropping = format!("{head}\tstatic unsigned seen_;\n\tif (++seen_ % 1000 == 0)\n\t\treturn;\n");
    let patch = desk.replacement("event.c", head, &dropping);
    let args = ["--timeout", "3", "--json", "--workload", "active.dispatch.p1"];
    let document = run(&world, &patch, &args).expect_code(2).document();
    let candidate = result(&document, "active.dispatch.p1");
    assert!(candidate["error"].is_string() && candidate["time_per_event_ns_median"].is_null(), "{candidate}");
}

/// The candidate's result.
fn result<'a>(document: &'a Value, workload: &str) -> &'a Value {
    let results = document["workloads"].as_array().unwrap();
    let of = |r: &&Value| r["workload"] == workload && r["role"] == "candidate";
    results.iter().find(of).unwrap_or_else(|| panic!("no {workload} in {document}"))
}

/// Listens on a port that does not change, so that the hostile library is built once only.
fn listener() -> TcpListener {
    let free = (47_813..47_900).find_map(|port| TcpListener::bind(("127.0.0.1", port)).ok());
    let listener = free.expect("a free port");
    listener.set_nonblocking(true).unwrap();
    listener
}

#[test]
fn what_a_candidate_tries_while_it_runs_does_not_succeed() {
    let world = World::prepared();
    let desk = Desk::new(&world);
    let listener = listener();
    let secret = world.work.with_file_name("secret");
    fs::write(&secret, "secret\n").unwrap();
    let home = std::env::var("HOME").unwrap();
    let folders = [world.work.to_str().unwrap(), checkout().to_str().unwrap(), &home, "/", "/usr", "/etc", "/dev"]
        .map(|folder| format!("\"{folder}\""));
    let code = include_str!("hostile/faces.c")
        .replace("HOSTILE_FOLDERS", &folders.join(", "))
        .replace("HOSTILE_SECRET_FILE", &format!("\"{}\"", secret.display()))
        .replace("HOSTILE_PORT", &listener.local_addr().unwrap().port().to_string());
    let patch = desk.replacement(
        "buffer.c",
        "struct evbuffer *\nevbuffer_new(void)\n{\n\tstruct evbuffer *buffer;\n",
        &format!("{code}\nstruct evbuffer *\nevbuffer_new(void)\n{{\n\tstruct evbuffer *buffer;\n\thostile_();\n"),
    );
    // What each does, and how its error may read.
    let faces: &[(&str, &[&str])] = &[
        // It tried everything in vain, and then did its work.
        ("evbuffer.add_drain.64", &[]),
        ("evbuffer.add_drain.4k", &["hangs"]),
        // Its children keep its pipe open.
        ("evbuffer.add_drain.16k", &["SIGABRT", "hangs"]),
        ("evbuffer.queued.64", &["something else than its protocol", "Batches"]),
        ("evbuffer.queued.4k", &["SIG", "hangs"]),
        ("evbuffer.queued.16k", &["SIGKILL"]),
        ("evbuffer.remove.64", &["ended"]),
    ];
    let mut args = vec!["bench", "--quick", "--launches", "2", "--timeout", "5", "--json"];
    args.extend(["--variant", patch.to_str().unwrap()]);
    faces.iter().for_each(|(workload, _)| args.extend(["--workload", workload]));
    let mut command = world.command(&args);
    command.env("HOSTILE_SECRET", "1");
    let outcome = crate::support::finish(command);
    assert!(!outcome.stderr.contains("ESCAPED"), "{}", outcome.stderr);
    let document = outcome.expect_code(2).document();
    for (workload, causes) in faces {
        let result = result(&document, workload);
        match (causes, result["error"].as_str()) {
            ([], None) => assert!(result["time_per_event_ns_median"].as_f64().is_some_and(|ns| ns > 0.0), "{result}"),
            ([], Some(error)) => panic!("{workload}: {error}"),
            (_, None) => panic!("{workload} has figures: {result}"),
            (causes, Some(error)) => assert!(causes.iter().any(|c| error.contains(c)), "{workload}: {error}"),
        }
    }
    assert_eq!(document["settings"]["sandbox"], "complete");
    let notes = document["notes"].to_string();
    for reason in ["to be reviewed", "looks at the system's files"] {
        assert!(notes.contains(reason), "{reason}: {notes}");
    }
    assert!(eventually(|| world.workers().is_empty()), "still running: {:?}", world.workers());
    assert!(listener.accept().is_err(), "nobody came");
    assert!(!Path::new("/tmp/hostile-0").exists() && !world.work.join("hostile").exists());
}

/// Takes the right to namespaces from a command, as containers do. Only root has it to lose.
fn without_namespaces(command: &mut std::process::Command) {
    use std::os::unix::process::CommandExt as _;
    const CAP_SYS_ADMIN: libc::c_ulong = 21;
    // SAFETY: between fork and exec only prctl is called, which is async-signal-safe.
    unsafe {
        command.pre_exec(|| match libc::prctl(libc::PR_CAPBSET_DROP, CAP_SYS_ADMIN, 0, 0, 0) {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        });
    }
}

#[test]
fn where_parts_are_missing_known_code_runs_and_other_code_only_when_told() {
    // SAFETY: geteuid cannot fail.
    let root = unsafe { libc::geteuid() } == 0;
    let open = |folder: &Path| {
        folder.ancestors().all(|folder| fs::metadata(folder).is_ok_and(|m| m.permissions().mode() & 0o001 != 0))
    };
    let world = World::prepared();
    if !root || !open(&world.work) {
        eprintln!("not run: needs root, and a checkout in folders that others may enter");
        return;
    }
    let desk = Desk::new(&world);
    let patch = desk.patch("buffer.c", "int evbuffer_harmless_(void);\nint evbuffer_harmless_(void) { return 2; }");
    let run = |more: &[&str]| {
        let mut command = world.command(&[crate::support::QUICK, &["--json"], more].concat());
        without_namespaces(&mut command);
        crate::support::finish(command)
    };
    let document = run(&[]).expect_code(0).document();
    assert_eq!(document["settings"]["sandbox"], "without mounts, network");
    let variant = ["--variant", patch.to_str().unwrap()];
    run(&variant).expect_code(4).expect_said(&[
        "nobody vouches",
        "mounts: ",
        "network: ",
        "--sandbox-without mounts,network",
    ]);
    run(&[&variant[..], &["--sandbox-without", "mounts"]].concat())
        .expect_code(4)
        .expect_said(&["--sandbox-without network"]);
    let document = run(&[&variant[..], &["--sandbox-without", "mounts,network"]].concat()).expect_code(0).document();
    assert_eq!(document["settings"]["sandbox"], "without mounts, network");
    assert!(
        document["notes"].to_string().contains("ran in a sandbox without mounts, network"),
        "{}",
        document["notes"]
    );
}
