//! The phases of one workload.

use super::super::format::{UNKNOWN, figure};
use super::super::table::{Style, draw};
use super::heading;
use model::profile::calls::SyscallProfile;
use model::profile::stacks::{Origin, SymbolShare};
use model::profile::{Budget, WorkloadProfile};

/// Rows of tables that are not bounded by the configuration.
const ROWS: usize = 12;
/// Self share of a function that is worth a row.
const SHOWN_SHARE: f64 = 0.0005;
/// Stacks off the CPU, and functions of each, the innermost first.
const OFF_CPU_STACKS: usize = 5;
const CALLERS: usize = 6;
/// Lines of annotated source.
const SOURCE_LINES: usize = 40;

fn pct(share: Option<f64>) -> String {
    share.map_or(UNKNOWN.to_owned(), |share| format!("{:.1}%", share * 100.0))
}

/// How a phase was done, in brackets behind its title; nothing if it was not.
fn source(side: &WorkloadProfile, phase: &str) -> Option<String> {
    side.phases.iter().find(|found| found.phase == phase)?.source.clone()
}

/// Why a phase was not done.
fn why_not(side: &WorkloadProfile, phase: &str, title: &str) -> String {
    let found = side.phases.iter().find(|found| found.phase == phase && found.source.is_none());
    let why = found.and_then(|phase| phase.fallback.as_ref());
    why.map_or(String::new(), |why| format!("{title}: not done: {why}\n\n"))
}

pub(super) fn budget(side: &WorkloadProfile) -> String {
    let title = "1. Cycle budget";
    let Some(budget) = &side.budget else { return why_not(side, "cycle-budget", title) };
    let mut text = format!(
        "{title} ({}): {} ns of an event by the clock, {} ns on the CPU\n",
        source(side, "cycle-budget").unwrap_or_default(),
        figure(Some(budget.wall_ns_per_event)),
        figure(Some(budget.cpu_ns_per_event)),
    );
    text.push_str(&format!(
        "   user {}, kernel {}, idle {}; inside system calls {} of the wall clock; {} samples\n",
        pct(side.user_share),
        pct(side.kernel_share),
        pct(side.idle_share),
        pct(budget.syscall_share),
        budget.samples,
    ));
    if budget.several_cpus {
        text.push_str("   more than one CPU was used at a time: shares are of the time on all of them\n");
    }
    let counted = [
        ("instructions/cycle", budget.instructions_per_cycle),
        ("instructions/event", budget.instructions_per_event),
        ("branch misses/event", budget.branch_misses_per_event),
        ("cache misses/event", budget.cache_misses_per_event),
    ];
    let shown: Vec<String> = counted.iter().map(|(name, value)| format!("{name} {}", figure(*value))).collect();
    text.push_str(&format!("   {}\n\n", shown.join(", ")));
    text
}

pub(super) fn symbols(side: &WorkloadProfile, most: usize, style: Style) -> String {
    if side.symbols.is_empty() {
        return why_not(side, "attribution", "2. Attribution");
    }
    let mut text = heading(&format!("2. Attribution ({})", source(side, "attribution").unwrap_or_default()), style, 3);
    let sampled_ns = side.budget.as_ref().and_then(Budget::sampled_ns);
    let row = |share: &SymbolShare| {
        vec![
            share.symbol.clone(),
            origin(share.origin).to_owned(),
            pct(Some(share.self_share)),
            pct(Some(share.inclusive_share)),
            pct(share.charged_share),
            pct(share.user_self_share),
            figure(sampled_ns.map(|ns| ns * share.self_share)),
        ]
    };
    let header = ["symbol", "of", "self", "inclusive", "charged", "of user", "self ns/event"];
    text.push_str(&draw(
        &header,
        side.symbols.iter().filter(|share| share.self_share >= SHOWN_SHARE).take(most).map(row).collect(),
        style,
    ));
    let mut listed: Vec<&SymbolShare> =
        side.symbols.iter().filter(|share| side.manifest.contains_key(&share.symbol)).collect();
    listed
        .sort_by(|one, other| other.charged_share.partial_cmp(&one.charged_share).unwrap_or(std::cmp::Ordering::Equal));
    if !listed.is_empty() {
        text.push_str("\nFunctions of config/hot-methods.toml, by what they and the calls they make outside of libevent take:\n\n");
        text.push_str(&draw(&header, listed.into_iter().take(most).map(row).collect(), style));
    }
    let absent: Vec<&str> =
        side.manifest.iter().filter(|(_, present)| !**present).map(|(symbol, _)| symbol.as_str()).collect();
    if !absent.is_empty() {
        text.push_str(&format!(
            "\nWithout code of their own in this program (inlined into their callers, renamed, or not in this source): {}\n",
            absent.join(", ")
        ));
    }
    text.push('\n');
    text
}

fn origin(origin: Origin) -> &'static str {
    match origin {
        Origin::Libevent => "libevent",
        Origin::Workload => "workload",
        Origin::Library => "library",
        Origin::Kernel => "kernel",
        Origin::Unknown => "unknown",
    }
}

/// Why the stacks may show more of it than the line above them.
const WOKEN: &str = "\nA CPU: from the instant at which the thread was woken, or was taken off, until it ran. After a wait that holds the time \
                     that an idle CPU takes to wake up, long on virtual machines; the share above is the kernel's own sum, which begins \
                     when the thread stands in a CPU's queue.\n";

pub(super) fn off_cpu(side: &WorkloadProfile, style: Style) -> String {
    let title = "3. Off-CPU";
    let Some(off) = &side.off_cpu else { return why_not(side, "off-cpu", title) };
    let mut text = format!(
        "{title} ({}): waiting for something {}, of it for events {} and for locks {}; waiting for a CPU {} of the wall clock\n",
        source(side, "off-cpu").unwrap_or_default(),
        pct(off.blocked_share),
        pct(off.event_wait_share),
        pct(off.lock_wait_share),
        pct(off.runnable_share),
    );
    text.push_str(&format!(
        "   switches/event: {} by its own will, {} against it\n",
        figure(off.voluntary_switches_per_event),
        figure(off.involuntary_switches_per_event)
    ));
    if let Some(why) = &off.unknown {
        text.push_str(&format!("   unknown, since {why}\n"));
    }
    if let Some(unplaced) = off.unplaced_waits_per_event.filter(|waits| *waits > 0.0) {
        text.push_str(&format!(
            "   waits/event whose stack does not say whether they belong to the work, in no share: {}\n",
            figure(Some(unplaced))
        ));
    }
    if off.bursts_lost > 0 {
        text.push_str(&format!(
            "   {} of {} bursts were left out with their time: the kernel lost some of their records\n",
            off.bursts_lost,
            off.bursts + off.bursts_lost
        ));
    }
    text.push('\n');
    if !off.waits.is_empty() {
        let rows = off.waits.iter().take(ROWS).map(|wait| {
            vec![
                wait.syscall.clone().unwrap_or_else(|| "(no system call)".to_owned()),
                figure(Some(wait.waits_per_event)),
                figure(Some(wait.blocked_ns_per_event)),
                figure(wait.runnable_ns_per_event),
            ]
        });
        let header = ["waits in", "waits/event", "blocked ns/event", "for a CPU ns/event"];
        text.push_str(&draw(&header, rows.collect(), style));
        text.push('\n');
    }
    if !off.stacks.is_empty() {
        let rows = off.stacks.iter().take(OFF_CPU_STACKS).map(|time| {
            let chain: Vec<&str> = time.stack.iter().rev().take(CALLERS).map(String::as_str).collect();
            vec![
                chain.join(" < "),
                time.syscall.clone().unwrap_or_else(|| "(no system call)".to_owned()),
                if time.for_a_cpu { "a CPU" } else { "something" }.to_owned(),
                figure(Some(time.ns_per_event)),
                pct(Some(time.share)),
            ]
        });
        let header = ["off the CPU at", "in", "waiting for", "ns/event", "of time off"];
        text.push_str(&draw(&header, rows.collect(), style));
        if off.stacks.iter().take(OFF_CPU_STACKS).any(|time| time.for_a_cpu) {
            text.push_str(WOKEN);
        }
        text.push('\n');
    }
    text
}

pub(super) fn system_calls(side: &WorkloadProfile, style: Style) -> String {
    let title = "4. System calls";
    let Some(io) = &side.io else { return why_not(side, "system-calls", title) };
    let how = source(side, "system-calls").unwrap_or_default();
    if side.syscalls.is_empty() {
        return format!("{title} ({how}): none in {} batches\n\n", io.batches);
    }
    let calls = figure(Some(io.syscalls_per_event));
    let mut text = heading(&format!("{title} ({how}): {calls} of an event, {} batches", io.batches), style, 3);
    let rows = side.syscalls.iter().take(ROWS).map(|call| {
        vec![
            call.name.clone(),
            figure(Some(call.per_event)),
            figure(call.cpu_ns_per_call),
            figure(call.traced_ns_median),
            pct(call.cpu_share_of_calls),
            figure(call.transfers.as_ref().and_then(|transfers| transfers.bytes_mean)),
            figure(call.transfers.as_ref().and_then(|transfers| transfers.buffers_mean)),
            errors(call),
        ]
    });
    let header = [
        "call",
        "calls/event",
        "CPU ns/call",
        "traced ns/call",
        "of call time",
        "bytes/call",
        "buffers",
        "errors/event",
    ];
    text.push_str(&draw(&header, rows.collect(), style));
    text.push('\n');
    if let Some(epoll) = &io.epoll_ctl {
        let by: Vec<String> =
            epoll.by_operation.iter().map(|(name, count)| format!("{name} {}", figure(Some(*count)))).collect();
        text.push_str(&format!(
            "epoll_ctl of an event: {}; redundant {}; refused {}\n",
            by.join(", "),
            pct(epoll.redundant_share),
            figure(Some(epoll.failed_per_event))
        ));
    }
    if let Some(waits) = &io.waits {
        let mut sizes: Vec<(&u64, &u64)> = waits.by_ready.iter().collect();
        sizes.sort_by(|one, other| other.1.cmp(one.1));
        let sizes: Vec<String> =
            sizes.iter().take(5).map(|(ready, count)| format!("{ready} ({count} times)")).collect();
        text.push_str(&format!(
            "waits of an event: {}; empty {}; asked not to wait {}; events of one that has any: {}; most often: {}\n",
            figure(Some(waits.per_event)),
            pct(Some(waits.empty_share)),
            pct(waits.nonblocking_share),
            figure(waits.ready_mean),
            sizes.join(", ")
        ));
    }
    if let Some(fionread) = io.fionread_per_event.filter(|calls| *calls > 0.0) {
        text.push_str(&format!("ioctl(FIONREAD) of an event: {}\n", figure(Some(fionread))));
    }
    if io.batches_lost > 0 {
        text.push_str(&format!("{} batches were left out: the kernel lost some of their records\n", io.batches_lost));
    }
    text.push('\n');
    text
}

fn errors(call: &SyscallProfile) -> String {
    let shown: Vec<String> =
        call.errors_per_event.iter().map(|(error, count)| format!("{error} {}", figure(Some(*count)))).collect();
    shown.join(", ")
}

pub(super) fn instructions(side: &WorkloadProfile, style: Style) -> String {
    let title = "Instructions";
    let Some(counted) = &side.instructions else { return why_not(side, "instructions", title) };
    let mut text = heading(
        &format!(
            "{title} ({}, equal in {} repeats): {} of an event in user space",
            counted.valgrind,
            counted.repeats,
            figure(Some(counted.per_event))
        ),
        style,
        3,
    );
    let rows = counted.functions.iter().take(ROWS).map(|function| {
        vec![
            function.symbol.clone(),
            function.file.as_deref().and_then(|file| file.rsplit('/').next()).unwrap_or_default().to_owned(),
            figure(Some(function.self_per_event)),
            format!("{:.1}%", function.self_pct),
            format!("{:.1}%", function.inclusive_pct),
        ]
    });
    let header = ["symbol", "file", "self/event", "self", "inclusive"];
    text.push_str(&draw(&header, rows.collect(), style));
    text.push('\n');
    let mut left = SOURCE_LINES;
    for excerpt in &counted.annotated {
        if left == 0 {
            break;
        }
        if style == Style::Markdown {
            text.push_str("```c\n");
        }
        text.push_str(&format!("{}, instructions of an event by line:\n", excerpt.file));
        for line in excerpt.lines.iter().take(left) {
            text.push_str(&format!("{:>12} {:>6}  {}\n", figure(line.self_per_event), line.line, line.text));
        }
        left = left.saturating_sub(excerpt.lines.len());
        text.push_str(if style == Style::Markdown { "```\n\n" } else { "\n" });
    }
    text
}

pub(super) fn allocations(side: &WorkloadProfile, style: Style) -> String {
    let title = "Allocations";
    let Some(counted) = &side.allocations else { return why_not(side, "allocations", title) };
    let (all, own) = (&counted.total, &counted.libevent);
    let mut text = heading(
        &format!(
            "{title}: {} of an event ({} B), {} of them by libevent ({} B); {} reallocations, {} frees",
            figure(Some(all.allocations)),
            figure(Some(all.bytes)),
            figure(Some(own.allocations)),
            figure(Some(own.bytes)),
            figure(Some(all.reallocations)),
            figure(Some(all.frees)),
        ),
        style,
        3,
    );
    if let Some(differs) = &counted.differs {
        text.push_str(&format!("Two runs differ: {differs}\n\n"));
    }
    if counted.lost_calls > 0 {
        let lost = counted.lost_calls;
        text.push_str(&format!(
            "The counter's table was full: {lost} calls are in the totals and in no call site.\n\n"
        ));
    }
    let rows = counted.sites.iter().take(ROWS).map(|site| {
        vec![
            site.chain.iter().take(4).cloned().collect::<Vec<_>>().join(" < "),
            figure(Some(site.rates.allocations)),
            figure(Some(site.rates.reallocations)),
            figure(Some(site.rates.frees)),
            figure(Some(site.rates.bytes)),
        ]
    });
    if !counted.sites.is_empty() {
        let header = ["called by", "allocations/event", "reallocations/event", "frees/event", "bytes/event"];
        text.push_str(&draw(&header, rows.collect(), style));
        text.push('\n');
    }
    text
}

/// How each phase was done and what it cost.
pub(super) fn sources(side: &WorkloadProfile, style: Style) -> String {
    if side.phases.is_empty() {
        return String::new();
    }
    let mut text = heading("How it was seen, and what that costs", style, 3);
    let rows = side.phases.iter().map(|phase| {
        let cost = phase.perturbation.as_ref();
        vec![
            phase.phase.clone(),
            phase.source.clone().unwrap_or_else(|| "not done".to_owned()),
            figure(cost.map(|cost| cost.without_ns)),
            figure(cost.map(|cost| cost.with_ns)),
            cost.map_or(UNKNOWN.to_owned(), |cost| format!("{:+.1}%", cost.slowdown_pct)),
            phase.lost.to_string(),
            format!("{:.1} s", phase.seconds),
        ]
    });
    let header = ["phase", "by", "ns/event without", "with", "slower", "lost", "took"];
    text.push_str(&draw(&header, rows.collect(), style));
    for phase in side.phases.iter().filter(|phase| phase.source.is_some()) {
        if let Some(why) = &phase.fallback {
            text.push_str(&format!("{}: fallback, since {why}\n", phase.phase));
        }
    }
    text.push('\n');
    text
}
