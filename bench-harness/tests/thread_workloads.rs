//! Workloads with threads, limits, signals and idle descriptors: what their figures must satisfy.

use bench_harness::registry;
use bench_harness::worker::Checked;
use model::protocol::Latency;
use model::workload::WorkloadSpec;
use std::collections::BTreeMap;

const BATCHES: u64 = 4;

fn spec(name: &str) -> WorkloadSpec {
    registry::all().unwrap().into_iter().find(|spec| spec.name == name).expect(name)
}

/// Does batches, which are checked, and returns the latencies and further figures.
fn measure(name: &str) -> (Option<Latency>, BTreeMap<String, f64>) {
    let mut checked = Checked::set_up(spec(name)).unwrap();
    for _ in 0..BATCHES {
        checked.batch().unwrap();
    }
    (checked.take_latency(), checked.take_extra())
}

#[test]
fn every_activation_of_a_thread_has_one_callback_and_one_latency() {
    for producers in [1, 2, 4] {
        for state in ["running", "asleep"] {
            let name = format!("threads.active.{state}.p{producers}");
            let (latency, extra) = measure(&name);
            assert_eq!(latency.expect("latencies").count, BATCHES * spec(&name).batch_events, "{name}");
            let per_turn = extra["events_per_turn_with_work"];
            assert!(per_turn >= 1.0, "{name}: {per_turn} activations in a turn that had some");
            assert!(extra.values().all(|figure| figure.is_finite()), "{name}: {extra:?}");
        }
    }
}

#[test]
fn a_sleeping_loop_takes_a_turn_for_each_round_of_one_producer() {
    for producers in [1, 2, 4] {
        let (_, extra) = measure(&format!("threads.active.asleep.p{producers}"));
        let turns = extra["loop_turns_per_event"];
        assert!(turns > 0.0 && turns <= 1.0, "{producers} producers: {turns} turns an event");
        // Nothing can be merged, unless the producer on another CPU is quicker than the loop's way to sleep.
        assert!(producers > 1 || turns > 0.5, "{turns} turns an event");
    }
}

#[test]
fn a_limit_on_callbacks_shortens_the_wait_of_urgent_events() {
    let p50_ns = |name: &str| measure(name).0.expect("latencies").p50_ns;
    let (none, some, few) = (p50_ns("limits.none"), p50_ns("limits.callbacks.64"), p50_ns("limits.callbacks.8"));
    assert!(none > 2 * some, "without a limit {none} ns, with 64 callbacks {some} ns");
    assert!(some > few, "with 64 callbacks {some} ns, with 8 {few} ns");
}

#[test]
fn models_follow_the_parameters() {
    let checksum = |spec: &WorkloadSpec| registry::build(spec).map(|workload| workload.expected_checksum());
    for (name, parameter, value) in [
        ("limits.none", "work_folds", 5),
        ("signals.burst.32", "signals", 3),
        ("idle.10000.active.100", "descriptors", 500),
        ("threads.active.running.p2", "events_per_producer", 3),
    ] {
        let original = spec(name);
        let mut changed = original.clone();
        changed.params.insert(parameter.into(), value.into());
        assert_eq!(checksum(&original).unwrap(), original.checksum.0, "{name}");
        let checksum = checksum(&changed).unwrap();
        assert_ne!(checksum, original.checksum.0, "{name} with another {parameter}");
        // And libevent delivers what the model of the changed workload predicts.
        changed.checksum.0 = checksum;
        Checked::set_up(changed).unwrap().batch().unwrap();
    }
}

#[test]
fn parameters_that_make_no_sense_are_refused() {
    for (name, parameter, value, said) in [
        ("limits.none", "high_every", 33, "multiple of high_every"),
        ("limits.none", "low_events", 5000, "at least low_events"),
        ("signals.raise", "signals", 1000, "signals must be"),
        ("signals.raise", "raised_per_turn", 0, "raised_per_turn must be"),
        ("idle.10000.active.1", "active_per_turn", 10_001, "active_per_turn must be"),
        ("idle.10000.active.1", "descriptors", 7919, "no multiple"),
        ("threads.active.running.p1", "producers", 0, "producers must be"),
        ("threads.active.running.p1", "producers", 7, "multiple of producers"),
        ("threads.active.running.p1", "events_per_producer", 0, "events_per_producer must be"),
        ("threads.active.asleep.p1", "loop", 1, "`loop` must be a string"),
        ("signals.raise", "colour", 1, "no parameter `colour`"),
    ] {
        let mut wrong = spec(name);
        wrong.params.insert(parameter.into(), value.into());
        let error = format!("{:#}", registry::build(&wrong).err().expect(said));
        assert!(error.contains(said), "{name}, {parameter} = {value}: {error}");
    }
}

#[test]
fn a_batch_does_not_depend_on_those_before_it() {
    let mut checked = Checked::set_up(spec("threads.active.running.p2")).unwrap();
    let first = checked.batch().unwrap();
    let later = (0..3).map(|_| checked.batch().unwrap()).last().unwrap();
    assert_eq!((first.events, first.checksum), (later.events, later.checksum));
}
