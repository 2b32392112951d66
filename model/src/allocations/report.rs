//! The counter's text.

use std::collections::BTreeMap;

/// What one process counted.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Report {
    /// Timed parts that were counted.
    pub batches: u64,
    /// Programs and libraries, in the loader's order; `program` is the worker itself.
    pub objects: Vec<String>,
    /// What was called from where.
    pub sites: BTreeMap<Site, Calls>,
    /// Calls without a place in the counter's table.
    pub lost: BTreeMap<Kind, Calls>,
}

/// A function of the allocator and the return addresses above it, from the innermost outwards.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Site {
    /// What was called.
    pub kind: Kind,
    /// Where from.
    pub addresses: Vec<Address>,
}

/// A place in a file, not in memory: the same in every process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    /// Index in [`Report::objects`]; `None`: code outside of any, where the place is one in memory.
    pub object: Option<usize>,
    /// As the object's own symbol table counts.
    pub place: u64,
}

/// What was called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// malloc, strdup, realloc of nothing.
    Malloc,
    /// calloc.
    Calloc,
    /// posix_memalign, aligned_alloc, memalign.
    Aligned,
    /// realloc of something.
    Realloc,
    /// free of something.
    Free,
}

/// How often, and for how much.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Calls {
    /// Calls.
    pub calls: u64,
    /// Bytes asked for; 0 of `free`.
    pub bytes: u64,
}

/// Why a report is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReportError {
    /// The counter was not there, or no batch was marked.
    #[error("the counter reported nothing")]
    Empty,
    /// A line that it does not print.
    #[error("line {line} of the counter's report is none of its: `{text}`")]
    Syntax {
        /// From 1.
        line: usize,
        /// The line.
        text: String,
    },
    /// No end.
    #[error("the counter's report is cut short")]
    Cut,
    /// A batch that began and did not end.
    #[error("the counter saw {0} marks, which are two for each batch")]
    Marks(u64),
}

/// Reads a report.
///
/// # Errors
/// What [`ReportError`] lists.
pub fn parse(text: &str) -> Result<Report, ReportError> {
    let mut lines = (1..).zip(text.lines());
    match lines.next() {
        None => return Err(ReportError::Empty),
        Some((_, "allocations 1")) => {}
        Some((line, other)) => return Err(wrong(line, other)),
    }
    let (mut report, mut ranges, mut ended, mut marks) = (Report::default(), Vec::new(), false, 0);
    for (number, line) in lines {
        if ended {
            return Err(wrong(number, line));
        }
        let words: Vec<&str> = line.split(' ').collect();
        let understood = match words.as_slice() {
            ["end"] => {
                ended = true;
                Some(())
            }
            ["marks", count] => count.parse().ok().map(|count| marks = count),
            ["depth", _] => Some(()),
            ["object", _, bias, first, last, ..] => object(&mut report, &mut ranges, line, [bias, first, last]),
            ["site", kind, calls, bytes, addresses @ ..] => site(&mut report, &ranges, kind, [calls, bytes], addresses),
            ["lost", kind, calls, bytes] => lost(&mut report, kind, [calls, bytes]),
            _ => None,
        };
        understood.ok_or_else(|| wrong(number, line))?;
    }
    if !ended {
        return Err(ReportError::Cut);
    }
    if marks == 0 || marks % 2 != 0 {
        return Err(ReportError::Marks(marks));
    }
    report.batches = marks / 2;
    Ok(report)
}

impl Report {
    /// Says where two counts of the same work differ; nothing if they do not.
    pub fn difference(&self, other: &Report) -> Option<String> {
        let sum = |report: &Report, of: &dyn Fn(&Calls) -> u64| {
            report.sites.values().chain(report.lost.values()).fold(0_u64, |sum, calls| sum.saturating_add(of(calls)))
        };
        let (calls, bytes) = (|report: &Report| sum(report, &|c| c.calls), |report: &Report| sum(report, &|c| c.bytes));
        if self.batches != other.batches {
            return Some(format!("{} and {} batches were counted", self.batches, other.batches));
        }
        if (calls(self), bytes(self)) != (calls(other), bytes(other)) {
            let (a, b) = ((calls(self), bytes(self)), (calls(other), bytes(other)));
            return Some(format!("{} calls for {} bytes, and {} calls for {} bytes", a.0, a.1, b.0, b.1));
        }
        let differ =
            self.sites.keys().chain(other.sites.keys()).filter(|site| self.sites.get(site) != other.sites.get(site));
        match differ.count() {
            0 => None,
            sites => Some(format!("equal in number and bytes, but not at {sites} call sites")),
        }
    }
}

fn wrong(line: usize, text: &str) -> ReportError {
    ReportError::Syntax { line, text: text.chars().take(120).collect() }
}

struct Range {
    bias: u64,
    first: u64,
    last: u64,
}

fn object(report: &mut Report, ranges: &mut Vec<Range>, line: &str, numbers: [&str; 3]) -> Option<()> {
    let [bias, first, last] = numbers.map(hex);
    ranges.push(Range { bias: bias?, first: first?, last: last? });
    // A path may have blanks in it.
    report.objects.push(line.splitn(6, ' ').nth(5)?.to_owned());
    Some(())
}

fn site(report: &mut Report, ranges: &[Range], kind: &str, amounts: [&str; 2], addresses: &[&str]) -> Option<()> {
    let mut addresses =
        addresses.iter().map(|address| Some(locate(ranges, hex(address)?))).collect::<Option<Vec<_>>>()?;
    // Code without frame pointers uses their register for something else: what it points to then is no code, and chance.
    if let Some(end) = addresses.iter().skip(1).position(|address| address.object.is_none()) {
        addresses.truncate(end + 1);
    }
    let more = calls(amounts)?;
    let known = report.sites.entry(Site { kind: Kind::named(kind)?, addresses }).or_default();
    // The worker could have written the numbers.
    known.calls = known.calls.saturating_add(more.calls);
    known.bytes = known.bytes.saturating_add(more.bytes);
    Some(())
}

fn lost(report: &mut Report, kind: &str, amounts: [&str; 2]) -> Option<()> {
    report.lost.insert(Kind::named(kind)?, calls(amounts)?);
    Some(())
}

fn calls([calls, bytes]: [&str; 2]) -> Option<Calls> {
    Some(Calls { calls: calls.parse().ok()?, bytes: bytes.parse().ok()? })
}

fn locate(ranges: &[Range], address: u64) -> Address {
    // A return address is behind its call: the last one of an object may be its end.
    match ranges.iter().position(|range| range.first < address && address <= range.last) {
        Some(object) => Address { object: Some(object), place: address.wrapping_sub(ranges[object].bias) },
        None => Address { object: None, place: address },
    }
}

/// `%#lx` prints zero without its `0x`.
fn hex(word: &str) -> Option<u64> {
    u64::from_str_radix(word.strip_prefix("0x").unwrap_or(word), 16).ok()
}

impl Kind {
    fn named(name: &str) -> Option<Kind> {
        match name {
            "malloc" => Some(Kind::Malloc),
            "calloc" => Some(Kind::Calloc),
            "aligned" => Some(Kind::Aligned),
            "realloc" => Some(Kind::Realloc),
            "free" => Some(Kind::Free),
            _ => None,
        }
    }
}
