use super::*;
use std::collections::BTreeSet;

const TEXT: &str = include_str!("../../../config/hot-methods.toml");

fn provenance(workload: &str) -> Provenance {
    Provenance {
        workload: workload.into(),
        host: "d02b0a7a02926ce0".into(),
        variant: "a5402d5af1a8".into(),
        variant_name: "pristine".into(),
        build: "240155d674c6".into(),
        event: "cpu-clock".into(),
        samples: 5000,
        at: "2026-11-28T03:00:00Z".into(),
    }
}

fn measured(workload: &str, shares: &[(&str, f64)], present: &[&str]) -> Measured {
    let symbol = |(symbol, self_pct): &(&str, f64)| MeasuredSymbol {
        symbol: (*symbol).into(),
        self_pct: *self_pct,
        inclusive_pct: Some(self_pct + 1.0),
    };
    Measured {
        provenance: provenance(workload),
        symbols: shares.iter().map(symbol).collect(),
        present: present.iter().map(|name| ((*name).to_owned(), "buffer.c".to_owned())).collect(),
    }
}

const SMALL: &str = "\
# ---- chains ----
# The one that everything goes through.
[[method]]
symbol = \"evbuffer_add\"
file = \"buffer.c\"
tier = \"evbuffer-data-plane\"
# What is below belongs to it.
note = \"a copy and bookkeeping\"

[[method]]
symbol = \"min_heap_shift_up_\"
file = \"minheap-internal.h\"
tier = \"timer-heap\"
note = \"inlined in most builds\"

# Only at set-up.
[[cold]]
symbol = \"event_base_new\"
file = \"event.c\"
note = \"once a process\"
";

#[test]
fn the_manifest_of_the_workspace_is_read_and_written_back_as_it_is() {
    let manifest = HotMethods::parse(TEXT).unwrap();
    assert!(manifest.methods.len() > 40, "{}", manifest.methods.len());
    assert_eq!(manifest.to_toml(), TEXT, "run `cargo xtask profile --update-manifest`, or write it as the tool does");
    let tiers: BTreeSet<Tier> = manifest.methods.iter().map(|method| method.tier).collect();
    let of_functions = Tier::ALL.into_iter().filter(|tier| !tiers.contains(tier)).collect::<Vec<_>>();
    assert_eq!(of_functions, [], "every tier has functions");
}

#[test]
fn comments_stay_with_their_entry() {
    let manifest = HotMethods::parse(SMALL).unwrap();
    let add = manifest.find("evbuffer_add").unwrap();
    let expected = ["---- chains ----", "The one that everything goes through.", "What is below belongs to it."];
    assert_eq!(add.comments, expected);
    assert_eq!(manifest.cold[0].comments, ["Only at set-up."]);
    let once = manifest.to_toml();
    assert!(once.starts_with("# Functions of libevent") && once.contains("--update-manifest"), "{once}");
    let again = HotMethods::parse(&once).unwrap();
    assert_eq!(again, manifest);
    assert_eq!(again.to_toml(), once, "writing twice changes nothing");
    let trailing = format!("{SMALL}# left at the end\n");
    assert!(HotMethods::parse(&trailing).unwrap().to_toml().contains("# left at the end"));
}

#[test]
fn a_manifest_that_makes_no_sense_is_refused_by_entry() {
    let with = |from: &str, to: &str| {
        assert!(SMALL.contains(from), "{from}");
        HotMethods::parse(&SMALL.replacen(from, to, 1)).unwrap_err().to_string()
    };
    assert!(with("min_heap_shift_up_", "evbuffer_add").contains("`evbuffer_add` is there twice"));
    assert!(with("event_base_new", "evbuffer_add").contains("`evbuffer_add` is there twice"));
    assert!(with("timer-heap", "timers").contains("unknown variant `timers`"));
    assert!(with("file = \"buffer.c\"", "file = \"\"").contains("needs a file"));
    assert!(with("file = \"buffer.c\"", "file = \"/usr/buffer.c\"").contains("needs a file"));
    assert!(with("file = \"buffer.c\"\n", "").contains("missing field `file`"));
    assert!(with("\"evbuffer_add\"", "\"evbuffer add\"").contains("no name of a function"));
    assert!(with("once a process", " ").contains("needs a note"));
    let share = |share: &str| with("note = \"a copy", &format!("share = {{ w = {share} }}\nnote = \"a copy"));
    assert!(share("12.5").contains("no `profile`"), "a share without provenance");
    assert!(share("112.5").contains("from 0 to 100"));
}

#[test]
fn shares_are_merged_with_where_they_come_from() {
    let manifest = HotMethods::parse(SMALL).unwrap();
    assert_eq!(manifest.methods[0].share, None, "never measured");
    let first = measured("w1", &[("evbuffer_add", 20.0), ("malloc", 15.0)], &["evbuffer_add", "event_base_new"]);
    let merged = manifest.merge(std::slice::from_ref(&first), &Limits::default());
    let share = |merged: &Merged, workload: &str| {
        merged.manifest.methods[0].share.as_ref().and_then(|s| s.get(workload).copied())
    };
    assert_eq!(share(&merged, "w1"), Some(20.0));
    assert_eq!(merged.manifest.methods[0].inclusive.as_ref().unwrap()["w1"], 21.0);
    assert_eq!(merged.manifest.profiles, [provenance("w1")]);
    assert_eq!(merged.manifest.cold[0].largest_share, Some(0.0));
    // A later profile of another workload leaves what is there; one of the same takes its place. Parts of a function
    // that an optimiser split are that function.
    let later = [
        measured("w2", &[("evbuffer_add", 5.0)], &["evbuffer_add"]),
        measured("w1", &[("evbuffer_add", 7.0), ("evbuffer_add.cold", 1.0)], &["evbuffer_add", "evbuffer_add.cold"]),
    ];
    let merged = merged.manifest.merge(&later, &Limits::default());
    assert_eq!((share(&merged, "w1"), share(&merged, "w2")), (Some(8.0), Some(5.0)));
    assert_eq!(merged.manifest.profiles.len(), 2);
    // A function that is there and was not seen has a share of zero: it was measured.
    let unseen = manifest.merge(&[measured("w3", &[], &["evbuffer_add"])], &Limits::default());
    assert_eq!(share(&unseen, "w3"), Some(0.0));
    // Written and read again, it is the same to two digits.
    assert_eq!(HotMethods::parse(&merged.manifest.to_toml()).unwrap(), merged.manifest);
}

#[test]
fn a_function_that_the_source_does_not_have_is_said_and_is_no_error() {
    let manifest = HotMethods::parse(SMALL).unwrap();
    let merged = manifest.merge(&[measured("w1", &[("evbuffer_add", 20.0)], &["evbuffer_add"])], &Limits::default());
    assert_eq!(merged.absent.keys().collect::<Vec<_>>(), ["min_heap_shift_up_"]);
    assert!(merged.absent["min_heap_shift_up_"].contains("not in pristine: inlined"), "{:?}", merged.absent);
    let heap = merged.manifest.find("min_heap_shift_up_").unwrap();
    assert_eq!(heap.share, None, "not zero: nothing is known of it");
    assert!(heap.absent.is_some());
    // A later source that has it.
    let there = measured("w1", &[("min_heap_shift_up_", 3.0)], &["min_heap_shift_up_"]);
    let merged = merged.manifest.merge(&[there], &Limits::default());
    assert_eq!(merged.manifest.find("min_heap_shift_up_").unwrap().absent, None);
    let add = merged.manifest.find("evbuffer_add").unwrap();
    assert_eq!(add.share, None, "the share was of a profile that is no more");
}

#[test]
fn a_function_of_which_only_a_part_is_left_has_no_share() {
    let manifest = HotMethods::parse(SMALL).unwrap();
    for part in ["evbuffer_add.part.0", "evbuffer_add.cold"] {
        let merged = manifest.merge(&[measured("w1", &[(part, 3.0)], &[part])], &Limits::default());
        assert_eq!(merged.manifest.methods[0].share, None, "{part}");
        assert!(merged.absent.contains_key("evbuffer_add"), "{part}");
    }
    let whole = measured("w1", &[("evbuffer_add.part.0", 3.0)], &["evbuffer_add", "evbuffer_add.part.0"]);
    let merged = manifest.merge(&[whole], &Limits::default());
    assert_eq!(
        merged.manifest.methods[0].share.as_ref().unwrap()["w1"],
        3.0,
        "the function is there, and this is of it"
    );
}

#[test]
fn what_was_hot_once_and_is_called_cold_is_forgotten_when_it_is_cool() {
    let mut manifest = HotMethods::parse(SMALL).unwrap();
    manifest.cold[0].largest_share = Some(9.0);
    let of = |workload: &str, share: f64| measured(workload, &[("event_base_new", share)], &["event_base_new"]);
    assert_eq!(manifest.merge(&[], &Limits::default()).manifest.cold[0].largest_share, Some(9.0));
    let hot = manifest.merge(&[of("w1", 4.0), of("w2", 0.5)], &Limits::default());
    assert_eq!(hot.cold_but_hot["event_base_new"], 4.0, "9 was of nobody knows which workload");
    let cool = hot.manifest.merge(&[of("w1", 0.1)], &Limits::default());
    assert!(cool.cold_but_hot.is_empty());
    assert_eq!(cool.manifest.cold[0].largest_share, Some(0.5));
    assert_eq!(HotMethods::parse(&cool.manifest.to_toml()).unwrap(), cool.manifest);
    let wrong = cool.manifest.to_toml().replace("\"w2\" = 0.50", "\"w9\" = 0.50");
    assert!(HotMethods::parse(&wrong).unwrap_err().to_string().contains("no `profile`"), "{wrong}");
}

#[test]
fn what_is_hot_and_not_listed_is_named_if_it_is_libevents() {
    let manifest = HotMethods::parse(SMALL).unwrap();
    let shares = [("evbuffer_drain", 9.0), ("malloc", 30.0), ("evbuffer_new", 0.5), ("event_base_new", 4.0)];
    let present = ["evbuffer_drain", "evbuffer_new", "event_base_new", "evbuffer_add"];
    let merged = manifest.merge(&[measured("w1", &shares, &present)], &Limits::default());
    let names: Vec<&str> = merged.unlisted.iter().map(|entry| entry.symbol.as_str()).collect();
    assert_eq!(names, ["evbuffer_drain"], "not the C library's, not what is cool, not what is listed as cold");
    assert_eq!(merged.unlisted[0].file.as_deref(), Some("buffer.c"));
    assert_eq!(merged.cold_but_hot, BTreeMap::from([("event_base_new".to_owned(), 4.0)]));
    assert!(merged.cold.is_empty());
    // Of a workload that was measured again, what is no longer hot goes; of others, it stays.
    let other = measured("w2", &[("evbuffer_remove", 6.0)], &["evbuffer_remove"]);
    let merged = merged.manifest.merge(&[other], &Limits::default());
    let names = |merged: &Merged| merged.manifest.unlisted.iter().map(|u| u.symbol.clone()).collect::<Vec<_>>();
    assert_eq!(names(&merged), ["evbuffer_drain", "evbuffer_remove"]);
    let cooler = merged.manifest.merge(&[measured("w1", &[("evbuffer_drain", 1.0)], &present)], &Limits::default());
    assert_eq!(names(&cooler), ["evbuffer_remove"]);
    // Once somebody lists it, it is no longer unlisted.
    let mut listed = merged.manifest.clone();
    listed.methods.push(HotMethod { symbol: "evbuffer_drain".into(), ..listed.methods[0].clone() });
    assert_eq!(names(&listed.merge(&[], &Limits::default())), ["evbuffer_remove"]);
}

#[test]
fn a_method_is_cold_only_after_enough_workloads_have_been_looked_at() {
    let manifest = HotMethods::parse(SMALL).unwrap();
    let limits = Limits { cold_from_workloads: 2, ..Limits::default() };
    let cool = |workload: &str, share: f64| Measured {
        symbols: vec![MeasuredSymbol { symbol: "evbuffer_add".into(), self_pct: share, inclusive_pct: None }],
        ..measured(workload, &[], &["evbuffer_add", "event_base_new"])
    };
    let cold = |merged: &Merged| merged.cold.iter().map(|cold| cold.symbol.clone()).collect::<Vec<_>>();
    let one = manifest.merge(&[cool("w1", 0.1)], &limits);
    assert_eq!(cold(&one), ["event_base_new"], "one workload proves nothing");
    let two = one.manifest.merge(&[cool("w2", 0.1)], &limits);
    assert_eq!(cold(&two), ["event_base_new", "evbuffer_add"]);
    assert!(two.cold[1].note.contains("at most 0.10% of any of 2 workloads"), "{}", two.cold[1].note);
    assert!(two.manifest.find("evbuffer_add").is_some(), "it stays a method until somebody moves it");
    let hot = one.manifest.merge(&[cool("w2", 5.0)], &limits);
    assert_eq!(cold(&hot), ["event_base_new"]);
}
