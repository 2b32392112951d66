//! `cargo xtask setup` as its users run it: with a PATH of invented tools, a package manager of ours,
//! as root and not, with a terminal and without.

use assert_cmd::Command as Checked;
use serde_json::Value;
use std::fs::{self, File, Permissions};
use std::io::{Read as _, Write as _};
use std::os::fd::FromRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(30);
/// A user without rights; every Linux calls it nobody, and any number does.
const NOBODY: u32 = 65_534;

/// A workspace with a pinned source of one file, and a PATH with every required tool but cmake.
struct World {
    root: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let world = World { root };
        for folder in ["", "bin", "xtask", "config", "libevent", "lib/clang/14/include", "work"] {
            fs::create_dir_all(world.path(folder)).unwrap();
            // Another user runs in here, too.
            fs::set_permissions(world.path(folder), Permissions::from_mode(0o777)).unwrap();
        }
        for name in ["cc", "ninja", "python3", "strace", "valgrind"] {
            world.script(name, "echo \"$0 1.2.3\"");
        }
        std::os::unix::fs::symlink(real("git"), world.path("bin/git")).unwrap();
        fs::write(world.path("lib/libclang.so"), "").unwrap();
        fs::write(world.path("lib/clang/14/include/stddef.h"), "").unwrap();
        // Copied by another process, for the reason told at `script`.
        let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_xtask")).arg(world.path("xtask/program")).status();
        assert!(copied.unwrap().success());
        world.pin();
        world
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    /// Another process writes scripts: a file that this one has open for writing may be inherited by
    /// a child of another thread, and then cannot be executed.
    fn script(&self, name: &str, body: &str) {
        let mut writer = Command::new("sh")
            .args(["-c", r#"cat > "$0" && chmod 755 "$0""#])
            .arg(self.path("bin").join(name))
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let text = format!("#!/bin/sh\nPATH=/usr/bin:/bin\nbin={}\n{body}\n", self.path("bin").display());
        writer.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        assert!(writer.wait().unwrap().success());
    }

    /// apt-get that counts its calls and then runs `body`.
    fn apt(&self, body: &str) {
        self.script("apt-get", &format!("echo \"$*\" >> \"$bin/../work/calls\"\n{body}"));
    }

    fn calls(&self) -> Vec<String> {
        fs::read_to_string(self.path("work/calls")).unwrap_or_default().lines().map(str::to_owned).collect()
    }

    /// Writes config/source.toml for what lies in libevent/.
    fn pin(&self) {
        fs::write(self.path("libevent/event.c"), "int event;\n").unwrap();
        let git = |args: &[&str]| {
            let output = Command::new(real("git"))
                .args(["--git-dir", self.path("hash.git").to_str().unwrap(), "--work-tree"])
                .arg(self.path("libevent"))
                .args(args)
                .output()
                .unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap().trim().to_owned()
        };
        git(&["init", "--quiet"]);
        git(&["add", "--all", "."]);
        let tree = git(&["write-tree"]);
        fs::remove_dir_all(self.path("hash.git")).unwrap();
        let text = format!(
            "name = \"libevent\"\ntag = \"test\"\ncommit = \"{}\"\ntree = \"{tree}\"\n\
             [package]\nname = \"x\"\nversion = \"1.0.0\"\nfolder = \"y\"\n",
            "0".repeat(40)
        );
        fs::write(self.path("config/source.toml"), text).unwrap();
    }

    /// The program in this world, without a terminal.
    fn xtask(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.path("xtask/program"));
        command
            .args(arguments)
            .env_clear()
            .env("PATH", self.path("bin"))
            .env("HOME", self.path("work"))
            .env("LIBCLANG_PATH", self.path("lib"))
            .env("CARGO_MANIFEST_DIR", self.path("xtask"))
            .env("LIBEVENT_PERF_WORK", self.path("work"))
            .stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        Checked::from_std(self.xtask(arguments)).timeout(LIMIT).output().unwrap()
    }

    /// The same without the rights of root.
    fn run_as_nobody(&self, arguments: &[&str]) -> Output {
        let mut command = self.xtask(arguments);
        drop_rights(&mut command);
        Checked::from_std(command).timeout(LIMIT).output().unwrap()
    }
}

/// Installs cmake when asked for it.
const INSTALLS: &str = r#"case "$*" in *install*cmake*) cp "$bin/ninja" "$bin/cmake";; esac"#;
const COMMAND: &str = "apt-get update && apt-get install -y --no-install-recommends cmake";

fn real(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap();
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|path| path.is_file()).unwrap()
}

fn is_root() -> bool {
    // SAFETY: geteuid has no preconditions and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

fn drop_rights(command: &mut Command) {
    if is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
}

fn refused(output: &Output) -> String {
    refused_with(output, &[4])
}

fn refused_with(output: &Output, codes: &[i32]) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code().is_some_and(|code| codes.contains(&code)), "{:?}: {stderr}", output.status);
    let stdout = String::from_utf8_lossy(&output.stdout);
    if !stdout.is_empty() {
        // Asked for by --json: one document that says that there are no results.
        let document: Value = serde_json::from_str(&stdout).expect("one document");
        assert_eq!(
            (&document["partial"], document["exit_code"].as_i64()),
            (&true.into(), output.status.code().map(i64::from))
        );
        assert!(stdout.starts_with("{\"schema\":\"setup/1\""), "{stdout}");
    }
    stderr
}

#[test]
fn no_install_names_what_is_missing_and_the_command() {
    let world = World::new();
    world.apt(INSTALLS);
    let message = refused(&world.run(&["setup", "--no-install"]));
    assert!(message.contains("missing: cmake.") && message.contains("--no-install"), "{message}");
    assert!(message.contains("apt-get install -y --no-install-recommends cmake"), "{message}");
    assert!(world.calls().is_empty());
}

#[test]
fn without_rights_and_terminal_it_says_what_to_type_and_asks_nothing() {
    let world = World::new();
    world.apt(INSTALLS);
    let output = world.run_as_nobody(&["setup", "--json"]);
    assert!(!output.stdout.is_empty(), "a script gets its document");
    let message = refused(&output);
    assert!(message.contains(&format!("type as root: {COMMAND}")), "{message}");
    world.script("sudo", "touch \"$bin/../work/asked\"; exit 1");
    let message = refused(&world.run_as_nobody(&["setup"]));
    assert!(message.contains("type: sudo apt-get update && sudo apt-get install"), "{message}");
    assert!(!world.path("work/asked").exists() && world.calls().is_empty());
}

#[test]
fn an_interrupt_waits_for_the_package_manager_which_is_never_killed() {
    if !is_root() {
        eprintln!("skipped: needs root, which installs without asking");
        return;
    }
    let world = World::new();
    // Asked to end, it first brings what it is at to an end.
    world.apt(
        "trap 'touch \"$bin/../work/asked\"; sleep 0.5; echo configured > \"$bin/../work/end\"; exit 100' TERM\n\
         touch \"$bin/../work/started\"\nwhile :; do sleep 0.05; done",
    );
    let mut command = world.xtask(&["setup"]);
    let mut running = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let started = Instant::now();
    while !world.path("work/started").exists() {
        assert!(started.elapsed() < LIMIT, "apt-get is not called");
        std::thread::sleep(Duration::from_millis(10));
    }
    // SAFETY: the process is our child, which is not reaped yet.
    assert_eq!(unsafe { libc::kill(running.id().cast_signed(), libc::SIGINT) }, 0);
    while running.try_wait().unwrap().is_none() {
        if started.elapsed() > LIMIT {
            running.kill().unwrap();
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let output = running.wait_with_output().unwrap();
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(130), "{message}");
    assert!(message.contains("it ended when asked to"), "{message}");
    assert!(world.path("work/asked").exists());
    assert_eq!(fs::read_to_string(world.path("work/end")).unwrap(), "configured\n", "it was waited for");
    assert_eq!(world.calls().len(), 1, "and not called again");
}

#[test]
fn an_unknown_platform_is_told_so() {
    let world = World::new();
    let message = refused(&world.run(&["setup"]));
    assert!(message.contains("has no package manager that set-up knows"), "{message}");
}

#[test]
fn root_installs_fills_the_source_and_the_second_run_has_nothing_to_do() {
    if !is_root() {
        eprintln!("skipped: needs root, which installs without asking");
        return;
    }
    let world = World::new();
    world.apt(INSTALLS);
    let first = world.run(&["setup", "--json"]);
    let stderr = String::from_utf8_lossy(&first.stderr).into_owned();
    assert!(first.status.success(), "{stderr}");
    assert!(stderr.contains("setup: installed cmake"), "it says what it did: {stderr}");
    let document: Value = serde_json::from_slice(&first.stdout).expect("exactly one JSON document");
    assert_eq!((&document["schema"], &document["changed"]), (&"setup/1".into(), &true.into()));
    let cmake = document["tools"].as_array().unwrap().iter().find(|tool| tool["name"] == "cmake").unwrap();
    assert_eq!((&cmake["status"], &cmake["version"]), (&"installed".into(), &"1.2.3".into()));
    assert_eq!(document["source"]["pinned"], true);

    let calls = world.calls().len();
    let second = world.run(&["setup"]);
    assert!(second.status.success());
    assert!(String::from_utf8_lossy(&second.stdout).contains("nothing was to do"));
    assert!(second.stderr.is_empty(), "{}", String::from_utf8_lossy(&second.stderr));
    assert_eq!(world.calls().len(), calls, "the package manager was left alone");
}

#[test]
fn a_package_manager_that_fails_or_lies_is_not_believed() {
    if !is_root() {
        eprintln!("skipped: needs root, which installs without asking");
        return;
    }
    let world = World::new();
    world.apt("echo 'E: Temporary failure resolving deb.debian.org' >&2; exit 100");
    let message = refused(&world.run(&["setup"]));
    assert!(message.contains("Temporary failure resolving") && message.contains("work/logs/setup.log"), "{message}");
    let log = fs::read_to_string(world.path("work/logs/setup.log")).unwrap();
    assert!(log.contains("Temporary failure resolving"), "{log}");
    world.apt("exit 0");
    let message = refused(&world.run(&["setup"]));
    assert!(message.contains("reported success") && message.contains("no cmake in PATH"), "{message}");
}

#[test]
fn a_corrupted_source_is_refused() {
    let world = World::new();
    world.script("cmake", "echo cmake version 1.2.3");
    fs::write(world.path("libevent/event.c"), "int other;\n").unwrap();
    let pinned = fs::read_to_string(world.path("config/source.toml")).unwrap();
    let tree = pinned.lines().find_map(|line| line.strip_prefix("tree = ")).unwrap().trim_matches('"');
    let message = refused_with(&world.run(&["setup"]), &[5]);
    assert!(message.contains(tree) && message.contains("libevent"), "{message}");
    assert_eq!(fs::read_to_string(world.path("libevent/event.c")).unwrap(), "int other;\n", "nothing is changed");
}

#[test]
fn a_person_at_a_terminal_is_asked() {
    let world = World::new();
    world.apt(INSTALLS);
    world.script("sudo", r#"[ "$1" = -v ] && exit 0; [ "$1" = -n ] || exit 9; shift; exec "$@""#);
    let (code, shown) = at_terminal(&world, "n\n");
    assert!(shown.contains("cmake missing. Install with sudo") && shown.contains(COMMAND.split(" &&").next().unwrap()));
    assert_eq!(code, Some(4), "{shown}");
    assert!(world.calls().is_empty(), "a no is a no");
    let (code, shown) = at_terminal(&world, "y\n");
    assert_eq!(code, Some(0), "{shown}");
    assert!(world.path("bin/cmake").exists());
}

/// Runs `setup` without the rights of root at a terminal, types `answer`, and returns the exit code
/// and what the terminal showed.
fn at_terminal(world: &World, answer: &str) -> (Option<i32>, String) {
    let (mut person, terminal) = terminal();
    let mut command = world.xtask(&["setup"]);
    drop_rights(&mut command);
    command.stdin(terminal.try_clone().unwrap()).stderr(terminal.try_clone().unwrap()).stdout(terminal);
    let mut child = command.spawn().unwrap();
    // The command holds the terminal's other end, too: reading ends when all of them are closed.
    drop(command);
    person.write_all(answer.as_bytes()).unwrap();
    let reader = std::thread::spawn(move || {
        let mut shown = Vec::new();
        // The end of a terminal is an error (EIO); what was read until then counts.
        drop(person.read_to_end(&mut shown));
        String::from_utf8_lossy(&shown).into_owned()
    });
    let deadline = Instant::now() + LIMIT;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if Instant::now() > deadline {
            child.kill().unwrap();
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    (status.code(), reader.join().unwrap())
}

/// Both ends of a new terminal.
fn terminal() -> (File, File) {
    let (mut person, mut terminal) = (0, 0);
    let none = std::ptr::null_mut();
    // SAFETY: both descriptors are valid for writing; no name, settings or size are given.
    let done = unsafe { libc::openpty(&raw mut person, &raw mut terminal, none, none.cast(), none.cast()) };
    assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
    for fd in [person, terminal] {
        // Children of other tests must not hold them open.
        // SAFETY: the descriptor was opened just now.
        unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
    // SAFETY: the descriptors are new and owned by nobody else.
    unsafe { (File::from_raw_fd(person), File::from_raw_fd(terminal)) }
}

#[test]
fn the_invented_world_is_complete() {
    let world = World::new();
    assert!(Path::new(&world.path("bin/git")).exists());
    world.script("cmake", "echo cmake version 1.2.3");
    let output = world.run_as_nobody(&["setup", "--no-install", "--json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
