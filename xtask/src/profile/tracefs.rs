//! Tracepoints: where the kernel describes them, and events of them on a thread or on a CPU.

use super::ring::{Content, Refusal, Ring, Size};
use crate::host::{Facts, counters};
use model::profile::tracepoints::Format;
use perf_event::Builder;
use perf_event::events::Tracepoint;
use std::ffi::CString;
use std::io;

/// `PERF_EVENT_IOC_SET_FILTER` of linux/perf_event.h: _IOW('$', 6, char *).
const SET_FILTER: libc::c_ulong = 0x4008_2406;

/// The format of a tracepoint such as `sched/sched_switch`, or why there is none.
pub(super) fn format(facts: &Facts, name: &str) -> Result<Format, String> {
    let folder = counters::tracefs(facts).ok_or_else(|| match counters::tracefs_is_mounted(facts) {
        Some(true) => "tracefs is mounted, but not readable by this user: run as root".to_owned(),
        _ => "tracefs is not mounted: as root, `mount -t tracefs nodev /sys/kernel/tracing`".to_owned(),
    })?;
    let path = folder.join("events").join(name).join("format");
    let text = facts.read(&path).ok_or_else(|| {
        format!("{} is not readable: run as root, or use a kernel with CONFIG_FTRACE_SYSCALLS", path.display())
    })?;
    Format::parse(&text).ok_or_else(|| format!("{} has another form than the kernel documents", path.display()))
}

/// Whom an event is of.
#[derive(Clone, Copy, Debug)]
pub(super) enum On {
    Thread(i32),
    Cpu(usize),
}

/// Opens every occurrence of a tracepoint that passes the filter; it stays disabled.
pub(super) fn open(
    format: &Format,
    on: On,
    filter: Option<&str>,
    content: Content,
    size: Size,
) -> Result<Ring, Refusal> {
    let mut builder = Builder::new(Tracepoint::with_id(format.id));
    match on {
        On::Thread(thread) => builder.observe_pid(thread).any_cpu(),
        On::Cpu(cpu) => builder.any_pid().one_cpu(cpu),
    };
    builder.exclude_kernel(false).exclude_hv(true).sample_period(1);
    let ring = Ring::of_size(&mut builder, content, size)?;
    if let Some(filter) = filter {
        let text = CString::new(filter).map_err(io::Error::other)?;
        // SAFETY: the descriptor is an open perf event and the filter a C string that outlives the call.
        if unsafe { libc::ioctl(ring.descriptor(), SET_FILTER, text.as_ptr()) } != 0 {
            let why = io::Error::last_os_error();
            return Err(io::Error::other(format!("the kernel refuses the filter `{filter}`: {why}")).into());
        }
    }
    Ok(ring)
}

/// Whether such an event can be had at all, or why not.
pub(super) fn works(format: &Format, on: On) -> Result<(), String> {
    let content = Content { raw: true, ..Content::default() };
    open(format, on, None, content, Size { bytes: 1 << 14, halvings: 0 })
        .map(drop)
        .map_err(|refusal| explain(&refusal.error))
}

/// What a refusal means, and how to get it.
pub(super) fn explain(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EACCES | libc::EPERM) => {
            let paranoid = counters::paranoid(&Facts::here()).map_or("?".to_owned(), |level| level.to_string());
            format!(
                "the kernel does not permit it to this user (kernel.perf_event_paranoid = {paranoid}): run as root, or as \
                 root `sysctl -w kernel.perf_event_paranoid=-1`"
            )
        }
        _ => counters::explain(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_tracefs_the_way_to_it_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let facts = Facts::below(folder.path());
        assert!(format(&facts, "sched/sched_switch").unwrap_err().contains("mount -t tracefs"));
        std::fs::create_dir_all(folder.path().join("proc/self")).unwrap();
        let mounts = "42 23 0:13 / /sys/kernel/tracing rw,relatime - tracefs none rw\n";
        std::fs::write(folder.path().join("proc/self/mountinfo"), mounts).unwrap();
        assert!(format(&facts, "sched/sched_switch").unwrap_err().contains("run as root"));
        let events = folder.path().join("sys/kernel/tracing/events");
        std::fs::create_dir_all(events.join("sched/sched_switch")).unwrap();
        assert!(format(&facts, "sched/sched_switch").unwrap_err().contains("not readable"));
        std::fs::write(events.join("sched/sched_switch/format"), "name: sched_switch\n").unwrap();
        assert!(format(&facts, "sched/sched_switch").unwrap_err().contains("another form"));
        let text = "name: x\nID: 5\nformat:\n\tfield:long a;\toffset:8;\tsize:8;\tsigned:1;\n";
        std::fs::write(events.join("sched/sched_switch/format"), text).unwrap();
        assert_eq!(format(&facts, "sched/sched_switch").unwrap().id, 5);
    }

    #[test]
    fn a_refusal_names_the_setting_that_makes_it() {
        let refused = explain(&io::Error::from_raw_os_error(libc::EACCES));
        assert!(refused.contains("perf_event_paranoid") && refused.contains("root"), "{refused}");
        assert!(explain(&io::Error::from_raw_os_error(libc::ENOENT)).contains("does not offer"));
    }
}
