//! Every branch of set-up, with invented tools and package managers.

use super::install::Situation;
use super::*;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A file system with every tool of `bench` but those named, and a package manager `apt-get`.
struct World {
    root: tempfile::TempDir,
}

impl World {
    fn without(missing: &[&str]) -> Self {
        let world = World { root: tempfile::tempdir().unwrap() };
        for name in ["cc", "git", "cmake", "ninja", "python3", "strace", "valgrind"] {
            if !missing.contains(&name) {
                world.script(name, "");
            }
        }
        let lib = world.path("usr/lib/llvm-14/lib");
        world.file(&lib.join("libclang.so"));
        world.file(&lib.join("clang/14/include/stddef.h"));
        world.file(&world.path("usr/include/openssl/ssl.h"));
        world.file(&world.path("var/lib/apt/lists/main_Packages"));
        world
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    fn file(&self, path: &Path) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "").unwrap();
    }

    /// An executable script in PATH. Another process writes it: a file that this one has open for
    /// writing may be inherited by a child of another thread, and then cannot be executed.
    fn script(&self, name: &str, body: &str) {
        let path = self.path("bin").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut writer = Command::new("sh")
            .args(["-c", r#"cat > "$0" && chmod 755 "$0""#])
            .arg(&path)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        writer.stdin.take().unwrap().write_all(format!("#!/bin/sh\n{body}\n").as_bytes()).unwrap();
        assert!(writer.wait().unwrap().success());
    }

    /// apt-get that notes its calls and then runs `body`, in which `$bin` is the folder of tools.
    fn apt(&self, body: &str) {
        let bin = self.path("bin");
        let calls = self.path("calls");
        self.script(
            "apt-get",
            &format!("bin={}\necho \"$DEBIAN_FRONTEND $*\" >> {}\n{body}", bin.display(), calls.display()),
        );
    }

    fn calls(&self) -> Vec<String> {
        std::fs::read_to_string(self.path("calls")).unwrap_or_default().lines().map(str::to_owned).collect()
    }

    fn situation(&self) -> Situation<'static> {
        let places =
            Places { path: vec![self.path("bin")], facts: Facts::below(self.root.path()), env: BTreeMap::new() };
        Situation {
            places,
            linux: true,
            is_root: true,
            may_install: true,
            ask: None,
            log: self.path("logs/setup.log"),
            limit: Duration::from_secs(60),
            lock_limit: Duration::from_secs(20),
            lock_look: Duration::from_millis(20),
        }
    }
}

/// Installs cmake and ninja when asked for their packages.
const INSTALLS: &str = r#"
case "$*" in install*) for tool in cmake ninja strace; do cp "$bin/git" "$bin/$tool"; done;; esac"#;

fn refused(result: Result<Report>) -> String {
    let error = result.unwrap_err();
    assert_eq!(exit_of(&error), Exit::Infrastructure, "{error:#}");
    format!("{error:#}")
}

#[test]
fn nothing_missing_is_silent_quick_and_touches_nothing() {
    let world = World::without(&[]);
    world.apt("exit 1");
    let started = Instant::now();
    let report = ensure_in(&[Verb::Bench], false, &world.situation()).unwrap();
    assert!(started.elapsed() < Duration::from_secs(5), "no process is started");
    assert!(report.installed.is_empty() && report.optional_missing.is_empty());
    assert!(report.found.iter().any(|(tool, path)| tool.name == "cmake" && path.ends_with("bin/cmake")));
    assert!(world.calls().is_empty());
    assert!(!world.path("logs").exists());
}

#[test]
fn root_installs_what_is_missing_once_and_not_twice() {
    let world = World::without(&["cmake", "ninja"]);
    world.apt(INSTALLS);
    let report = ensure_in(&[Verb::Bench], false, &world.situation()).unwrap();
    assert_eq!(report.installed, ["cmake", "ninja"]);
    let install = "noninteractive install -y --no-install-recommends cmake ninja-build";
    assert_eq!(world.calls(), [install], "lists are there: no update");
    let again = ensure_in(&[Verb::Bench], false, &world.situation()).unwrap();
    assert!(again.installed.is_empty());
    assert_eq!(world.calls().len(), 1);
}

#[test]
fn lists_are_fetched_first_where_there_are_none() {
    let world = World::without(&["cmake", "ninja"]);
    std::fs::remove_dir_all(world.path("var")).unwrap();
    world.apt(INSTALLS);
    ensure_in(&[Verb::Bench], false, &world.situation()).unwrap();
    assert_eq!(world.calls()[0], "noninteractive update");
    assert_eq!(world.calls().len(), 2);
}

#[test]
fn stale_lists_are_fetched_after_a_first_failure() {
    let world = World::without(&["cmake"]);
    let stale = r#"case "$*" in update) touch "$bin/fresh";; esac; [ -e "$bin/fresh" ] || exit 100"#;
    world.apt(&format!("{stale}\n{INSTALLS}"));
    let report = ensure_in(&[Verb::Bench], false, &world.situation()).unwrap();
    assert_eq!(report.installed, ["cmake"]);
    assert_eq!(world.calls().len(), 3, "install, update, install: {:?}", world.calls());
}

#[test]
fn a_failing_package_manager_is_quoted_with_its_log() {
    let world = World::without(&["cmake"]);
    world.apt("echo 'E: Temporary failure resolving deb.debian.org' >&2; exit 100");
    let message = refused(ensure_in(&[Verb::Bench], false, &world.situation()));
    assert!(message.contains("Temporary failure resolving deb.debian.org"), "{message}");
    assert!(message.contains("logs/setup.log"), "{message}");
    assert!(message.contains("apt-get update && apt-get install -y --no-install-recommends cmake"), "{message}");
    assert_eq!(world.calls().len(), 2, "tried, and then the lists: {:?}", world.calls());
}

#[test]
fn success_without_the_tool_is_noticed() {
    let world = World::without(&["cmake"]);
    world.apt("exit 0");
    let message = refused(ensure_in(&[Verb::Bench], false, &world.situation()));
    assert!(message.contains("reported success") && message.contains("no cmake in PATH"), "{message}");
}

#[test]
fn a_held_lock_is_waited_for() {
    let world = World::without(&["cmake"]);
    let locked = r#"echo x >> "$bin/tries"; [ "$(wc -l < "$bin/tries")" -ge 3 ] || {
        echo 'E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 1 (apt)' >&2; exit 100; }"#;
    world.apt(&format!("{locked}\n{INSTALLS}"));
    let report = ensure_in(&[Verb::Bench], false, &world.situation()).unwrap();
    assert_eq!(report.installed, ["cmake"]);
    assert!(world.calls().iter().all(|call| call.contains("install")), "waiting needs no new lists");
}

#[test]
fn a_lock_that_is_never_released_ends_in_an_error() {
    let world = World::without(&["cmake"]);
    world.apt("echo 'E: Could not get lock /var/lib/dpkg/lock' >&2; exit 100");
    let situation = Situation { lock_limit: Duration::from_millis(200), ..world.situation() };
    let message = refused(ensure_in(&[Verb::Bench], false, &situation));
    assert!(message.contains("Could not get lock"), "{message}");
    assert!(world.calls().len() >= 2);
}

#[test]
fn a_hanging_package_manager_is_asked_to_end() {
    let world = World::without(&["cmake"]);
    world.apt("exec sleep 60");
    let started = Instant::now();
    let situation = Situation { limit: Duration::from_millis(300), ..world.situation() };
    let message = refused(ensure_in(&[Verb::Bench], false, &situation));
    assert!(message.contains("out of time") && message.contains("it ended when asked to"), "{message}");
    assert!(started.elapsed() < Duration::from_secs(30));
}

#[test]
fn without_rights_and_without_a_person_the_command_is_told() {
    let world = World::without(&["cmake", "ninja"]);
    world.apt(INSTALLS);
    let situation = Situation { is_root: false, ..world.situation() };
    let message = refused(ensure_in(&[Verb::Bench], false, &situation));
    let command = "apt-get update && apt-get install -y --no-install-recommends cmake ninja-build";
    assert!(message.contains(&format!("type as root: {command}")), "{message}");
    world.script("sudo", "exit 1");
    let message = refused(ensure_in(&[Verb::Bench], false, &situation));
    assert!(message.contains("type: sudo apt-get update && sudo apt-get install"), "{message}");
    assert!(world.calls().is_empty(), "nothing was started");
}

#[test]
fn a_person_is_asked_and_obeyed() {
    let world = World::without(&["cmake"]);
    world.apt(INSTALLS);
    // As sudo does: -v asks for the password, -n runs the rest.
    world.script("sudo", r#"[ "$1" = -v ] && exit 0; [ "$1" = -n ] || exit 9; shift; exec "$@""#);
    let asked = Cell::new(0);
    let no = |question: &str| {
        assert!(question.contains("cmake") && question.contains("sudo apt-get"), "{question}");
        asked.set(asked.get() + 1);
        Ok(false)
    };
    let situation = Situation { is_root: false, ask: Some(&no), ..world.situation() };
    refused(ensure_in(&[Verb::Bench], false, &situation));
    assert_eq!((asked.get(), world.calls().len()), (1, 0));

    let yes = |_: &str| Ok(true);
    let situation = Situation { is_root: false, ask: Some(&yes), ..world.situation() };
    let report = ensure_in(&[Verb::Bench], false, &situation).unwrap();
    assert_eq!(report.installed, ["cmake"]);
    assert!(world.calls()[0].starts_with("noninteractive install"), "the setting reaches it through sudo");
}

#[test]
fn installing_can_be_forbidden() {
    let world = World::without(&["cmake", "strace"]);
    world.apt(INSTALLS);
    let situation = Situation { may_install: false, ..world.situation() };
    let message = refused(ensure_in(&[Verb::Bench], false, &situation));
    assert!(message.contains("missing: cmake.") && message.contains("--no-install"), "{message}");
    assert!(message.contains("apt-get install -y --no-install-recommends cmake"), "{message}");
    assert!(world.calls().is_empty());
}

#[test]
fn unknown_platforms_are_told_so() {
    let world = World::without(&["cmake"]);
    std::fs::create_dir_all(world.path("etc")).unwrap();
    std::fs::write(world.path("etc/os-release"), "ID=plan9\nPRETTY_NAME=\"Plan 9\"\n").unwrap();
    let message = refused(ensure_in(&[Verb::Bench], false, &world.situation()));
    assert!(message.contains("Plan 9 has no package manager that set-up knows"), "{message}");
    let message = refused(ensure_in(&[Verb::Bench], false, &Situation { linux: false, ..world.situation() }));
    assert!(message.contains("Only Linux is supported"), "{message}");
}

#[test]
fn what_a_verb_can_do_without_is_never_fatal() {
    let world = World::without(&["strace", "valgrind"]);
    world.apt(INSTALLS);
    let report = ensure_in(&[Verb::Bench], false, &world.situation()).unwrap();
    let missing: Vec<&str> = report.optional_missing.iter().map(|tool| tool.name).collect();
    assert_eq!(missing, ["strace", "valgrind"]);
    assert!(world.calls().is_empty(), "not asked for");
    // Asked for: what the package manager has is installed, and what it lacks is named.
    let report = ensure_in(&[Verb::Bench], true, &world.situation()).unwrap();
    assert_eq!(report.installed, ["strace"]);
    assert_eq!(report.failed.len(), 1);
    assert_eq!(report.failed[0].0.name, "valgrind");
}

#[test]
fn python_is_needed_by_the_tests_alone() {
    let world = World::without(&["python3"]);
    ensure_in(&[Verb::Bench], false, &world.situation()).unwrap();
    refused(ensure_in(&[Verb::Test], false, &Situation { may_install: false, ..world.situation() }));
}
