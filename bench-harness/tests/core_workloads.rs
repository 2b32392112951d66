//! The workloads of buffers, cascades, timers and the loop: they do what their descriptions say,
//! batch after batch, and a wrong expectation is noticed.

use anyhow::{Result, ensure};
use bench_harness::registry;
use model::workload::{Checksum, WorkloadSpec};

const FAMILIES: [&str; 5] = ["evbuffer.", "cascade.", "timers.", "active.", "epoll."];

fn specs() -> Vec<WorkloadSpec> {
    let mut specs = registry::all().expect("the manifest is well formed");
    specs.retain(|spec| FAMILIES.iter().any(|family| spec.name.starts_with(family)));
    specs
}

fn named(name: &str) -> WorkloadSpec {
    specs().into_iter().find(|spec| spec.name == name).unwrap_or_else(|| panic!("no workload {name}"))
}

/// What the workload's own model says against its description.
fn verify_model(spec: &WorkloadSpec) -> Result<()> {
    let modelled = Checksum(registry::build(spec)?.expected_checksum());
    ensure!(modelled == spec.checksum, "declared {}, modelled {modelled}", spec.checksum);
    Ok(())
}

/// What three batches do against the description.
fn verify_work(spec: &WorkloadSpec) -> Result<()> {
    let mut workload = registry::build(spec)?;
    workload.verify()?;
    for batch in 1..=3 {
        workload.prepare()?;
        let events = workload.run()?;
        let done = Checksum(workload.finish()?);
        ensure!(events == spec.batch_events, "batch {batch}: {events} events instead of {}", spec.batch_events);
        ensure!(done == spec.checksum, "batch {batch}: declared {}, done {done}", spec.checksum);
    }
    Ok(())
}

#[test]
fn every_workload_does_what_it_declares_in_every_batch() {
    let specs = specs();
    for family in FAMILIES {
        assert!(specs.iter().any(|spec| spec.name.starts_with(family)), "no workload of the family {family}");
    }
    let wrong: Vec<String> = specs
        .iter()
        .filter_map(|spec| {
            verify_model(spec).and_then(|()| verify_work(spec)).err().map(|error| format!("{}: {error:#}", spec.name))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_wrong_declaration_is_noticed() {
    for mut spec in specs() {
        spec.checksum.0 ^= 1;
        for error in [verify_model(&spec), verify_work(&spec)].map(Result::unwrap_err) {
            assert!(error.to_string().contains("declared"), "{}: {error:#}", spec.name);
        }
    }
}

/// The model follows the parameters: another amount or size of work has another checksum.
#[test]
fn different_work_has_a_different_checksum() {
    for (name, parameter, value) in [
        ("evbuffer.add_drain.64", "size_bytes", 65),
        ("evbuffer.queued.64", "queued_items", 1023),
        ("evbuffer.reserve_commit.4k", "commit_bytes", 63),
        ("evbuffer.search.64k", "haystack_bytes", 65535),
        ("evbuffer.socket.64", "size_bytes", 72),
        ("timers.readd.1k", "pending", 999),
        ("active.dispatch.p4", "priorities", 3),
    ] {
        let mut spec = named(name);
        let before = registry::build(&spec).unwrap().expected_checksum();
        spec.params.insert(parameter.to_owned(), toml::Value::Integer(value));
        let mut workload = registry::build(&spec).unwrap();
        assert_ne!(workload.expected_checksum(), before, "{name} with {parameter} = {value}");
        workload.prepare().unwrap();
        workload.run().unwrap();
        assert_eq!(workload.finish().unwrap(), workload.expected_checksum(), "{name} with {parameter} = {value}");
    }
}

#[test]
fn parameters_that_make_no_sense_are_refused_with_a_reason() {
    for (name, parameter, value, reason) in [
        ("evbuffer.add_drain.64", "size_bytes", 0, "1 byte"),
        ("evbuffer.queued.64", "queued_items", 0, "queued_items"),
        ("evbuffer.reserve_commit.4k", "reserve_bytes", 63, "reserve_bytes"),
        ("evbuffer.search.64k", "needle_bytes", 65537, "needle_bytes"),
        ("cascade.pipes.n100.a1.w100", "active", 101, "active"),
        ("cascade.pipes.n100.a1.w100", "writes", 99, "batch_events"),
        ("cascade.chain.n100", "pipes", 99, "batch_events"),
        ("active.dispatch.p1", "group", 7, "multiple of group"),
        ("active.dispatch.p1", "priorities", 256, "priorities"),
        ("active.dispatch.p1", "unheard_of", 1, "unheard_of"),
    ] {
        let mut spec = named(name);
        spec.params.insert(parameter.to_owned(), toml::Value::Integer(value));
        let error = registry::build(&spec).err().unwrap_or_else(|| panic!("{name} accepts {parameter} = {value}"));
        assert!(format!("{error:#}").contains(reason), "{name} with {parameter} = {value}: {error:#}");
    }
}
