//! Where a process group hangs: what the kernel says of its threads, and a backtrace where gdb is there.

use crate::process;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Processes and threads that are described; a group that made more says no more with them.
const MOST: usize = 8;
/// Frames of a thread.
const FRAMES: usize = 12;
/// gdb reads symbols of one program.
const GDB_LIMIT: Duration = Duration::from_secs(20);

/// Every thread of the group: state, system call, kernel functions; then backtraces.
pub(super) fn describe(group: u32) -> String {
    let mut text = String::new();
    let members = members(group);
    for pid in members.iter().take(MOST) {
        for task in tasks(*pid).into_iter().take(MOST) {
            let read = |name: &str| fs::read_to_string(task.join(name)).unwrap_or_default().trim().to_owned();
            let status = read("status");
            let state = status.lines().find_map(|line| line.strip_prefix("State:")).unwrap_or("unknown").trim();
            let waits = Some(read("wchan")).filter(|name| !name.is_empty() && name != "0");
            let waits = waits.map_or(String::new(), |name| format!(", waits in {name}"));
            let call = read("syscall").split(' ').next().filter(|n| n.parse::<i64>().is_ok()).map(str::to_owned);
            let call = call.map_or(String::new(), |number| format!(", system call {number}"));
            let id = task.file_name().unwrap_or_default().to_string_lossy().into_owned();
            text.push_str(&format!("process {pid} thread {id} ({}): {state}{call}{waits}\n", read("comm")));
            for line in read("stack").lines().take(4) {
                text.push_str(&format!("    kernel {line}\n"));
            }
        }
        text.push_str(&backtrace(*pid));
    }
    if text.is_empty() { "its processes were gone when they were looked at\n".to_owned() } else { text }
}

/// Processes of a group, oldest first as far as ids tell.
pub(super) fn members(group: u32) -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let of_group = |pid: &u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // The name in parentheses may hold anything; behind its end come state, parent, group.
        let field = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(2)?.parse::<u32>().ok());
        field == Some(group)
    };
    let mut found: Vec<u32> = pids.filter(of_group).collect();
    found.sort_unstable();
    found
}

fn tasks(pid: u32) -> Vec<std::path::PathBuf> {
    let mut found: Vec<_> =
        fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten().map(|e| e.path()).collect();
    found.sort();
    found
}

/// Empty where there is no gdb, or where it may not look.
fn backtrace(pid: u32) -> String {
    if !["/usr/bin/gdb", "/usr/local/bin/gdb", "/bin/gdb"].iter().any(|path| Path::new(path).is_file()) {
        return String::new();
    }
    let mut gdb = Command::new("gdb");
    // A program can carry scripts for gdb, and this program is nobody's friend: none is run.
    gdb.args(["-nx", "-nh", "-batch", "-iex", "set auto-load off", "-iex", "set debuginfod enabled off"]);
    gdb.args(["-p", &pid.to_string(), "-ex", &format!("thread apply all backtrace {FRAMES}")]);
    let Ok(got) = process::capture(&mut gdb, GDB_LIMIT) else { return String::new() };
    let telling = got.stdout.lines().filter(|line| line.starts_with('#') || line.starts_with("Thread "));
    telling.take(MOST * FRAMES).map(|line| format!("    {line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_of_a_group_are_found_by_their_group() {
        // SAFETY: getpgrp has no preconditions and cannot fail.
        let own = unsafe { libc::getpgrp() }.cast_unsigned();
        assert!(members(own).contains(&std::process::id()));
        assert!(members(u32::MAX).is_empty());
        assert!(describe(u32::MAX).contains("gone"));
    }
}
