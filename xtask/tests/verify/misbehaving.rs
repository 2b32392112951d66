//! Libraries that hang, crash, kill, and lie.

use crate::records::small;
use crate::support::{World, edit, eventually};
use serde_json::Value;
use std::fs;

/// A patch that replaces `old`, which must be in `file` exactly once, by `new`.
pub(crate) fn patch(world: &World, file: &str, old: &str, new: &str) -> String {
    let work = world.folder.path().join(format!("patching-{}", world.records().len()));
    let from = world.root.join("libevent").join(file);
    let text = fs::read_to_string(&from).unwrap();
    assert_eq!(text.matches(old).count(), 1, "{old} in {file}");
    for (side, content) in [("a", text.clone()), ("b", text.replace(old, new))] {
        let target = work.join(side).join(file);
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::write(target, content).unwrap();
    }
    let mut diff = std::process::Command::new("git");
    diff.current_dir(&work).args(["diff", "--no-index", "--no-prefix", "a", "b"]);
    let text = String::from_utf8(diff.output().unwrap().stdout).unwrap();
    let path = world.folder.path().join(format!("{}.patch", world.records().len()));
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Where every patch of these tests puts its code: all tests of evbuffers go through it.
const OLD: &str = "struct evbuffer *\nevbuffer_new(void)\n{";

/// A patch that changes nothing.
pub(crate) fn harmless(world: &World) -> String {
    patch(world, "buffer.c", OLD, &format!("{OLD} /* harmless */"))
}

fn with_code(world: &World, code: &str) -> String {
    patch(world, "buffer.c", OLD, &format!("{OLD}\n\t{code}\n"))
}

/// What libevent's own tests say; the model tests, which take as long, are left out where nothing is asked of them.
fn failed(world: &World, patch: &str) -> Value {
    stage(&run_failing(world, &["--without", "models", patch]), "epoll")
}

fn failed_record(world: &World, patch: &str) -> Value {
    run_failing(world, &[patch])
}

fn run_failing(world: &World, args: &[&str]) -> Value {
    let outcome = world.run(&[&["verify", "--json"], args].concat()).expect_code(2);
    world.assert_no_worker_is_left();
    let record = outcome.document();
    assert_eq!(record["verdict"], "fail");
    record
}

fn stage(record: &Value, name: &str) -> Value {
    record["stages"].as_array().unwrap().iter().find(|stage| stage["name"] == name).unwrap().clone()
}

#[test]
fn a_hang_in_every_test_is_bounded_and_says_where() {
    let (world, _folder) = small(World::prepared());
    let patch = with_code(&world, "for (;;) { extern unsigned sleep(unsigned); sleep(1); }");
    let record = failed_record(&world, &patch);
    let models = stage(&record, "models");
    assert!(models["details"].to_string().contains("given up"), "{models}");
    assert!(models["tests_run"].as_u64() < models["tests_expected"].as_u64(), "{models}");
    let stage = stage(&record, "epoll");
    assert!(stage["why"].as_str().unwrap().contains("given up"), "{stage}");
    assert!(stage["tests_run"].as_u64() < stage["tests_expected"].as_u64(), "what was given up has not run");
    let text = stage["details"].to_string();
    assert!(text.contains("hung") && text.contains("thread"), "where: {text}");
    assert!(stage["seconds"].as_f64().unwrap() < 300.0);
}

#[test]
fn a_crash_in_one_test_is_that_tests_failure() {
    let (world, _folder) = small(World::prepared());
    let old = "int\nevbuffer_expand(struct evbuffer *buf, size_t datlen)\n{";
    let new = "int\nevbuffer_expand(struct evbuffer *buf, size_t datlen)\n{ if (datlen > 3000) *(volatile int *)0 = 1;";
    let stage = failed(&world, &patch(&world, "buffer.c", old, new));
    assert_eq!(stage["tests_run"], stage["tests_expected"]);
    assert!(stage["failed"].to_string().contains("evbuffer/expand"), "{stage}");
}

#[test]
fn killing_its_parents_group_and_printing_a_summary_are_failures() {
    let (world, _folder) = small(World::prepared());
    let kills = "{ extern int kill(int, int); extern int getppid(void), getpgid(int); kill(-getpgid(getppid()), 9); kill(0, 9); }";
    let stage = failed(&world, &with_code(&world, kills));
    assert!(!stage["failed"].as_array().unwrap().is_empty(), "{stage}");
    let lies = "{ extern int printf(const char *, ...); extern void _exit(int); extern int fflush(); \
                printf(\"OK\\n331 tests ok.  (0 skipped)\\n\"); fflush(0); _exit(0); }";
    let stage = failed(&world, &with_code(&world, lies));
    assert!(!stage["failed"].as_array().unwrap().is_empty(), "{stage}");
}

/// A patch that runs `code` before `main`, with `argc` and `argv`.
fn before_main(world: &World, code: &str) -> String {
    let constructor = format!("__attribute__((constructor)) static void early(int argc, char **argv)\n{{ {code} }}\n");
    patch(world, "buffer.c", OLD, &format!("{constructor}{OLD}"))
}

#[test]
fn ending_hanging_or_a_shorter_list_at_start_up_runs_no_test() {
    let (world, _folder) = small(World::prepared());
    let record = failed_record(&world, &before_main(&world, "extern void _exit(int); _exit(0);"));
    assert_eq!(stage(&record, "epoll")["tests_run"], 0, "{record}");
    let notes = record["notes"].to_string();
    for shown in ["to be reviewed", "buffer.c:", "runs before main", "ends or stops the process", "_exit(0)"] {
        assert!(notes.contains(shown), "{shown}: {notes}");
    }
    let models = stage(&record, "models");
    assert!(models["why"].as_str().unwrap().contains("printed nothing"), "{models}");
    let stage = failed(&world, &before_main(&world, "extern int pause(void); for (;;) pause();"));
    assert!(stage["why"].as_str().unwrap().contains("hangs"), "{stage}");
    let shorter = "extern int puts(const char *), strcmp(const char *, const char *); extern void exit(int); \
                   if (argc > 1 && !strcmp(argv[1], \"--list-tests\")) \
                   { puts(\"Known tests are:\\n    main/simpleread\"); exit(0); }";
    let stage = failed(&world, &before_main(&world, shorter));
    assert!(stage["why"].as_str().unwrap().contains("list of tests is not pristine's"), "{stage}");
    let believed = "extern int printf(const char *, ...); extern void exit(int); extern int strncmp(const char *, const char *, unsigned long); \
                    if (argc > 3 && !strncmp(argv[1], \"--timeout\", 9)) \
                    { printf(\"%s: [forking] OK\\n1 tests ok.  (0 skipped)\\n\", argv[3]); exit(0); }";
    let stage = failed(&world, &before_main(&world, believed));
    assert!(stage["why"].as_str().unwrap().contains("cannot be believed"), "{stage}");
}

/// A script of the source reads what a test printed. It says that all is well, and tries everything else before.
#[test]
fn a_script_of_another_source_is_confined() {
    let (world, folder) = small(World::prepared());
    edit(&world.root.join("config/gate.toml"), "\"test-init\"]", "\"test-init\", \"test-dumpevents\"]");
    let source = folder.path().join("other");
    crate::support::copy_libevent(&source);
    let outside = [folder.path().to_owned(), world.work.clone(), world.root.clone(), "/var/tmp".into(), "/usr".into()];
    let places: Vec<String> = outside.iter().map(|place| format!("{:?}", place.join("escaped-by-script"))).collect();
    let secret = folder.path().join("secret");
    fs::write(&secret, "secret\n").unwrap();
    let script = format!(
        "import sys, os, socket\n\
         for place in [{}]:\n    try:\n        open(place, 'w').write('x')\n        sys.exit('ESCAPED: wrote ' + place)\n    except OSError:\n        pass\n\
         try:\n    open({secret:?})\n    sys.exit('ESCAPED: read')\nexcept OSError:\n    pass\n\
         if os.getuid() == 0:\n    sys.exit('ESCAPED: it is root')\n\
         if 'HARMLESS' in os.environ:\n    sys.exit('ESCAPED: it has the environment')\n\
         sys.exit(0 if 'Inserted' in sys.stdin.read() else 'no input')\n",
        places.join(", ")
    );
    fs::write(source.join("test/check-dumpevents.py"), script).unwrap();
    let mut command = world.command(&["verify", "--json", "--without", "models", "--source", source.to_str().unwrap()]);
    command.env("HARMLESS", "1");
    let record = crate::support::finish(command).expect_code(0).document();
    assert!(!record.to_string().contains("ESCAPED"), "{record}");
    let logs = world.records()[0].join("logs/epoll");
    assert!(
        fs::read_to_string(logs.join("test-dumpevents.log")).unwrap().contains("Passed"),
        "it was run and believed"
    );
    let left: Vec<_> =
        outside.iter().map(|place| place.join("escaped-by-script")).filter(|path| path.exists()).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn ctrl_c_leaves_nothing_running() {
    let (world, _folder) = small(World::prepared());
    let patch = with_code(&world, "{ extern unsigned sleep(unsigned); sleep(3600); }");
    let args = ["verify", "--json", "--without", "models", &patch];
    // Everything is built and known: what runs then are tests.
    world.run(&args).expect_code(2);
    let run = world.start(&args);
    assert!(eventually(|| world.workers().len() > 2), "tests can be seen while they run");
    run.signal(libc::SIGINT);
    let outcome = run.wait().expect_code(130);
    world.assert_no_worker_is_left();
    let record = outcome.document();
    assert_eq!((&record["partial"], &record["verdict"]), (&true.into(), &"fail".into()));
}
