//! From addresses to functions, and from counts to rates.

use super::report::{Address, Calls, Kind, Report};
use super::{Allocations, CallSite, Owner, Rates};
use std::collections::BTreeMap;

/// Functions in a chain beyond which the rest is left out; of the workload's own code, and of libraries, fewer.
const MOST_OF_LIBEVENT: usize = 8;
const MOST_OF_OTHERS: usize = 3;
/// libevent's own functions around malloc: who called them is who asked.
const WRAPPERS: &str = "event_mm_";
/// The function around the timed part: nothing above it says anything.
const TIMED: &str = "bench_timed_batch";

/// What a place in a file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Symbol {
    /// Name of the function, readable.
    pub name: String,
    /// Where in it, in bytes.
    pub offset: u64,
    /// It is libevent's.
    pub libevent: bool,
}

/// Rates by call site. `batch_events` are the events of one batch; `symbol` looks a return address up in an object.
pub fn assemble(
    report: &Report,
    batch_events: u64,
    symbol: impl Fn(&str, u64) -> Option<Symbol>,
    differs: Option<String>,
) -> Allocations {
    let events = report.batches.saturating_mul(batch_events);
    let mut counted: BTreeMap<(Owner, Vec<String>), Counts> = BTreeMap::new();
    for (site, calls) in &report.sites {
        let frames: Vec<Frame> = site.addresses.iter().map(|address| frame(report, *address, &symbol)).collect();
        counted.entry(chain(&frames)).or_default().add(site.kind, *calls);
    }
    let mut sites: Vec<CallSite> = counted
        .iter()
        .map(|((owner, chain), counts)| CallSite { owner: *owner, chain: chain.clone(), rates: counts.rates(events) })
        .collect();
    // By what costs: allocations first, then frees, which come in pairs with them elsewhere.
    let weight = |site: &CallSite| (site.rates.allocations + site.rates.reallocations, site.rates.frees);
    sites.sort_by(|a, b| {
        let ((a1, a2), (b1, b2)) = (weight(a), weight(b));
        b1.total_cmp(&a1).then(b2.total_cmp(&a2)).then_with(|| a.chain.cmp(&b.chain))
    });
    let sum = |of: &dyn Fn(Owner) -> bool| {
        let mut all = Counts::default();
        counted.iter().filter(|((owner, _), _)| of(*owner)).for_each(|(_, counts)| all.merge(counts));
        all
    };
    let mut total = sum(&|_| true);
    report.lost.iter().for_each(|(kind, calls)| total.add(*kind, *calls));
    Allocations {
        batches: report.batches,
        events,
        total: total.rates(events),
        libevent: sum(&|owner| owner == Owner::Libevent).rates(events),
        sites,
        lost_calls: report.lost.values().fold(0, |sum, calls| sum.saturating_add(calls.calls)),
        differs,
    }
}

struct Frame {
    text: String,
    name: Option<String>,
    libevent: bool,
    /// In the worker's own file.
    program: bool,
}

fn frame(report: &Report, address: Address, symbol: &impl Fn(&str, u64) -> Option<Symbol>) -> Frame {
    let object = address.object.map(|object| report.objects[object].as_str());
    let program = object == Some("program");
    let file = object.map_or("?", |object| object.rsplit('/').next().unwrap_or(object));
    match object.and_then(|object| symbol(object, address.place)) {
        Some(Symbol { name, offset, libevent }) => {
            Frame { text: format!("{name}+{offset:#x}"), name: Some(name), libevent: libevent && program, program }
        }
        None => Frame { text: format!("{file}+{:#x}", address.place), name: None, libevent: false, program },
    }
}

/// Who asked, and from where.
fn chain(frames: &[Frame]) -> (Owner, Vec<String>) {
    let is = |frame: &Frame, word: &str| frame.name.as_deref().is_some_and(|name| name.starts_with(word));
    let asked = || frames.iter().skip_while(|frame| frame.libevent && is(frame, WRAPPERS));
    let owner = match asked().next() {
        Some(frame) if frame.libevent => Owner::Libevent,
        Some(frame) if frame.program => Owner::Workload,
        _ => Owner::Library,
    };
    let most = if owner == Owner::Libevent { MOST_OF_LIBEVENT } else { MOST_OF_OTHERS };
    let mut shown = Vec::new();
    for frame in asked().take(most).take_while(|frame| !is(frame, TIMED)) {
        shown.push(frame.text.clone());
        // The first function of the workload says what it called libevent for; what is above it is the harness.
        if owner == Owner::Libevent && frame.program && !frame.libevent {
            break;
        }
    }
    if shown.is_empty() {
        shown.extend(asked().next().map_or_else(|| Some("?".to_owned()), |frame| Some(frame.text.clone())));
    }
    (owner, shown)
}

#[derive(Default)]
struct Counts {
    allocations: u64,
    reallocations: u64,
    frees: u64,
    bytes: u64,
}

impl Counts {
    fn add(&mut self, kind: Kind, calls: Calls) {
        let number = match kind {
            Kind::Malloc | Kind::Calloc | Kind::Aligned => &mut self.allocations,
            Kind::Realloc => &mut self.reallocations,
            Kind::Free => &mut self.frees,
        };
        *number = number.saturating_add(calls.calls);
        self.bytes = self.bytes.saturating_add(calls.bytes);
    }

    fn merge(&mut self, other: &Counts) {
        self.allocations = self.allocations.saturating_add(other.allocations);
        self.reallocations = self.reallocations.saturating_add(other.reallocations);
        self.frees = self.frees.saturating_add(other.frees);
        self.bytes = self.bytes.saturating_add(other.bytes);
    }

    fn rates(&self, events: u64) -> Rates {
        let rate = |count: u64| count as f64 / events as f64;
        Rates {
            allocations: rate(self.allocations),
            reallocations: rate(self.reallocations),
            frees: rate(self.frees),
            bytes: rate(self.bytes),
        }
    }
}
