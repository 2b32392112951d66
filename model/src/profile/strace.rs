//! Lines of strace as system calls: the fallback where the kernel has no tracepoints.
//!
//! What is read is the text of `strace -f -ttt -T -e raw=...`: `PID TIME NAME(ARGUMENTS) = RESULT ERROR <SECONDS>`.

use super::calls::{Call, Traced};
use std::collections::{BTreeMap, BTreeSet};

/// The call that the worker marks the ends of a batch with.
const MARK: &str = "kill";

/// Names of errors by number, as far as event loops meet them; strace prints names.
const ERRORS: &[(&str, i64)] = &[
    ("EPERM", 1),
    ("ENOENT", 2),
    ("EINTR", 4),
    ("EIO", 5),
    ("EBADF", 9),
    ("EAGAIN", 11),
    ("ENOMEM", 12),
    ("EFAULT", 14),
    ("EEXIST", 17),
    ("EINVAL", 22),
    ("EPIPE", 32),
    ("ENOTSOCK", 88),
    ("ECONNRESET", 104),
    ("ENOTCONN", 107),
    ("ETIMEDOUT", 110),
    ("ECONNREFUSED", 111),
    ("EINPROGRESS", 115),
];

/// Calls of the process that strace started and of its threads, in the order in which they ended; other processes are
/// left out. Lines that are no calls are skipped.
pub fn calls(log: &str) -> Vec<Traced> {
    let mut ours: BTreeSet<i32> = BTreeSet::new();
    let mut first = None;
    let mut unfinished: BTreeMap<i32, String> = BTreeMap::new();
    let mut calls = Vec::new();
    for line in log.lines() {
        let mut words = line.trim_start().splitn(2, char::is_whitespace);
        let Some(thread) = words.next().and_then(|word| word.parse::<i32>().ok()) else { continue };
        let Some(rest) = words.next().map(str::trim_start) else { continue };
        if ours.is_empty() {
            ours.insert(thread);
            first = Some(thread);
        }
        if !ours.contains(&thread) {
            continue;
        }
        let whole = if let Some(begin) = rest.strip_suffix("<unfinished ...>") {
            unfinished.insert(thread, begin.to_owned());
            continue;
        } else if let Some((_, end)) = rest.split_once(" resumed>") {
            match unfinished.remove(&thread) {
                Some(begin) => begin + end,
                None => continue,
            }
        } else {
            rest.to_owned()
        };
        let Some(call) = parse(thread, &whole) else { continue };
        let makes_thread = whole.contains("CLONE_THREAD");
        if makes_thread && call.result > 0 {
            ours.extend(i32::try_from(call.result));
        }
        // The number is that of its own namespace: which one, the trace does not say.
        let is_mark = call.name == MARK && call.args[1] == Some(0) && Some(thread) == first && call.result == 0;
        calls.push(if is_mark { Traced::Mark } else { Traced::Call(call) });
    }
    calls
}

/// `1700000000.000001 readv(7, [{...}], 2) = -1 EAGAIN (Resource ...) <0.000012>`.
fn parse(thread: i32, text: &str) -> Option<Call> {
    let (time, rest) = text.split_once(' ')?;
    let at_ns = nanoseconds(time)?;
    let (name, rest) = rest.split_once('(')?;
    // The last bracket before a result: arguments may hold such a text, and an error is explained in brackets.
    let outcome_at = |end: usize| rest[end + 1..].trim_start().strip_prefix("= ");
    let (end, outcome) = rest.rmatch_indices(')').find_map(|(end, _)| Some((end, outcome_at(end)?.trim_start())))?;
    let arguments = &rest[..end];
    let mut words = outcome.split_whitespace();
    let result = number(words.next()?)?;
    let result = match (result, words.next()) {
        (-1, Some(error)) => -ERRORS.iter().find(|(name, _)| *name == error).map_or(4095, |(_, number)| *number),
        (result, _) => result,
    };
    let took = outcome.rsplit_once('<').and_then(|(_, time)| nanoseconds(time.strip_suffix('>')?));
    let fields = split(arguments);
    let mut args = [None; 6];
    for (field, place) in fields.iter().zip(&mut args) {
        *place = argument(field);
    }
    let epoll_events = (name == "epoll_ctl").then(|| fields.get(3).and_then(|field| events(field))).flatten();
    Some(Call { thread, name: name.to_owned(), at_ns, took_ns: took.unwrap_or(0), args, result, epoll_events })
}

/// `1700000000.000001` in nanoseconds; digits count, not the precision of a float.
fn nanoseconds(seconds: &str) -> Option<u64> {
    let (whole, part) = seconds.split_once('.')?;
    let part: String = part.chars().chain("000000000".chars()).take(9).collect();
    whole.parse::<u64>().ok()?.checked_mul(1_000_000_000)?.checked_add(part.parse().ok()?)
}

fn number(text: &str) -> Option<i64> {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok().map(u64::cast_signed),
        None => text.parse().ok(),
    }
}

/// Arguments between commas that are in no bracket and no string.
fn split(text: &str) -> Vec<&str> {
    let (mut fields, mut depth, mut quoted, mut escaped, mut begin) = (Vec::new(), 0_u32, false, false, 0);
    for (place, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '[' | '{' | '(' if !quoted => depth += 1,
            ']' | '}' | ')' if !quoted => depth = depth.saturating_sub(1),
            ',' if !quoted && depth == 0 => {
                fields.push(text[begin..place].trim());
                begin = place + 1;
            }
            _ => {}
        }
    }
    fields.push(text[begin..].trim());
    fields
}

fn argument(field: &str) -> Option<u64> {
    const NAMES: &[(&str, u64)] =
        &[("EPOLL_CTL_ADD", 1), ("EPOLL_CTL_DEL", 2), ("EPOLL_CTL_MOD", 3), ("FIONREAD", 0x541b), ("NULL", 0)];
    let named = NAMES.iter().find(|(name, _)| *name == field).map(|(_, number)| *number);
    named.or_else(|| number(field).map(i64::cast_unsigned))
}

/// `{events=EPOLLIN|EPOLLOUT, data=...}`.
fn events(field: &str) -> Option<u32> {
    const NAMES: &[(&str, u32)] = &[
        ("EPOLLIN", 1),
        ("EPOLLPRI", 2),
        ("EPOLLOUT", 4),
        ("EPOLLERR", 8),
        ("EPOLLHUP", 16),
        ("EPOLLRDHUP", 0x2000),
        ("EPOLLONESHOT", 1 << 30),
        ("EPOLLET", 1 << 31),
    ];
    let text = field.strip_prefix("{events=").or_else(|| field.strip_prefix("{"))?.split(',').next()?;
    let bit = |name: &str| -> Option<u32> {
        let known = NAMES.iter().find(|(known, _)| *known == name).map(|(_, bit)| *bit);
        known.or_else(|| number(name).and_then(|bits| u32::try_from(bits).ok()))
    };
    text.split('|').map(bit).try_fold(0, |bits, bit| Some(bits | bit?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::calls::Collector;

    /// Recorded from strace 6.1, shortened.
    const LOG: &str = r#"
10 1700000000.100000 execve("/w", ["/w"], 0x7 /* 2 vars */) = 0 <0.000100>
10 1700000000.200000 clone(child_stack=NULL, flags=CLONE_VM|CLONE_VFORK|SIGCHLD) = 11 <0.000100>
10 1700000000.200100 clone3({flags=CLONE_VM|CLONE_FS|CLONE_THREAD, child_tid=0x7f}, 88) = 12 <0.000100>
10 1700000000.300000 epoll_ctl(3, EPOLL_CTL_ADD, 7, {events=EPOLLIN, data={u32=7, u64=7}}) = 0 <0.000010>
10 1700000000.400000 kill(10, 0)                       = 0 <0.000005>
11 1700000000.400001 sendto(5, "GET", 3, 0, NULL, 0) = 3 <0.000010>
10 1700000000.400010 epoll_wait(3, [{events=EPOLLIN, data={u32=7, u64=7}}], 32, -1) = 1 <0.000020>
10 1700000000.400020 ioctl(7, FIONREAD, [4096]) = 0 <0.000003>
10 1700000000.400030 readv(7, [{iov_base="a\",) = b(", iov_len=4096}, {iov_base="", iov_len=12}], 2) = 4096 <0.000030>
10 1700000000.400040 recvfrom(7, 0x7f00, 100, 0, NULL, NULL) = -1 EAGAIN (Resource temporarily unavailable) <0.000004>
10 1700000000.400050 epoll_ctl(3, EPOLL_CTL_MOD, 7, {events=EPOLLIN|EPOLLOUT, data={u32=7, u64=7}} <unfinished ...>
12 1700000000.400051 futex(0x5, FUTEX_WAKE, 1) = 0 <0.000002>
10 1700000000.400060 <... epoll_ctl resumed>) = 0 <0.000040>
10 1700000000.400070 epoll_wait(3, [], 32, 0) = 0 <0.000002>
10 1700000000.400080 kill(10, 0)                       = 0 <0.000005>
10 1700000000.400090 write(1, "{\"kind\":\"batches\"", 500) = 500 <0.000005>
10 +++ exited with 0 +++
"#;

    #[test]
    fn the_worker_and_its_threads_are_told_from_other_processes() {
        let mut collector = Collector::default();
        collector.add(&calls(LOG)).unwrap();
        let found = collector.finish(1, true, |error| error.to_string());
        let of = |name: &str| found.by_name.iter().find(|call| call.name == name);
        assert!(of("sendto").is_none() && of("write").is_none());
        assert!((of("futex").unwrap().per_event - 1.0).abs() < 1e-9);
        assert!((of("epoll_wait").unwrap().per_event - 2.0).abs() < 1e-9);
        assert_eq!(of("recvfrom").unwrap().errors_per_event.keys().collect::<Vec<_>>(), ["11"]);
        assert_eq!(of("readv").unwrap().transfers.as_ref().unwrap().buffers_mean, Some(2.0));
        assert_eq!(of("readv").unwrap().traced_ns_median, Some(30_000.0));
        assert!((found.fionread_per_event - 1.0).abs() < 1e-9);
        let epoll = found.epoll_ctl.unwrap();
        assert_eq!((epoll.redundant_share, epoll.by_operation.get("mod")), (Some(0.0), Some(&1.0)));
        assert!((found.waits.unwrap().empty_share - 0.5).abs() < 1e-9);
    }

    #[test]
    fn signals_of_the_workload_are_no_marks() {
        let with = |line: &str| LOG.replace("10 1700000000.400070", &format!("{line}\n10 1700000000.400070"));
        for line in
            ["12 1700000000.400065 kill(10, 0) = 0 <0.000005>", "10 1700000000.400065 kill(10, SIGUSR1) = 0 <0.000005>"]
        {
            let mut collector = Collector::default();
            collector.add(&calls(&with(line))).unwrap();
            assert_eq!(collector.batches(), 1, "{line}");
        }
    }

    #[test]
    fn a_log_that_is_cut_short_is_noticed() {
        let cut = &LOG[..LOG.find("10 1700000000.400060").unwrap()];
        assert!(Collector::default().add(&calls(cut)).is_err());
        assert!(calls("no such line\n10\n\n10 x y\n").is_empty());
    }
}
