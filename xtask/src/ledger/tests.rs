//! What can happen to the file of a ledger: kills, full disks, two writers, hands that edit it.

use super::append::{Sink, append};
use super::check::{self, Severity};
use super::file::{self, Access};
use super::fixtures::*;
use super::{Book, Place};
use crate::exit::{Exit, exit_of};
use model::gate::{Tier, Verdict};
use model::ledger::chain;
use model::ledger::event::{Event, TipDerived, TipGate, TipRef};
use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A file that takes so many bytes more, and then fails as a full disk does, or is dead as a killed process is.
struct Failing {
    file: File,
    room: usize,
    sync_fails: bool,
    dead: bool,
}

impl Sink for Failing {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let taken = bytes.len().min(self.room);
        Sink::write_all(&mut self.file, &bytes[..taken])?;
        if taken < bytes.len() { Err(io::Error::from(io::ErrorKind::StorageFull)) } else { Ok(()) }
    }

    fn sync(&mut self) -> io::Result<()> {
        if self.sync_fails { Err(io::Error::from(io::ErrorKind::StorageFull)) } else { Ok(()) }
    }

    fn set_len(&mut self, length: u64) -> io::Result<()> {
        if self.dead { Err(io::Error::other("killed")) } else { Sink::set_len(&mut self.file, length) }
    }
}

/// A workspace with one experiment, rebuilt.
fn workspace() -> (Workspace, String) {
    let workspace = Workspace::new();
    let id = workspace.proposed("Larger reads", "the patch\n", &TipRef::default());
    workspace.book().rebuild().unwrap();
    (workspace, id)
}

/// The line that would come next.
fn next_line(workspace: &Workspace, id: &str) -> String {
    let copy = Workspace::new();
    std::fs::write(copy.place.ledger(), workspace.bytes()).unwrap();
    copy.book().append(id, noted("next"), &[]).unwrap();
    String::from_utf8(copy.bytes()).unwrap().lines().last().unwrap().to_owned()
}

fn failing(workspace: &Workspace, room: usize, sync_fails: bool, dead: bool) -> Failing {
    let file = OpenOptions::new().append(true).open(workspace.place.ledger()).unwrap();
    Failing { file, room, sync_fails, dead }
}

fn found(place: &Place) -> Vec<(Severity, Option<usize>, String)> {
    let checked = check::of(place).unwrap();
    checked.findings.into_iter().map(|finding| (finding.severity, finding.line, finding.file)).collect()
}

#[test]
fn what_was_written_is_found_again_and_vouched_for() {
    let (workspace, id) = workspace();
    let (ledger, history) = workspace.place.read().unwrap();
    assert_eq!(ledger.lines().len(), 2);
    assert_eq!(history.experiments[&id].files.len(), 1);
    let checked = check::of(&workspace.place).unwrap();
    assert!(checked.is_sound() && checked.findings.is_empty(), "{:?}", checked.findings);
    assert_eq!((checked.exit(), checked.files, checked.versions), (Exit::Ok, 1, None));
    // Nothing that is rebuilt a second time changes.
    assert!(workspace.book().rebuild().unwrap().is_empty());
}

#[test]
fn a_workspace_without_a_ledger_has_an_empty_one() {
    let workspace = Workspace::new();
    assert!(workspace.place.read().unwrap().0.lines().is_empty());
    assert!(!workspace.place.ledger().exists(), "reading makes none");
    assert!(found(&workspace.place).iter().all(|finding| finding.0 == Severity::Stale));
    workspace.book().rebuild().unwrap();
    assert!(found(&workspace.place).is_empty());
}

#[test]
fn folders_and_files_besides_are_vouched_for_and_links_are_not() {
    let (workspace, id) = workspace();
    let folder = workspace.place.folder(&id);
    std::fs::create_dir_all(folder.join("run-1-a/gate-logs/deep")).unwrap();
    for path in ["run-1-a/gate-logs/deep/one.log", "run-1-a/gate-logs/two.log"] {
        std::fs::write(folder.join(path), path).unwrap();
    }
    let mut book = workspace.book();
    let entry = book.append(&id, noted("logs"), &["run-1-a/gate-logs"]).unwrap();
    let names: Vec<&str> = entry.files.keys().map(String::as_str).collect();
    assert_eq!(names, ["run-1-a/gate-logs/deep/one.log", "run-1-a/gate-logs/two.log"]);
    std::os::unix::fs::symlink("/etc/hostname", folder.join("run-1-a/link")).unwrap();
    assert_eq!(exit_of(&book.append(&id, noted("x"), &["run-1-a/link"]).unwrap_err()), Exit::Usage);
    assert!(book.append(&id, noted("x"), &["run-1-a/absent"]).is_err());
    assert_eq!(book.ledger().lines().len(), 3);
}

#[test]
fn records_are_never_overwritten() {
    let (workspace, id) = workspace();
    let before = workspace.bytes();
    std::fs::write(workspace.place.folder(&id).join("p.patch"), "another\n").unwrap();
    let error = workspace.book().append(&id, noted("x"), &["p.patch"]).unwrap_err();
    assert!(error.to_string().contains("never overwritten"), "{error}");
    assert_eq!(workspace.bytes(), before);
}

/// The process dies with any number of bytes of the line written.
#[test]
fn killed_at_any_byte_the_ledger_is_whole_and_goes_on() {
    let (workspace, id) = workspace();
    let (before, line) = (workspace.bytes(), next_line(&workspace, &id));
    for room in 0..=line.len() + 1 {
        std::fs::write(workspace.place.ledger(), &before).unwrap();
        let mut sink = failing(&workspace, room, true, true);
        assert!(append(&mut sink, before.len() as u64, &line).is_err());
        let whole = room == line.len() + 1;
        let torn = workspace.bytes().len() - before.len();
        assert_eq!(torn, room, "the test writes what it says");
        // Whoever only reads is not bothered by it.
        assert_eq!(workspace.place.read().unwrap().0.lines().len(), if whole { 3 } else { 2 });
        let book = workspace.book();
        assert_eq!(book.ledger().lines().len(), if whole { 3 } else { 2 }, "after {room} bytes");
        drop(book);
        if !whole {
            assert_eq!(workspace.bytes(), before, "after {room} bytes");
        }
    }
    // What was cut off is kept.
    let kept = everything(&workspace.place.aside);
    assert_eq!(kept.len(), line.len(), "one for each but the empty and the whole");
    assert!(kept.iter().all(|(_, bytes)| line.as_bytes().starts_with(bytes)));
}

#[test]
fn a_full_disk_leaves_the_ledger_as_it_was() {
    let (workspace, id) = workspace();
    let (before, line) = (workspace.bytes(), next_line(&workspace, &id));
    for room in 0..=line.len() {
        let mut sink = failing(&workspace, room, false, false);
        assert!(append(&mut sink, before.len() as u64, &line).is_err());
        assert_eq!(workspace.bytes(), before, "after {room} bytes");
    }
    // The bytes had room, and the disk did not take them.
    let mut sink = failing(&workspace, usize::MAX, true, false);
    assert!(append(&mut sink, before.len() as u64, &line).is_err());
    assert_eq!(workspace.bytes(), before);
    let mut sink = failing(&workspace, usize::MAX, false, false);
    append(&mut sink, before.len() as u64, &line).unwrap();
    assert_eq!(workspace.place.read().unwrap().0.lines().len(), 3);
}

#[test]
fn a_line_that_generated_files_know_of_is_never_taken_for_an_unfinished_one() {
    let (workspace, _) = workspace();
    let whole = workspace.bytes();
    std::fs::write(workspace.place.ledger(), &whole[..whole.len() - 5]).unwrap();
    let error = Book::open(workspace.place.clone(), origin()).err().unwrap();
    assert_eq!(exit_of(&error), Exit::Tampering, "{error:#}");
    assert_eq!(workspace.bytes().len(), whole.len() - 5, "nothing was cut off");
    assert!(found(&workspace.place).contains(&(Severity::Tampering, Some(1), "experiments/ledger.jsonl".to_owned())));
}

#[test]
fn an_unfinished_line_is_said_and_one_command_sets_it_aside() {
    let (workspace, _) = workspace();
    let before = workspace.bytes();
    std::fs::write(workspace.place.ledger(), [&before[..], b"{\"sequence\":3,"].concat()).unwrap();
    assert_eq!(found(&workspace.place), [(Severity::Stale, Some(3), "experiments/ledger.jsonl".to_owned())]);
    workspace.book().rebuild().unwrap();
    assert!(found(&workspace.place).is_empty());
    assert_eq!(workspace.bytes(), before);
}

/// Every kind of tampering, through the files of a workspace: what is found, and on which line.
#[test]
fn whatever_is_done_by_hand_is_found_and_the_line_named() {
    let (workspace, id) = workspace();
    let mut book = workspace.book();
    for number in 0..4 {
        std::fs::write(book.folder(&id).join(format!("log-{number}")), format!("{number}")).unwrap();
        book.append(&id, noted("a note"), &[&format!("log-{number}")]).unwrap();
    }
    book.rebuild().unwrap();
    drop(book);
    let (ledger, text) = (workspace.place.ledger(), String::from_utf8(workspace.bytes()).unwrap());
    let lines: Vec<&str> = text.lines().collect();
    let joined = |lines: &[&str]| lines.iter().map(|line| format!("{line}\n")).collect::<String>();
    let edited = |at: usize| {
        let line = lines[at].replace("a note", "another");
        let mut lines = lines.clone();
        lines[at] = &line;
        joined(&lines)
    };
    let mut swapped = lines.clone();
    swapped.swap(2, 3);
    for (what, content, line) in [
        ("edited", edited(3), 4),
        ("edited at the end", edited(5), 6),
        ("removed in the middle", joined(&[&lines[..2], &lines[3..]].concat()), 3),
        ("swapped", joined(&swapped), 3),
        ("cut off", joined(&lines[..4]), 4),
        ("emptied", String::new(), 0),
        ("repeated", joined(&[&lines[..4], &lines[3..]].concat()), 5),
        ("garbage", text.clone() + "garbage\n", 7),
    ] {
        std::fs::write(&ledger, content).unwrap();
        let checked = check::of(&workspace.place).unwrap();
        assert_eq!(checked.exit(), Exit::Tampering, "{what}");
        assert_eq!(checked.findings[0].line, Some(line), "{what}: {}", checked.findings[0].what);
        let error =
            Book::open(workspace.place.clone(), origin()).err().unwrap_or_else(|| panic!("{what} is written to"));
        assert_eq!(exit_of(&error), Exit::Tampering, "{what}: {error:#}");
    }
    std::fs::write(&ledger, &text).unwrap();
    // Files that entries vouch for.
    let file = workspace.place.folder(&id).join("log-2");
    let name = format!("experiments/{id}/log-2");
    let is_found = |what: &str| {
        assert_eq!(found(&workspace.place), [(Severity::Tampering, Some(5), name.clone())], "{what}");
    };
    std::fs::write(&file, "other").unwrap();
    is_found("changed");
    std::fs::remove_file(&file).unwrap();
    is_found("missing");
    std::fs::write(workspace.folder.path().join("same"), "2").unwrap();
    std::os::unix::fs::symlink(workspace.folder.path().join("same"), &file).unwrap();
    is_found("a link to the same content");
    std::fs::remove_file(&file).unwrap();
    std::fs::write(&file, "2").unwrap();
    assert!(found(&workspace.place).is_empty());
}

#[test]
fn generated_files_that_are_stale_are_named_and_rebuilt() {
    let (workspace, id) = workspace();
    let root = &workspace.place.root;
    let generated = [
        "experiments/EXPERIMENTS.md",
        "experiments/SUMMARY.md",
        "experiments/series",
        "README.md",
        &format!("experiments/{id}/README.md"),
    ];
    for name in generated {
        let path = root.join(name);
        let text = std::fs::read_to_string(&path).unwrap();
        // README is generated in part: the block, not the rest.
        let edited =
            if name == "README.md" { text.replace("experiment", "failure") } else { text.clone() + "edited\n" };
        let edited = edited.replace("<!-- failures", "<!-- experiments").replace("<!-- failure", "<!-- experiment");
        std::fs::write(&path, edited).unwrap();
        assert_eq!(found(&workspace.place), [(Severity::Stale, None, name.to_owned())], "{name}");
        assert_eq!(check::of(&workspace.place).unwrap().exit(), Exit::Failed);
        assert_eq!(workspace.book().rebuild().unwrap(), std::slice::from_ref(&path));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        std::fs::remove_file(&path).unwrap();
        if name != "README.md" {
            assert!(found(&workspace.place).iter().any(|finding| finding.2 == name), "{name} is missing");
            workspace.book().rebuild().unwrap();
        }
        std::fs::write(&path, &text).unwrap();
    }
    // One more entry makes what shows it stale.
    workspace.book().append(&id, noted("x"), &[]).unwrap();
    assert!(found(&workspace.place).iter().all(|finding| finding.0 == Severity::Stale));
    assert_eq!(found(&workspace.place).len(), 3, "both pages with the head, and the experiment's");
}

#[test]
fn the_gate_of_a_tip_is_vouched_for() {
    let (workspace, id) = workspace();
    let mut book = workspace.book();
    let patches = vec![book.file(&id, "p.patch").unwrap().sha256];
    let tip = TipRef { patches, commit: "d".repeat(40), ..TipRef::default() };
    book.append(&id, forced(tip.clone()), &[]).unwrap();
    let record_sha256 = crate::files::sha256_hex(&[b"a record"]);
    let folder = workspace.place.root.join("experiments").join(TipDerived::folder(&tip, &record_sha256));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("gate.json"), "a record").unwrap();
    let gate = TipGate {
        variant: "e".repeat(12),
        tier: Tier::Full,
        verdict: Verdict::Pass,
        run: "run".into(),
        record_sha256: record_sha256.clone(),
        has_own_folder: true,
    };
    let failed = TipGate { verdict: Verdict::Fail, ..gate.clone() };
    book.append_at_large(Event::TipDerived(TipDerived { tip: tip.clone(), gate: failed })).unwrap_err();
    book.append_at_large(Event::TipDerived(TipDerived { tip, gate })).unwrap();
    book.rebuild().unwrap();
    drop(book);
    assert!(check::of(&workspace.place).unwrap().is_sound());
    std::fs::write(folder.join("gate.json"), "another").unwrap();
    let checked = check::of(&workspace.place).unwrap();
    let worst = &checked.findings[0];
    assert_eq!((checked.exit(), worst.line), (Exit::Tampering, Some(4)));
    assert_eq!(worst.file, format!("experiments/tips/dddddddddddd-{record_sha256:.12}/gate.json"));
}

#[test]
fn what_a_killed_run_left_is_a_note() {
    let (workspace, id) = workspace();
    std::fs::write(workspace.place.folder(&id).join("half.json"), "{").unwrap();
    std::fs::create_dir(workspace.place.root.join("experiments/EXP-0009-left-000000")).unwrap();
    let checked = check::of(&workspace.place).unwrap();
    assert!(checked.is_sound() && checked.exit() == Exit::Ok);
    assert_eq!(checked.findings.len(), 2, "{:?}", checked.findings);
}

#[test]
fn a_clock_that_was_set_back_is_said_and_entries_keep_their_order() {
    let (workspace, id) = workspace();
    let mut book = workspace.book();
    book.set_clock(|| "1999-12-31T23:59:59Z".to_owned());
    assert!(book.append(&id, noted("early"), &[]).unwrap().clock_set_back);
    book.rebuild().unwrap();
    drop(book);
    assert!(!workspace.book().append(&id, noted("late"), &[]).unwrap().clock_set_back);
    let (ledger, history) = workspace.place.read().unwrap();
    let steps: Vec<&str> = history.experiments[&id].steps.iter().map(|step| step.what.as_str()).collect();
    assert_eq!((ledger.lines().len(), &steps[2..]), (4, &["early", "late"][..]));
    let page = std::fs::read_to_string(workspace.place.folder(&id).join("README.md")).unwrap();
    assert!(page.contains("1999-12-31T23:59:59Z (clock set back)"), "{page}");
}

#[test]
fn threads_that_write_at_once_take_turns() {
    let workspace = Workspace::new();
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let place = workspace.place.clone();
            scope.spawn(move || {
                for number in 0..5 {
                    let mut book = Book::open(place.clone(), origin()).unwrap();
                    book.open_experiment(opened(&format!("writer {writer} {number}"), &TipRef::default())).unwrap();
                }
            });
        }
    });
    let (ledger, history) = workspace.place.read().unwrap();
    assert_eq!((ledger.lines().len(), history.experiments.len()), (20, 20));
    let numbers: Vec<u32> =
        history.experiments.keys().map(|id| model::experiment::id::parse(id).unwrap().number).collect();
    assert_eq!(numbers, (1..=20).collect::<Vec<u32>>(), "no number twice under one lock");
}

#[test]
fn a_ledger_that_was_replaced_meanwhile_is_not_written_to() {
    let (workspace, id) = workspace();
    let path = workspace.place.ledger();
    let mut book = workspace.book();
    let bytes = workspace.bytes();
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, &bytes).unwrap();
    assert_eq!(exit_of(&book.append(&id, noted("x"), &[]).unwrap_err()), Exit::Infrastructure);
    assert_eq!(workspace.bytes(), bytes);
    // Its lock is worth nothing any more: the new file can be locked.
    assert!(file::locked(&path, Access::Write).unwrap().is_some());
    drop(book);
    // Lines that somebody adds without the lock.
    let mut book = workspace.book();
    std::fs::write(&path, [&bytes[..], b"x"].concat()).unwrap();
    assert!(book.append(&id, noted("x"), &[]).unwrap_err().to_string().contains("changed by something"));
}

/// Not a test by itself: other tests start this program with it.
#[test]
fn child() {
    let Some(folder) = std::env::var_os("LEDGER_TEST_CHILD") else { return };
    let place = place(Path::new(&folder));
    if std::env::var_os("LEDGER_TEST_FULL").is_some() {
        return full_disk(&place);
    }
    for number in 0.. {
        let opened = opened(&format!("process {} {number}", std::process::id()), &TipRef::default());
        Book::open(place.clone(), origin()).unwrap().open_experiment(opened).unwrap();
        println!("acknowledged");
        if number == 9 && std::env::var_os("LEDGER_TEST_ENDLESS").is_none() {
            return;
        }
    }
}

fn start(workspace: &Workspace, with: &[(&str, &str)]) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["ledger::tests::child", "--exact", "--nocapture"]).env("LEDGER_TEST_CHILD", workspace.folder.path());
    command.envs(with.iter().copied()).stdout(Stdio::piped()).stderr(Stdio::null()).stdin(Stdio::null());
    command
}

fn acknowledged(output: &[u8]) -> usize {
    String::from_utf8_lossy(output).matches("acknowledged").count()
}

#[test]
fn processes_that_write_at_once_take_turns() {
    let workspace = Workspace::new();
    let children: Vec<_> = (0..3).map(|_| start(&workspace, &[]).spawn().unwrap()).collect();
    let outputs: Vec<_> = children.into_iter().map(|child| child.wait_with_output().unwrap()).collect();
    assert!(outputs.iter().all(|output| output.status.success() && acknowledged(&output.stdout) == 10));
    assert_eq!(workspace.place.read().unwrap().1.experiments.len(), 30);
}

/// SIGKILL at random instants: every entry that was acknowledged is there, and nothing is half-written.
#[test]
fn killed_writers_lose_nothing_that_was_acknowledged() {
    let workspace = Workspace::new();
    let mut acknowledged_in_all = 0;
    for round in 0..12_u64 {
        let mut child = start(&workspace, &[("LEDGER_TEST_ENDLESS", "1")]).spawn().unwrap();
        // From the first entry on, so that the kill falls into writing however slow this host is.
        let lines = workspace.bytes().len();
        let deadline = Instant::now() + Duration::from_secs(20);
        while workspace.bytes().len() == lines && Instant::now() < deadline {
            std::thread::sleep(Duration::from_micros(200));
        }
        std::thread::sleep(Duration::from_micros(700 * round));
        child.kill().unwrap();
        acknowledged_in_all += acknowledged(&child.wait_with_output().unwrap().stdout);
        let book = workspace.book();
        assert!(book.ledger().lines().len() >= acknowledged_in_all, "round {round}");
        assert_eq!(chain::read(&workspace.bytes()).unwrap().torn, b"");
    }
    workspace.book().rebuild().unwrap();
    assert!(check::of(&workspace.place).unwrap().is_sound());
    assert!(acknowledged_in_all > 0, "nothing was written at all");
}

/// A file system that takes no more: a limit on the size of files stands in for it.
fn full_disk(place: &Place) {
    let length = std::fs::metadata(place.ledger()).unwrap().len();
    let limit = libc::rlimit { rlim_cur: length + 100, rlim_max: length + 100 };
    // SAFETY: both calls only change this process, which does nothing but this test.
    unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
        assert_eq!(libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit), 0);
    }
    let mut book = Book::open(place.clone(), origin()).unwrap();
    let error = book.open_experiment(opened("no room", &TipRef::default())).unwrap_err();
    assert!(error.to_string().contains("it is as it was"), "{error:#}");
    println!("acknowledged");
}

#[test]
fn a_file_system_that_is_full_leaves_the_ledger_as_it_was() {
    let (workspace, _) = workspace();
    let before = workspace.bytes();
    let output = start(&workspace, &[("LEDGER_TEST_FULL", "1")]).output().unwrap();
    assert!(output.status.success() && acknowledged(&output.stdout) == 1, "{output:?}");
    assert_eq!(workspace.bytes(), before);
    // With room again, the same command goes on.
    workspace.book().open_experiment(opened("room", &TipRef::default())).unwrap();
    assert_eq!(workspace.place.read().unwrap().0.lines().len(), 3);
}
