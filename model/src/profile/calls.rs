//! System calls, one by one, and what is made of them: how many of one event, how long, with which errors and arguments.

pub use super::epoll::EpollCtl as EpollTotals;
use super::epoll::Follower;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// `FIONREAD` of asm-generic/ioctls.h: how much could be read.
const FIONREAD: u64 = 0x541b;

/// One system call that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Thread.
    pub thread: i32,
    /// Name as the kernel's table has it.
    pub name: String,
    /// When it began.
    pub at_ns: u64,
    /// How long it took, waiting included.
    pub took_ns: u64,
    /// Arguments as numbers; what was not seen is null.
    pub args: [Option<u64>; 6],
    /// What it returned, negative for an error: the number of the error.
    pub result: i64,
    /// Of `epoll_ctl`: the events asked for, where they were seen.
    pub epoll_events: Option<u32>,
}

/// A call, or the sign that a batch's work begins or ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Traced {
    /// A call.
    Call(Call),
    /// `kill(2)` of the worker by itself.
    Mark,
}

/// Sizes of what calls moved.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Transfers {
    /// Mean over calls that moved any bytes.
    pub bytes_mean: Option<f64>,
    /// Calls that moved nothing without an error, of all that succeeded.
    pub empty_share: f64,
    /// Number of calls by bytes moved, those that moved any.
    pub by_bytes: BTreeMap<u64, u64>,
    /// Mean number of buffers that were handed in, of calls with a list of buffers that succeeded.
    pub buffers_mean: Option<f64>,
    /// Bytes moved, of the bytes that were asked for, where one argument says how many.
    pub filled_share: Option<f64>,
}

/// All calls of one name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SyscallProfile {
    /// Name.
    pub name: String,
    /// Calls of one event.
    pub per_event: f64,
    /// Standard error of that number, by what batches and launches differ; null where one batch alone was counted, and in records
    /// from before this was kept.
    #[serde(default)]
    pub standard_error_per_event: Option<f64>,
    /// Median time of a call as traced: waiting and the tracer's own time included. Null where they were only counted.
    pub traced_ns_median: Option<f64>,
    /// Time on the CPU of one call, by samples, without the tracer. Null where samples do not tell.
    pub cpu_ns_per_call: Option<f64>,
    /// Of the samples inside of system calls, those in this one.
    pub cpu_share_of_calls: Option<f64>,
    /// Calls that failed, of one event, by the name of the error.
    pub errors_per_event: BTreeMap<String, f64>,
    /// Of calls that move bytes.
    pub transfers: Option<Transfers>,
}

/// Waits for events.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Waits {
    /// Of one event.
    pub per_event: f64,
    /// Returned no event, of all.
    pub empty_share: f64,
    /// Were asked not to wait, of all whose timeout was seen.
    pub nonblocking_share: Option<f64>,
    /// Mean over waits that returned any.
    pub ready_mean: Option<f64>,
    /// Number of waits by the number of events that they returned.
    pub by_ready: BTreeMap<u64, u64>,
}

/// Everything about the system calls of a workload.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Calls {
    /// By name, the most frequent first.
    pub by_name: Vec<SyscallProfile>,
    /// Of `epoll_ctl`; null without any.
    pub epoll_ctl: Option<EpollTotals>,
    /// Of `epoll_wait` and its kin, `poll` and `select`; null without any.
    pub waits: Option<Waits>,
    /// `ioctl(FIONREAD)` of one event.
    pub fionread_per_event: f64,
    /// Batches that they were counted in.
    pub batches: u64,
}

/// What one stream of calls says; several are added up.
#[derive(Debug, Default)]
pub struct Collector {
    names: BTreeMap<String, OfName>,
    epoll: Follower,
    waits: OfWaits,
    fionread: u64,
    marks: u64,
    /// Which process the streams are of, and how many batches of each were counted.
    launch: u32,
    batches_of: BTreeMap<u32, u64>,
}

#[derive(Debug, Default)]
struct OfName {
    count: u64,
    /// In the batch that goes on.
    in_batch: u64,
    /// Sum over batches of the squares of their numbers.
    squares: f64,
    of_launch: BTreeMap<u32, u64>,
    /// Number of calls by the time that they took: no more memory for more calls.
    took_ns: BTreeMap<u64, u64>,
    errors: BTreeMap<i64, u64>,
    bytes: BTreeMap<u64, u64>,
    succeeded: u64,
    asked_bytes: u64,
    moved_of_asked: u64,
    buffers: (u64, u64),
}

#[derive(Debug, Default)]
struct OfWaits {
    by_ready: BTreeMap<u64, u64>,
    with_timeout: u64,
    nonblocking: u64,
}

impl Collector {
    /// Adds one stream, in the order of time. Calls between an odd and the next even mark count; those outside are followed
    /// for what they change. A stream that ends inside of a batch was cut short: the batch counts nothing. It goes on where the
    /// one before ended, unless that was [forgotten](Collector::forget).
    ///
    /// # Errors
    /// The number of marks is odd.
    pub fn add(&mut self, stream: &[Traced]) -> Result<(), CutShort> {
        let marks = stream.iter().filter(|traced| **traced == Traced::Mark).count() as u64;
        if !marks.is_multiple_of(2) {
            return Err(CutShort);
        }
        let mut inside = false;
        for traced in stream {
            match traced {
                Traced::Mark => {
                    inside = !inside;
                    if !inside {
                        self.end_batch();
                    }
                }
                Traced::Call(call) => self.call(call, inside),
            }
        }
        self.marks += marks;
        *self.batches_of.entry(self.launch).or_default() += marks / 2;
        Ok(())
    }

    fn end_batch(&mut self) {
        for of in self.names.values_mut() {
            let count = std::mem::take(&mut of.in_batch);
            of.squares += (count as f64).powi(2);
            *of.of_launch.entry(self.launch).or_default() += count;
        }
    }

    /// The next stream is another process's.
    pub fn next_launch(&mut self) {
        self.forget();
        self.launch = self.launch.saturating_add(1);
    }

    /// The next stream does not go on where the last one ended: something was lost in between.
    pub fn forget(&mut self) {
        self.epoll.forget();
    }

    /// Batches in all streams.
    pub fn batches(&self) -> u64 {
        self.marks / 2
    }

    fn call(&mut self, call: &Call, inside: bool) {
        let done = call.result >= 0;
        match (call.name.as_str(), call.args) {
            ("epoll_ctl", [Some(set), Some(operation), Some(descriptor), ..]) => {
                self.epoll.change(set, operation, descriptor, call.epoll_events, done, inside);
            }
            ("epoll_wait" | "epoll_pwait" | "epoll_pwait2", [Some(set), ..]) => self.epoll.wait(set),
            ("close", [Some(descriptor), ..]) => self.epoll.close(descriptor),
            _ => {}
        }
        if !inside {
            return;
        }
        if call.name == "ioctl" && call.args[1] == Some(FIONREAD) {
            self.fionread += 1;
        }
        if let Some(timeout) = wait_timeout(call) {
            *self.waits.by_ready.entry(u64::try_from(call.result).unwrap_or(0)).or_default() += 1;
            if let Some(nonblocking) = timeout {
                self.waits.with_timeout += 1;
                self.waits.nonblocking += u64::from(nonblocking);
            }
        }
        let of_name = self.names.entry(call.name.clone()).or_default();
        of_name.count += 1;
        of_name.in_batch += 1;
        *of_name.took_ns.entry(call.took_ns).or_default() += 1;
        match u64::try_from(call.result) {
            Err(_) => *of_name.errors.entry(call.result.saturating_neg()).or_default() += 1,
            Ok(bytes) => {
                of_name.succeeded += 1;
                *of_name.bytes.entry(bytes).or_default() += 1;
                // Arguments are what the workload says: any number.
                match (argument(&call.name), call.args[2]) {
                    (Some(Argument::Bytes), Some(asked)) => {
                        of_name.asked_bytes = of_name.asked_bytes.saturating_add(asked);
                        of_name.moved_of_asked = of_name.moved_of_asked.saturating_add(bytes);
                    }
                    (Some(Argument::Buffers), Some(buffers)) => {
                        of_name.buffers.0 = of_name.buffers.0.saturating_add(buffers);
                        of_name.buffers.1 += 1;
                    }
                    _ => {}
                }
            }
        }
    }

    /// Figures of one event; `error_name` names numbers of errors. Times are left out where they were not taken (`timed`).
    pub fn finish(self, events: u64, timed: bool, error_name: impl Fn(i64) -> String) -> Calls {
        let per_event = |count: u64| count as f64 / events.max(1) as f64;
        let batches = self.batches();
        let batches_of: Vec<(u32, u64)> = self.batches_of.iter().map(|(launch, count)| (*launch, *count)).collect();
        let of_event = batches as f64 / events.max(1) as f64;
        let mut by_name: Vec<SyscallProfile> = self
            .names
            .into_iter()
            .map(|(name, of)| SyscallProfile {
                per_event: per_event(of.count),
                standard_error_per_event: standard_error(&of, &batches_of).map(|error| error * of_event),
                traced_ns_median: if timed { median(&of.took_ns) } else { None },
                cpu_ns_per_call: None,
                cpu_share_of_calls: None,
                errors_per_event: of
                    .errors
                    .iter()
                    .map(|(error, count)| (error_name(*error), per_event(*count)))
                    .collect(),
                transfers: argument(&name).map(|_| transfers(&of)),
                name,
            })
            .collect();
        by_name.sort_by(|one, other| other.per_event.total_cmp(&one.per_event).then(one.name.cmp(&other.name)));
        Calls {
            by_name,
            epoll_ctl: self.epoll.counted(events),
            waits: waits(&self.waits, events),
            fionread_per_event: per_event(self.fionread),
            batches,
        }
    }
}

/// Standard error of the number of a call in a batch, by what batches differ, or by what launches do, if that is more: batches
/// of one process may have more in common than those of two. Null of fewer than two batches.
fn standard_error(of: &OfName, batches_of: &[(u32, u64)]) -> Option<f64> {
    let batches: u64 = batches_of.iter().map(|(_, batches)| batches).sum();
    let all = batches as f64;
    if batches < 2 {
        return None;
    }
    let mean = of.count as f64 / all;
    let of_batches = ((of.squares / all - mean.powi(2)).max(0.0) / (all - 1.0)).sqrt();
    let launches: Vec<(u32, u64)> = batches_of.iter().copied().filter(|(_, batches)| *batches > 0).collect();
    let apart = |(launch, batches): &(u32, u64)| {
        let count = of.of_launch.get(launch).copied().unwrap_or(0);
        ((count as f64 - mean * *batches as f64) / all).powi(2)
    };
    let sum: f64 = launches.iter().map(apart).sum();
    let number = launches.len() as f64;
    let of_launches = if launches.len() > 1 { (sum * number / (number - 1.0)).sqrt() } else { 0.0 };
    Some(of_batches.max(of_launches))
}

/// A stream of calls that ends inside of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the trace ends inside of a batch: it was cut short")]
pub struct CutShort;

/// What the third argument of a call that moves bytes is.
enum Argument {
    Bytes,
    Buffers,
    /// Neither: what it moves is in its result alone.
    Other,
}

fn argument(name: &str) -> Option<Argument> {
    match name {
        "read" | "write" | "recvfrom" | "sendto" | "pread64" | "pwrite64" => Some(Argument::Bytes),
        "readv" | "writev" | "preadv" | "pwritev" => Some(Argument::Buffers),
        "recvmsg" | "sendmsg" | "sendfile" | "splice" => Some(Argument::Other),
        _ => None,
    }
}

/// Of a call that waits for descriptors, whether it was asked not to wait, where that was seen.
fn wait_timeout(call: &Call) -> Option<Option<bool>> {
    match call.name.as_str() {
        "epoll_wait" | "epoll_pwait" => Some(call.args[3].map(|timeout| timeout == 0)),
        "poll" => Some(call.args[2].map(|timeout| timeout == 0)),
        // Their timeouts are in memory.
        "epoll_pwait2" | "ppoll" | "select" | "pselect6" => Some(None),
        _ => None,
    }
}

fn transfers(of: &OfName) -> Transfers {
    let empty = of.bytes.get(&0).copied().unwrap_or(0);
    let by_bytes: BTreeMap<u64, u64> =
        of.bytes.iter().filter(|(bytes, _)| **bytes > 0).map(|(b, c)| (*b, *c)).collect();
    let moved = by_bytes.iter().fold(0_u64, |sum, (bytes, count)| sum.saturating_add(bytes.saturating_mul(*count)));
    let share = |part: u64, all: u64| (all > 0).then(|| part as f64 / all as f64);
    Transfers {
        bytes_mean: share(moved, of.succeeded - empty),
        empty_share: share(empty, of.succeeded).unwrap_or(0.0),
        by_bytes,
        buffers_mean: share(of.buffers.0, of.buffers.1),
        filled_share: share(of.moved_of_asked, of.asked_bytes),
    }
}

fn waits(of: &OfWaits, events: u64) -> Option<Waits> {
    let all: u64 = of.by_ready.values().sum();
    if all == 0 {
        return None;
    }
    let empty = of.by_ready.get(&0).copied().unwrap_or(0);
    let ready = of.by_ready.iter().fold(0_u64, |sum, (ready, count)| sum.saturating_add(ready.saturating_mul(*count)));
    Some(Waits {
        per_event: all as f64 / events.max(1) as f64,
        empty_share: empty as f64 / all as f64,
        nonblocking_share: (of.with_timeout > 0).then(|| of.nonblocking as f64 / of.with_timeout as f64),
        ready_mean: (all > empty).then(|| ready as f64 / (all - empty) as f64),
        by_ready: of.by_ready.clone(),
    })
}

/// Of values by how often each was there.
fn median(counts: &BTreeMap<u64, u64>) -> Option<f64> {
    let all: u64 = counts.values().sum();
    let at = |place: u64| {
        let mut before = 0;
        counts.iter().find_map(|(value, count)| {
            before += count;
            (place < before).then_some(*value as f64)
        })
    };
    Some((at(all.checked_sub(1)? / 2)? + at(all / 2)?) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(name: &str, args: &[u64], result: i64) -> Traced {
        let mut all = [None; 6];
        args.iter().zip(&mut all).for_each(|(arg, place)| *place = Some(*arg));
        let call =
            Call { thread: 1, name: name.to_owned(), at_ns: 0, took_ns: 100, args: all, result, epoll_events: Some(1) };
        Traced::Call(call)
    }

    fn stream() -> Vec<Traced> {
        vec![
            call("epoll_ctl", &[3, 1, 7], 0),
            call("epoll_wait", &[3, 0, 32, u64::MAX], 1),
            Traced::Mark,
            call("epoll_wait", &[3, 0, 32, 0], 0),
            call("epoll_wait", &[3, 0, 32, 5000], 4),
            call("ioctl", &[7, FIONREAD], 0),
            call("readv", &[7, 0, 2], 4096),
            call("readv", &[7, 0, 4], -11),
            call("sendto", &[7, 0, 100], 50),
            call("epoll_ctl", &[3, 3, 7], 0),
            call("epoll_wait", &[3, 0, 32, u64::MAX], 2),
            Traced::Mark,
            call("write", &[1, 0, 500], 500),
        ]
    }

    fn finished(streams: &[Vec<Traced>], events: u64) -> Calls {
        let mut collector = Collector::default();
        streams.iter().for_each(|stream| collector.add(stream).unwrap());
        collector.finish(events, true, |error| format!("E{error}"))
    }

    #[test]
    fn only_calls_inside_of_batches_count() {
        let calls = finished(&[stream(), stream()], 4);
        let of = |name: &str| calls.by_name.iter().find(|call| call.name == name);
        assert_eq!(calls.batches, 2);
        assert!(of("write").is_none());
        assert!((of("epoll_wait").unwrap().per_event - 1.5).abs() < 1e-9);
        assert_eq!(calls.by_name[0].name, "epoll_wait", "the most frequent one first");
        assert!((calls.fionread_per_event - 0.5).abs() < 1e-9);
        assert_eq!(of("readv").unwrap().traced_ns_median, Some(100.0));
    }

    #[test]
    fn what_batches_and_launches_differ_by_is_the_error_of_a_number() {
        let batch = |reads: usize| {
            let calls = std::iter::repeat_n(call("read", &[7, 0, 1], 1), reads);
            std::iter::once(Traced::Mark).chain(calls).chain([Traced::Mark]).collect::<Vec<_>>()
        };
        let error = |launches: &[&[usize]], events: u64| {
            let mut collector = Collector::default();
            for launch in launches {
                collector.next_launch();
                launch.iter().for_each(|reads| collector.add(&batch(*reads)).unwrap());
            }
            collector.finish(events, true, |error| error.to_string()).by_name[0].standard_error_per_event
        };
        assert_eq!(error(&[&[5]], 1), None, "one batch tells nothing");
        assert_eq!(error(&[&[5, 5], &[5]], 3), Some(0.0));
        // 8 and 12 of two events each: a standard deviation of 2.83 between batches, of 2 of their mean.
        assert!((error(&[&[8, 12]], 4).unwrap() - 1.0).abs() < 1e-9);
        // Each launch repeats itself exactly, and another one is different.
        let modes = error(&[&[8; 50], &[12; 50]], 100).unwrap();
        assert!((modes - 2.0).abs() < 1e-9, "not that of a hundred batches: {modes}");
    }

    #[test]
    fn arguments_errors_and_results_are_added_up() {
        let calls = finished(&[stream()], 1);
        let of = |name: &str| calls.by_name.iter().find(|call| call.name == name).unwrap();
        let readv = of("readv");
        assert_eq!(readv.errors_per_event, BTreeMap::from([("E11".to_owned(), 1.0)]));
        let transfers = readv.transfers.as_ref().unwrap();
        assert_eq!(
            (transfers.bytes_mean, transfers.buffers_mean),
            (Some(4096.0), Some(2.0)),
            "of calls that were done"
        );
        assert_eq!(of("sendto").transfers.as_ref().unwrap().filled_share, Some(0.5));
        assert_eq!(of("epoll_ctl").transfers, None);
        let waits = calls.waits.unwrap();
        assert!((waits.empty_share - 1.0 / 3.0).abs() < 1e-9);
        assert_eq!((waits.ready_mean, waits.by_ready.len()), (Some(3.0), 3));
        assert!((waits.nonblocking_share.unwrap() - 1.0 / 3.0).abs() < 1e-9);
        let epoll = calls.epoll_ctl.unwrap();
        assert_eq!(epoll.redundant_share, Some(1.0), "what was set before the batch is set again");
    }

    #[test]
    fn what_the_workload_says_of_its_buffers_does_not_overflow() {
        let mut forged = stream();
        forged.insert(3, call("readv", &[7, 0, u64::MAX], -14));
        forged.insert(4, call("readv", &[7, 0, u64::MAX], 1));
        forged.insert(5, call("readv", &[7, 0, u64::MAX], 1));
        forged.insert(6, call("recvfrom", &[7, 0, u64::MAX], 1));
        forged.insert(7, call("recvfrom", &[7, 0, u64::MAX], 1));
        let calls = finished(&[forged], 1);
        let of = |name: &str| calls.by_name.iter().find(|call| call.name == name).unwrap().transfers.clone().unwrap();
        assert!(of("readv").buffers_mean.unwrap() > 1e18 && of("recvfrom").filled_share.unwrap() < 1e-9);
    }

    #[test]
    fn sets_of_another_process_are_not_those_of_the_one_before() {
        let adds = |forgotten: bool| {
            let mut collector = Collector::default();
            let outside = [call("epoll_ctl", &[3, 1, 7], 0), call("epoll_wait", &[3, 0, 32, 0], 1)];
            collector.add(&outside).unwrap();
            if forgotten {
                collector.forget();
            }
            let inside =
                [Traced::Mark, call("epoll_ctl", &[3, 1, 7], 0), call("epoll_wait", &[3, 0, 32, 0], 1), Traced::Mark];
            collector.add(&inside).unwrap();
            collector.finish(1, true, |error| error.to_string()).epoll_ctl.unwrap().redundant_share
        };
        assert_eq!((adds(false), adds(true)), (Some(1.0), Some(0.0)));
    }

    #[test]
    fn medians_of_counts_are_those_of_the_values() {
        let of = |values: &[u64]| {
            let mut counts = BTreeMap::new();
            values.iter().for_each(|value| *counts.entry(*value).or_default() += 1);
            median(&counts)
        };
        assert_eq!((of(&[]), of(&[5]), of(&[9, 1, 1])), (None, Some(5.0), Some(1.0)));
        assert_eq!((of(&[4, 1, 2, 9]), of(&[2, 2, 8, 8])), (Some(3.0), Some(5.0)));
    }

    #[test]
    fn arguments_and_results_may_be_anything() {
        let most = i64::MAX;
        let calls = finished(
            &[vec![
                Traced::Mark,
                call("writev", &[7, 0, u64::MAX], 5),
                call("writev", &[7, 0, u64::MAX], 5),
                call("writev", &[7, 0, u64::MAX], -22),
                call("recvfrom", &[7, 0, u64::MAX], most),
                call("recvfrom", &[7, 0, u64::MAX], most),
                call("recvfrom", &[7, 0, u64::MAX], most),
                call("recvfrom", &[7, 0, 1], i64::MIN),
                call("epoll_wait", &[3, 0, 32, 0], most),
                call("epoll_wait", &[3, 0, 32, 0], most),
                call("epoll_wait", &[3, 0, 32, 0], most),
                Traced::Mark,
            ]],
            1,
        );
        let of = |name: &str| calls.by_name.iter().find(|call| call.name == name).unwrap();
        assert!((of("writev").per_event - 3.0).abs() < 1e-9 && of("writev").transfers.is_some());
        assert!((of("recvfrom").per_event - 4.0).abs() < 1e-9 && calls.waits.is_some());
    }

    #[test]
    fn a_trace_that_is_cut_short_is_refused() {
        let mut collector = Collector::default();
        assert_eq!(collector.add(&stream()[..6]), Err(CutShort));
        assert_eq!(collector.batches(), 0);
        assert_eq!(collector.add(&[]), Ok(()));
    }
}
