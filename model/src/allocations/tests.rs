use super::*;

const REPORT: &str = "\
allocations 1
marks 4
depth 12
object 0 0x555500000000 0x555500001000 0x555500009000 program
object 1 0x7fff00000000 0x7fff00001000 0x7fff00002000 linux-vdso.so.1
object 2 0x7f0000000000 0x7f0000001000 0x7f0000100000 /usr/lib/with blank/libc.so.6
site malloc 20 20480 0x555500001110 0x555500001210 0x555500002010
site free 20 0 0x555500001310 0x555500002020
site malloc 2 64 0x555500002100 0x555500002010 0x555500003000
site malloc 4 400 0x7f0000001234
site realloc 2 100 0x555500001010 0x555500001210 0x555500002010
site calloc 1 8 0x1234
lost malloc 3 30
end
";

/// A symbol every 256 bytes: libevent's below 0x2000, the workload's above, the timed part at 0x3000.
fn symbol(object: &str, place: u64) -> Option<Symbol> {
    let name = match (object, place & !0xff) {
        ("program", 0x1000) => "event_mm_realloc_",
        ("program", 0x1100) => "evbuffer_chain_new",
        ("program", 0x1200) => "evbuffer_add",
        ("program", 0x1300) => "evbuffer_chain_free",
        ("program", 0x2000) => "workload::run",
        ("program", 0x2100) => "workload::push",
        ("program", 0x3000) => "bench_timed_batch",
        _ => return None,
    };
    Some(Symbol { name: name.into(), offset: place & 0xff, libevent: place < 0x2000 })
}

fn counted() -> Allocations {
    assemble(&parse(REPORT).unwrap(), 5, symbol, None)
}

#[test]
fn a_report_becomes_rates_by_call_site() {
    let counted = counted();
    assert_eq!((counted.batches, counted.events, counted.lost_calls), (2, 10, 3));
    let total = counted.total;
    assert_eq!((total.allocations, total.reallocations, total.frees), (3.0, 0.2, 2.0));
    assert_eq!(total.bytes, (20480 + 64 + 400 + 100 + 8 + 30) as f64 / 10.0, "lost calls are in the total");
    assert_eq!((counted.libevent.allocations, counted.libevent.reallocations, counted.libevent.frees), (2.0, 0.2, 2.0));
    let first = &counted.sites[0];
    assert_eq!(first.chain, ["evbuffer_chain_new+0x10", "evbuffer_add+0x10", "workload::run+0x10"]);
    assert_eq!((first.owner, first.rates.allocations, first.rates.bytes), (Owner::Libevent, 2.0, 2048.0));
}

#[test]
fn who_asked_is_the_first_above_the_wrappers_and_the_harness_is_left_out() {
    let counted = counted();
    let site =
        |owner, text: &str| counted.sites.iter().find(|s| s.owner == owner && s.chain[0].starts_with(text)).unwrap();
    // The wrapper's caller asked, not the wrapper.
    assert_eq!(site(Owner::Libevent, "evbuffer_add+").rates.reallocations, 0.2);
    assert_eq!(site(Owner::Libevent, "evbuffer_chain_free+").rates.frees, 2.0);
    let workload = site(Owner::Workload, "workload::push+");
    assert_eq!(workload.chain, ["workload::push+0x0", "workload::run+0x10"], "not bench_timed_batch");
    assert_eq!(site(Owner::Library, "libc.so.6+0x1234").rates.allocations, 0.4);
    assert_eq!(site(Owner::Library, "?+0x1234").rates.allocations, 0.1);
}

#[test]
fn a_report_that_is_cut_or_foreign_is_refused() {
    assert_eq!(parse(""), Err(ReportError::Empty));
    for (end, _) in REPORT.match_indices('\n') {
        assert!(parse(&REPORT[..end]).is_err() || REPORT[..end].ends_with("end"), "cut at byte {end}");
    }
    assert_eq!(parse(REPORT.strip_suffix("end\n").unwrap()), Err(ReportError::Cut));
    assert_eq!(parse(&REPORT.replace("marks 4", "marks 3")), Err(ReportError::Marks(3)));
    assert_eq!(parse(&REPORT.replace("marks 4\n", "")), Err(ReportError::Marks(0)));
    let wrong = |from: &str, to: &str| match parse(&REPORT.replacen(from, to, 1)) {
        Err(ReportError::Syntax { line, text }) => (line, text),
        other => panic!("{other:?}"),
    };
    assert_eq!(wrong("allocations 1", "allocations 2"), (1, "allocations 2".into()));
    assert_eq!(wrong("site malloc 20 20480", "site mallok 20 20480").0, 7);
    assert_eq!(wrong("site malloc 20 20480", "site malloc many 20480").0, 7);
    assert_eq!(wrong("site malloc 20 20480 0x5", "site malloc 20 20480 q5").0, 7);
    assert_eq!(wrong("end\n", "end\nsite malloc 1 1\n"), (15, "site malloc 1 1".into()));
}

#[test]
fn what_is_no_code_ends_a_chain() {
    let with = |address: &str| {
        let text = REPORT.replace("0x7f0000001234", &format!("0x7f0000001234 {address} 0x555500002010"));
        parse(&text).unwrap()
    };
    // Two runs, with what a register held by chance, such as a place in the heap.
    assert_eq!(with("0x561122330000").difference(&with("0x562244550000")), None);
    assert_eq!(with("0x561122330000").difference(&parse(REPORT).unwrap()), None);
    assert!(with("0x555500002100").difference(&parse(REPORT).unwrap()).is_some(), "code is no chance");
}

#[test]
fn addresses_are_places_in_files_so_that_two_processes_compare() {
    let report = parse(REPORT).unwrap();
    assert_eq!(report.objects[2], "/usr/lib/with blank/libc.so.6");
    let moved = REPORT.replace("0x5555", "0x5666").replace("0x7f0000", "0x7e0000");
    let other = parse(&moved).unwrap();
    assert_eq!(report.difference(&other), None, "other addresses, the same places");
    let more = parse(&REPORT.replace("site free 20", "site free 21")).unwrap();
    let why = report.difference(&more).unwrap();
    assert!(why.contains("52 calls") && why.contains("53 calls"), "{why}");
    let elsewhere = parse(&REPORT.replace("0x555500001310", "0x555500001311")).unwrap();
    assert!(report.difference(&elsewhere).unwrap().contains("at 2 call sites"));
    let batches = parse(&REPORT.replace("marks 4", "marks 6")).unwrap();
    assert!(report.difference(&batches).unwrap().contains("2 and 3 batches"));
}

#[test]
fn numbers_that_are_too_large_break_nothing() {
    let most = u64::MAX;
    let text = format!(
        "allocations 1\nmarks {}\nsite malloc {most} {most} 0x10\nsite malloc {most} {most} 0x10\n\
         site calloc {most} {most} 0x20\nlost malloc {most} {most}\nlost calloc {most} {most}\nend\n",
        most - 1
    );
    let report = parse(&text).unwrap();
    assert_eq!(report.difference(&report), None);
    assert_eq!(assemble(&report, most, |_, _| None, None).lost_calls, most);
}
