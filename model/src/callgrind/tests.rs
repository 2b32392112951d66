use super::*;
use std::collections::BTreeMap;

const EVBUFFER: &str = include_str!("recorded/evbuffer.add_drain.64.callgrind");
const CYCLES: &str = include_str!("recorded/cycles.callgrind");
const INLINED_H: &str = include_str!("recorded/inlined.h");

fn function<'a>(profile: &'a Profile, name: &str) -> &'a Function {
    profile.functions.iter().find(|function| function.name == name).unwrap_or_else(|| panic!("no {name}"))
}

fn costs(profile: &Profile, name: &str) -> (u64, u64) {
    let function = function(profile, name);
    (function.self_instructions, function.inclusive_instructions)
}

#[test]
fn a_recorded_file_gives_what_callgrind_annotate_gives() {
    let profile = parse(EVBUFFER).unwrap();
    assert_eq!(profile.total, 7_540_210);
    // `callgrind_annotate --inclusive=yes` of the same file.
    assert_eq!(costs(&profile, "evbuffer_add").1, 3_660_000);
    assert_eq!(costs(&profile, "evbuffer_drain").1, 3_540_000);
    assert_eq!(costs(&profile, "evbuffer_chain_new").1, 1_580_000);
    assert_eq!(costs(&profile, "event_mm_free_"), (80_000, 1_860_000));
    assert_eq!(costs(&profile, "free"), (480_000, 1_760_000));
    assert_eq!(costs(&profile, "bench_timed_batch"), (2, 7_540_210));
    assert_eq!(profile.functions.iter().map(|function| function.self_instructions).sum::<u64>(), profile.total);
    assert!(profile.functions.is_sorted_by_key(|function| std::cmp::Reverse(function.self_instructions)));
    assert!(profile.functions.iter().all(|function| function.cycle.is_none()));
    let add = function(&profile, "evbuffer_add");
    assert_eq!(add.file.as_deref(), Some("/work/builds/baf5eb64bebc/cmake/./buffer.c"));
    assert_eq!(function(&profile, "bench_timed_batch").file, None, "`???` is no file");
    // Lines: a number, steps from the last one, and code without debug information, which has none.
    let line = |file: &str, line: u32| {
        profile.lines.iter().find(|l| l.file.ends_with(file) && l.line == line).map(|l| l.self_instructions)
    };
    assert_eq!(line("/buffer.c", 1731), Some(220_000));
    assert_eq!(line("/buffer.c", 1737), Some(60_000));
    // `fi=`: another file within a function; `fe=`: back again.
    assert_eq!(line("/arena.c", 162), Some(60_000));
    assert!(profile.lines.iter().any(|l| l.file.ends_with("/arena.c") && l.function == "free"));
    assert!(profile.lines.iter().map(|l| l.self_instructions).sum::<u64>() < profile.total);
}

#[test]
fn functions_that_call_themselves_or_each_other_count_each_instruction_once() {
    let profile = parse(CYCLES).unwrap();
    assert_eq!(profile.total, 1098);
    assert!(!profile.functions.iter().any(|function| function.name.contains('\'')), "`alone'2` is `alone`");
    // All that `alone` does is below its first call; each of its 22 calls of `leaf` costs 11.
    let (alone, leaf) = (function(&profile, "alone"), function(&profile, "leaf"));
    assert_eq!((alone.inclusive_instructions, alone.cycle), (646, None));
    assert_eq!(alone.self_instructions, 646 - 22 * 11);
    assert_eq!((leaf.self_instructions, leaf.inclusive_instructions), (34 * 11, 34 * 11));
    // `even` and `odd` are one cycle: its cost is that of the first call from outside.
    let (even, odd) = (function(&profile, "even"), function(&profile, "odd"));
    assert!(even.cycle.is_some() && even.cycle == odd.cycle);
    assert_eq!((even.inclusive_instructions, odd.inclusive_instructions), (394, 394));
    assert_eq!(even.self_instructions + odd.self_instructions + 10 * 11, 394);
    assert_eq!(costs(&profile, "bench_timed_batch").1, 1098);
    // Inlined code is in the file that it was written in.
    let inlined: u64 =
        profile.lines.iter().filter(|l| l.file == "/source/inlined.h").map(|l| l.self_instructions).sum();
    assert_eq!(inlined, 102 + 34 + 102);
    assert!(profile.lines.iter().all(|l| !l.file.ends_with("inlined.h") || l.function == "leaf"));
}

#[test]
fn a_file_cut_short_anywhere_is_refused() {
    for (end, _) in CYCLES.match_indices('\n') {
        let cut = &CYCLES[..end];
        if cut.ends_with("totals: 1098") {
            continue;
        }
        assert!(parse(cut).is_err(), "cut at byte {end}");
    }
    let header = CYCLES.find("ob=").unwrap();
    assert!(matches!(parse(&CYCLES[..header]), Err(CallgrindError::Cut(_))));
    assert!(matches!(parse(""), Err(CallgrindError::Foreign(_))));
    let before_total = CYCLES.find("totals:").unwrap();
    let error = parse(&CYCLES[..before_total]).unwrap_err();
    assert!(error.to_string().contains("without a total"), "{error}");
}

#[test]
fn a_file_that_lost_or_changed_a_line_is_refused() {
    let lost = CYCLES.replacen("+1 34\n", "", 1);
    assert!(matches!(parse(&lost), Err(CallgrindError::Sum { total: 1098, sum: 1064 })), "{:?}", parse(&lost));
    let syntax = |from: &str, to: &str| match parse(&CYCLES.replacen(from, to, 1)) {
        Err(CallgrindError::Syntax { why, line, .. }) => (why, line),
        other => panic!("{other:?}"),
    };
    assert_eq!(syntax("calls=1 33 \n41 549", "calls=1 33 \nfn=(1)").0, "the cost of a call was expected");
    assert_eq!(syntax("fn=(536) main", "fn=(999)").0, "a number without a name");
    assert_eq!(syntax("+1 34", "+x 34").0, "a line number that is none");
    assert_eq!(syntax("+1 34", "-99 34").0, "a line number that is none");
    assert_eq!(syntax("+1 34", "+1 34 5").0, "more than one cost");
    assert_eq!(syntax("+1 34", "+1 many").0, "a cost that is no number");
    assert_eq!(syntax("+1 34", "what is this").0, "neither a header, nor a name, nor a cost");
    assert_eq!(syntax("ob=(5)", "xy=(5)").0, "a name of unknown kind");
    for (from, to) in
        [("events: Ir", "events: Ir Dr"), ("positions: line", "positions: instr line"), ("part: 1", "part: 2")]
    {
        assert!(matches!(parse(&CYCLES.replacen(from, to, 1)), Err(CallgrindError::Foreign(_))), "{to}");
    }
}

#[test]
fn names_need_not_be_numbered_and_costs_of_zero_need_not_be_written() {
    let text =
        "events: Ir\npositions: line\nfl=a.c\nfn=f\n10 5\n*\n+2 1\ncfn=g\ncalls=1 20\n* 7\nfn=g\n20 7\ntotals: 13\n";
    let profile = parse(text).unwrap();
    assert_eq!((costs(&profile, "f"), costs(&profile, "g")), ((6, 13), (7, 7)));
    assert_eq!(profile.lines.iter().map(|l| l.line).collect::<Vec<_>>(), [20, 10, 12]);
}

#[test]
fn two_runs_agree_to_the_instruction_or_the_first_difference_is_named() {
    let profile = parse(EVBUFFER).unwrap();
    agreed(&profile, &profile.clone()).unwrap();
    // As many in all, elsewhere.
    let moved = EVBUFFER.replacen("3486 40000\n+3 60000", "3486 40002\n+3 59998", 1);
    assert_ne!(moved, EVBUFFER);
    let error = agreed(&profile, &parse(&moved).unwrap()).unwrap_err().to_string();
    assert!(error.contains("7540210 and 7540210") && error.contains("event.c:34"), "{error}");
    assert!(error.contains("event_mm_malloc_") && error.ends_with("no attribution"), "{error}");
}

/// Twice the batches: every cost twice, as a workload without cold batches has it.
fn doubled(profile: &Profile) -> Profile {
    let mut doubled = profile.clone();
    doubled.total *= 2;
    doubled.functions.iter_mut().for_each(|f| {
        f.self_instructions *= 2;
        f.inclusive_instructions *= 2;
    });
    doubled.lines.iter_mut().for_each(|line| line.self_instructions *= 2);
    doubled
}

#[test]
fn warm_batches_are_what_the_longer_run_did_beyond_the_shorter() {
    let short = parse(EVBUFFER).unwrap();
    let mut long = doubled(&short);
    assert_eq!(further(&short, &long).unwrap(), short);
    // What was done in cold batches alone is gone.
    let cold = Function {
        name: "first_time".into(),
        file: None,
        object: None,
        self_instructions: 10,
        inclusive_instructions: 10,
        cycle: None,
    };
    let mut cold_short = short.clone();
    for profile in [&mut cold_short, &mut long] {
        profile.functions.push(cold.clone());
        profile.total += 10;
    }
    let warm = further(&cold_short, &long).unwrap();
    assert!(warm.functions.iter().all(|f| f.name != "first_time"));
    assert_eq!(warm.total, short.total);
    // A longer run that did less of anything did other work.
    assert!(matches!(further(&long, &short), Err(CallgrindError::Shrunk(_))));
    let mut odd = doubled(&short);
    odd.lines[0].self_instructions = 1;
    assert!(matches!(further(&short, &odd), Err(CallgrindError::Shrunk(what)) if what.contains(".c:")));
    let mut gone = doubled(&short);
    gone.functions.pop();
    assert!(matches!(further(&short, &gone), Err(CallgrindError::Shrunk(_))));
}

fn named(file: &str) -> String {
    file.rsplit('/').next().unwrap().to_owned()
}

#[test]
fn shares_are_of_events_and_of_all_instructions() {
    let profile = parse(EVBUFFER).unwrap();
    let (functions, lines) = shares(&profile, 20_000, named);
    let add = functions.iter().find(|f| f.symbol == "evbuffer_add").unwrap();
    assert_eq!((add.file.as_deref(), add.inclusive_per_event), (Some("buffer.c"), 183.0));
    assert!((add.inclusive_pct - 48.54).abs() < 0.01);
    assert_eq!(add.part, crate::bottleneck::Part::Evbuffer);
    let sum: f64 = functions.iter().map(|f| f.self_pct).sum();
    assert!((sum - 100.0).abs() < 1e-6, "{sum}");
    assert!(functions.iter().all(|f| f.symbol != "main"), "what only calls others is left out");
    assert!(lines[0].self_per_event >= lines[1].self_per_event);
}

#[test]
fn source_stands_around_the_hottest_lines_and_only_of_known_files() {
    let (_, lines) = shares(&parse(CYCLES).unwrap(), 2, named);
    let sources = BTreeMap::from([("inlined.h".to_owned(), INLINED_H.to_owned())]);
    let found = excerpts(&lines, &sources, 2, 1);
    assert_eq!(found.len(), 1, "two hot lines with what is around them touch");
    let numbers: Vec<u32> = found[0].lines.iter().map(|line| line.line).collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5]);
    let costs: Vec<Option<f64>> = found[0].lines.iter().map(|line| line.self_per_event).collect();
    assert_eq!(costs, [None, Some(51.0), Some(17.0), Some(51.0), None]);
    assert!(found[0].lines[2].text.contains("2654435761"));
    assert!(excerpts(&lines, &BTreeMap::new(), 5, 2).is_empty());
    // A file that is shorter than the debug information says: another one. Nothing is made up.
    let short = BTreeMap::from([("inlined.h".to_owned(), "one line".to_owned())]);
    assert_eq!(excerpts(&lines, &short, 1, 0), vec![]);
}

#[test]
fn numbers_that_are_too_large_are_refused_and_break_nothing() {
    let most = u64::MAX;
    let file = |costs: &str, total: u64| format!("events: Ir\nfl=a.c\nfn=f\n{costs}totals: {total}\n");
    assert!(matches!(parse(&file(&format!("1 {most}\n2 {most}\n"), 5)), Err(CallgrindError::Sum { .. })));
    let calls = format!("1 1\ncfn=g\ncalls=1 9\n1 {most}\ncfn=g\ncalls=1 9\n1 {most}\n");
    let profile = parse(&file(&calls, 1)).unwrap();
    assert_eq!(costs(&profile, "f"), (1, most));
    let line = |line| LineShare {
        file: "a.c".into(),
        line,
        symbol: "f".into(),
        self_per_event: 1.0,
        self_pct: 50.0,
        text: None,
    };
    let sources = BTreeMap::from([("a.c".to_owned(), "one\ntwo\n".to_owned())]);
    let shown = excerpts(&[line(u32::MAX), line(1)], &sources, 5, 3);
    assert_eq!(shown.len(), 1, "`#line` may say what it likes: {shown:?}");
}
