//! The workloads over sockets: every batch does the same, declared work, and broken peers end in errors.

use bench_harness::{Workload, registry};
use model::workload::{Checksum, WorkloadSpec};

/// Families of this file, by the beginning of their names.
const FAMILIES: &[&str] = &["bufferevent.", "http.", "dns.", "connections.accept_close", "tls."];

fn ours() -> Vec<WorkloadSpec> {
    let all = registry::all().unwrap();
    all.into_iter().filter(|spec| FAMILIES.iter().any(|family| spec.name.starts_with(family))).collect()
}

fn batch(workload: &mut dyn Workload) -> anyhow::Result<(u64, u64)> {
    workload.prepare()?;
    let events = workload.run()?;
    Ok((events, workload.finish()?))
}

#[test]
fn every_batch_does_the_work_that_manifest_and_model_say() {
    let specs = ours();
    assert!(specs.iter().any(|spec| spec.name.starts_with("bufferevent.")), "the manifest lost a family");
    let mut wrong = Vec::new();
    for spec in &specs {
        let mut workload = registry::build(spec).unwrap();
        let model = Checksum(workload.expected_checksum());
        if model != spec.checksum {
            wrong.push(format!("{} {} is declared, {model} is the model's", spec.name, spec.checksum));
        }
        for round in 0..3 {
            let (events, checksum) = batch(workload.as_mut()).unwrap_or_else(|e| panic!("{}: {e:#}", spec.name));
            assert_eq!(events, spec.batch_events, "{} batch {round}", spec.name);
            assert_eq!(Checksum(checksum), model, "{} batch {round}", spec.name);
        }
    }
    assert!(wrong.is_empty(), "checksums of the manifest:\n{}", wrong.join("\n"));
}
