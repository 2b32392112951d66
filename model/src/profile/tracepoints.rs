//! Fields of the kernel's tracepoints, by the format that the kernel itself describes.

use super::calls::{Call, Traced};
use std::collections::BTreeMap;

/// Where the fields of one tracepoint lie in its raw data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Format {
    /// Number of the tracepoint.
    pub id: u64,
    fields: BTreeMap<String, (usize, usize)>,
}

impl Format {
    /// Reads a file `events/SYSTEM/NAME/format` of tracefs; null if it is none.
    pub fn parse(text: &str) -> Option<Format> {
        let id = text.lines().find_map(|line| line.strip_prefix("ID:"))?.trim().parse().ok()?;
        let field = |line: &str| -> Option<(String, (usize, usize))> {
            let mut parts = line.trim().strip_prefix("field:")?.split(';').map(str::trim);
            let declaration = parts.next()?;
            let name = declaration.rsplit(' ').next()?.split('[').next()?.to_owned();
            let number = |part: Option<&str>, key: &str| part?.strip_prefix(key)?.parse().ok();
            Some((name, (number(parts.next(), "offset:")?, number(parts.next(), "size:")?)))
        };
        Some(Format { id, fields: text.lines().filter_map(field).collect() })
    }

    /// Number number `index` of a field that holds several of `bytes` bytes; null if the data ends before it.
    pub fn number(&self, raw: &[u8], field: &str, index: usize, bytes: usize) -> Option<u64> {
        let (offset, size) = self.fields.get(field)?;
        if (index + 1) * bytes > *size {
            return None;
        }
        let begin = offset + index * bytes;
        let mut number = [0; 8];
        number.get_mut(..bytes)?.copy_from_slice(raw.get(begin..begin + bytes)?);
        Some(u64::from_le_bytes(number))
    }

    /// A field that is one number of its own size; null if the data ends before it.
    pub fn value(&self, raw: &[u8], field: &str) -> Option<u64> {
        self.number(raw, field, 0, self.fields.get(field)?.1)
    }
}

/// What `raw_syscalls` said, in one thread's order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edge {
    /// A call begins.
    Enter {
        /// Number in the kernel's table.
        number: u64,
        /// Arguments.
        args: [u64; 6],
        /// Of `epoll_ctl`: the events asked for, where they were seen.
        epoll_events: Option<u32>,
    },
    /// A call ends.
    Exit {
        /// Number in the kernel's table.
        number: u64,
        /// What it returned.
        result: i64,
    },
}

/// An edge with thread and time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Clock of the kernel.
    pub at_ns: u64,
    /// Thread.
    pub thread: i32,
    /// What was seen.
    pub edge: Edge,
}

/// The call that the worker marks the ends of a batch with: `kill(itself, 0)`. Others of the same number are the workload's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MarkCall {
    /// Number in the kernel's table.
    pub number: u64,
    /// The worker's first thread, as the tracer knows it.
    pub thread: i32,
    /// The worker, as it knows itself: in its namespace.
    pub process: u64,
}

impl MarkCall {
    fn is(&self, thread: i32, number: u64, args: [u64; 6]) -> bool {
        // Both are of the C type int.
        let int = |arg: u64| arg & 0xffff_ffff;
        number == self.number && thread == self.thread && int(args[0]) == self.process && int(args[1]) == 0
    }
}

/// Joins beginnings and ends to calls, in the order in which they ended. A mark stands where its call began. Calls whose beginning or
/// end was not seen are left out.
pub fn join(edges: &[Seen], mark: &MarkCall, name: impl Fn(u64) -> String) -> Vec<Traced> {
    let mut sorted: Vec<&Seen> = edges.iter().collect();
    sorted.sort_by_key(|seen| seen.at_ns);
    let mut open: BTreeMap<i32, (u64, u64, [u64; 6], Option<u32>)> = BTreeMap::new();
    let mut joined = Vec::new();
    for Seen { at_ns, thread, edge } in sorted {
        match edge {
            Edge::Enter { number, args, .. } if mark.is(*thread, *number, *args) => {
                open.remove(thread);
                joined.push(Traced::Mark);
            }
            Edge::Enter { number, args, epoll_events } => {
                open.insert(*thread, (*at_ns, *number, *args, *epoll_events));
            }
            Edge::Exit { number, result } => {
                let Some((began_ns, began, args, epoll_events)) = open.remove(thread) else { continue };
                if began != *number {
                    continue;
                }
                joined.push(Traced::Call(Call {
                    thread: *thread,
                    name: name(*number),
                    at_ns: began_ns,
                    took_ns: at_ns - began_ns,
                    args: args.map(Some),
                    result: *result,
                    epoll_events,
                }));
            }
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Recorded from Linux 6.18.
    const ENTER: &str = "name: sys_enter
ID: 443
format:
\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;
\tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;

\tfield:long id;\toffset:8;\tsize:8;\tsigned:1;
\tfield:unsigned long args[6];\toffset:16;\tsize:48;\tsigned:0;

print fmt: \"NR %ld\", REC->id
";

    #[test]
    fn fields_are_read_where_the_kernel_says_they_are() {
        let format = Format::parse(ENTER).unwrap();
        assert_eq!(format.id, 443);
        let mut raw = vec![0_u8; 64];
        raw[8] = 233;
        raw[16 + 8] = 3;
        assert_eq!(format.value(&raw, "id"), Some(233));
        assert_eq!(format.number(&raw, "args", 1, 8), Some(3));
        assert_eq!(format.number(&raw, "args", 6, 8), None, "there are six");
        assert_eq!(format.value(&raw, "ret"), None);
        assert_eq!(Format::parse("name: x\n"), None);
    }

    #[test]
    fn data_that_is_cut_short_has_no_value() {
        let format = Format::parse(ENTER).unwrap();
        assert_eq!(format.value(&[0; 15], "id"), None);
        assert_eq!(format.number(&[0; 63], "args", 5, 8), None);
        assert_eq!(format.value(&[], "id"), None);
    }

    #[test]
    fn calls_are_joined_by_thread_and_marks_keep_their_place() {
        let enter = |at_ns, thread, number| Seen {
            at_ns,
            thread,
            edge: Edge::Enter { number, args: [9, 0, 9, 9, 9, 9], epoll_events: None },
        };
        let exit = |at_ns, thread, number, result| Seen { at_ns, thread, edge: Edge::Exit { number, result } };
        let edges = [
            exit(5, 1, 7, 0),
            enter(10, 1, 62),
            exit(12, 1, 62, 0),
            enter(20, 1, 232),
            enter(25, 2, 202),
            exit(30, 2, 202, -11),
            exit(50, 1, 232, 1),
            // Its end was lost.
            enter(60, 1, 3),
            enter(70, 1, 62),
            exit(71, 1, 62, 0),
            exit(80, 1, 4, 0),
        ];
        let joined = join(&edges, &MarkCall { number: 62, thread: 1, process: 9 }, |number| number.to_string());
        let shown: Vec<String> = joined
            .iter()
            .map(|traced| match traced {
                Traced::Mark => "mark".to_owned(),
                Traced::Call(call) => format!("{} of {}: {} in {}", call.name, call.thread, call.result, call.took_ns),
            })
            .collect();
        assert_eq!(shown, ["mark", "202 of 2: -11 in 5", "232 of 1: 1 in 30", "mark"]);
    }

    #[test]
    fn signals_of_the_workload_are_no_marks() {
        let mark = MarkCall { number: 62, thread: 1, process: 9 };
        let marks = |thread, args: [u64; 6]| {
            let seen = |at_ns, edge| Seen { at_ns, thread, edge };
            let edges = [
                seen(1, Edge::Enter { number: 62, args, epoll_events: None }),
                seen(2, Edge::Exit { number: 62, result: 0 }),
            ];
            join(&edges, &mark, |number| number.to_string()).contains(&Traced::Mark)
        };
        // What lies above an int is left over from anything.
        assert!(marks(1, [9, 0, 5, 5, 5, 5]) && marks(1, [9 | (1 << 40), 0, 0, 0, 0, 0]));
        assert!(!marks(2, [9, 0, 0, 0, 0, 0]), "another thread");
        assert!(!marks(1, [9, 10, 0, 0, 0, 0]) && !marks(1, [8, 0, 0, 0, 0, 0]), "another signal, another process");
    }
}
