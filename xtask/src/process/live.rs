//! Groups that are alive, so that none outlives the harness. The kernel ends a group's leader with the harness, but not
//! what the leader has started, and a process that ends at once runs no code of its own: a second Ctrl-C kills every
//! group first, and a reaper beside the harness does it where the harness itself was killed.

use std::collections::BTreeSet;
use std::io::{BufRead, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

/// How this program is called to be the reaper.
pub(crate) const VERB: &str = "group-reaper";

/// The longest that a second Ctrl-C waits for somebody who is just adding a group.
const PATIENCE: Duration = Duration::from_secs(1);

/// One group, until it is dropped.
pub(super) struct Live {
    group: u32,
}

static GROUPS: Mutex<Groups> = Mutex::new(Groups { alive: BTreeSet::new(), reaper: Reaper::NotStarted });

impl Live {
    /// From now on the group does not outlive this process.
    pub(super) fn begin(group: u32) -> Live {
        let mut groups = groups();
        groups.alive.insert(group);
        groups.tell('+', group);
        Live { group }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        let mut groups = groups();
        groups.alive.remove(&self.group);
        groups.tell('-', self.group);
    }
}

/// Kills every group. For a process that ends at once: what holds the lock too long is not waited for.
pub(crate) fn kill_all() {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match GROUPS.try_lock() {
            Ok(groups) => return groups.kill(),
            Err(TryLockError::Poisoned(groups)) => return groups.into_inner().kill(),
            Err(TryLockError::WouldBlock) if Instant::now() > deadline => return,
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(1)),
        }
    }
}

/// The hidden verb: kills the groups that the harness leaves, whatever ended it.
pub(crate) fn reaper() {
    reap_after(std::io::stdin().lock(), kill);
}

struct Groups {
    alive: BTreeSet<u32>,
    reaper: Reaper,
}

enum Reaper {
    NotStarted,
    Listens(ChildStdin),
    /// It could not be started; the kernel still ends leaders.
    None,
}

impl Groups {
    fn kill(&self) {
        self.alive.iter().copied().for_each(kill);
    }

    fn tell(&mut self, sign: char, group: u32) {
        if matches!(self.reaper, Reaper::NotStarted) {
            self.reaper = start().map_or(Reaper::None, Reaper::Listens);
        }
        if let Reaper::Listens(pipe) = &mut self.reaper
            && writeln!(pipe, "{sign}{group}").is_err()
        {
            self.reaper = Reaper::None;
        }
    }
}

fn groups() -> MutexGuard<'static, Groups> {
    GROUPS.lock().unwrap_or_else(PoisonError::into_inner)
}

fn kill(group: u32) {
    let Ok(group) = i32::try_from(group) else { return };
    // SAFETY: a signal to a group whose leader the harness has started and not yet forgotten.
    unsafe { libc::kill(-group, libc::SIGKILL) };
}

/// Starts the reaper, which listens until this process ends: its pipe is open here and nowhere else.
fn start() -> Option<ChildStdin> {
    if cfg!(test) {
        // The program of unit tests has no verbs.
        return None;
    }
    let mut command = Command::new("/proc/self/exe");
    command.arg(VERB).env_clear().current_dir("/").stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    // What ends the harness on a terminal, or kills its group, is not to end the reaper.
    command.process_group(0);
    command.spawn().ok()?.stdin
}

/// Follows which groups are alive until the harness ends, and kills those that are left.
fn reap_after(lines: impl BufRead, mut kill: impl FnMut(u32)) {
    let mut alive = BTreeSet::new();
    for line in lines.lines().map_while(Result::ok) {
        let (sign, group) = line.split_at_checked(1).unwrap_or_default();
        let Ok(group) = group.parse::<u32>() else { continue };
        match sign {
            "+" => drop(alive.insert(group)),
            _ => drop(alive.remove(&group)),
        }
    }
    alive.into_iter().for_each(&mut kill);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::Group;

    #[test]
    fn the_reaper_kills_what_is_left() {
        let mut killed = Vec::new();
        reap_after("+7\n+8\n\nx\n-7\n+9\n-10\n".as_bytes(), |group| killed.push(group));
        assert_eq!(killed, [8, 9]);
    }

    #[test]
    fn a_group_is_known_while_it_lives_and_is_killed_with_its_grandchildren() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pid");
        let mut command = Command::new("sh");
        command.args([
            "-c",
            &format!("sh -c 'sleep 1000 & echo $! > {0}.part; mv {0}.part {0}; wait'; :", file.display()),
        ]);
        let group = Group::spawn(&mut command).unwrap();
        assert!(groups().alive.contains(&group.pid()));
        let soon = |done: &dyn Fn() -> bool| {
            (0..1000).any(|_| {
                std::thread::sleep(Duration::from_millis(10));
                done()
            })
        };
        assert!(soon(&|| file.exists()));
        let stat = format!("/proc/{}/stat", std::fs::read_to_string(&file).unwrap().trim());
        assert!(std::fs::read_to_string(&stat).is_ok(), "the grandchild runs");
        // All groups of this process belong to other tests, too: this one's alone.
        Groups { alive: [group.pid()].into(), reaper: Reaper::None }.kill();
        assert!(soon(&|| std::fs::read_to_string(&stat).map_or(true, |text| text.contains(") Z "))));
        let pid = group.pid();
        drop(group);
        assert!(!groups().alive.contains(&pid));
    }
}
