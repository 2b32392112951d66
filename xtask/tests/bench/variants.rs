//! `--variant`: a patch against the pristine libevent.

use crate::desk::Desk;
use crate::support::{TINY, World, edit};
use serde_json::Value;
use std::fs;
use std::path::Path;

fn run(world: &World, patch: &Path, more: &[&str]) -> crate::support::Outcome {
    world.run(&[&["bench", "--quick", "--workload", TINY, "--variant", patch.to_str().unwrap()], more].concat())
}

#[test]
fn a_good_patch_is_measured_beside_the_pristine_source() {
    let world = World::prepared();
    let desk = Desk::new(&world);
    let function = "int evbuffer_unused_(void);\nint evbuffer_unused_(void) { return 1; }";
    let patch = desk.patch("buffer.c", function);
    let document = run(&world, &patch, &["--launches", "6", "--json"]).expect_code(0).document();

    let [baseline, candidate] = document["sides"].as_array().unwrap().as_slice() else { panic!("two sides") };
    assert_eq!((&baseline["role"], &candidate["role"]), (&"baseline".into(), &"candidate".into()));
    let variant = |side: &Value| side["build"]["variant"].clone();
    assert_ne!(variant(baseline)["id"], variant(candidate)["id"]);
    assert_ne!(variant(baseline)["tree"], variant(candidate)["tree"]);
    assert_eq!(variant(baseline)["source"], variant(candidate)["source"]);
    assert_eq!(variant(candidate)["patches"][0]["name"], "buffer.c.patch");
    let workers = &document["harness"]["worker_sha256"];
    assert!(workers["baseline"].is_string());
    assert_eq!(workers["baseline"], workers["candidate"], "the measuring code is the same on both sides");
    assert_eq!(document["settings"]["sandbox"], "complete");

    let [from, to] = document["workloads"].as_array().unwrap().as_slice() else { panic!("two sides") };
    assert_eq!((&from["role"], &to["role"]), (&"baseline".into(), &"candidate".into()));
    assert_eq!((&from["checksum"], &from["change"]), (&to["checksum"], &Value::Null));
    let change = &to["change"];
    assert_eq!(change["pairs"], 6);
    let (low, high) = (change["interval_pct"][0].as_f64().unwrap(), change["interval_pct"][1].as_f64().unwrap());
    let median = change["relative_change_pct"].as_f64().unwrap();
    assert!(low <= median && median <= high && change["coverage_pct"].as_f64().unwrap() >= 95.0, "{change}");
    let draws = |side: &Value| -> Vec<Value> {
        let launches = side["launch_records"].as_array().unwrap().iter();
        launches.map(|l| serde_json::json!([l["launch"], l["layout_seed"], l["environment_bytes"]])).collect()
    };
    assert_eq!(draws(from), draws(to), "the sides of a pair share layout and environment");
    let first = |side: &Value| side["launch_records"].as_array().unwrap().iter().filter(|l| l["position"] == 0).count();
    assert_eq!((first(from), first(to)), (3, 3), "each side goes first equally often");
}

#[test]
fn identical_sides_are_measured_and_said_to_be_identical() {
    let world = World::prepared();
    for name in ["pristine", "tip"] {
        let args = ["bench", "--quick", "--workload", TINY, "--launches", "2", "--json", "--variant", name];
        let document = world.run(&args).expect_code(0).document();
        assert_eq!(document["workloads"].as_array().unwrap().len(), 2, "{name}");
        assert_eq!(document["workloads"][1]["change"]["pairs"], 2, "{name}");
        // The tip is pristine until a patch is accepted.
        let patches = document["sides"][1]["build"]["variant"]["patches"].as_array().unwrap().len();
        assert_eq!(document["notes"].to_string().contains("identical"), patches == 0, "{name}");
    }
}

#[test]
fn a_patch_whose_hunks_lie_elsewhere_is_refused() {
    let world = World::prepared();
    let desk = Desk::new(&world);
    let patch = desk.patch("buffer.c", "int unused;");
    let text = fs::read_to_string(&patch).unwrap();
    let hunk = text.lines().find(|line| line.starts_with("@@ -")).unwrap();
    let line: u32 = hunk["@@ -".len()..].split(',').next().unwrap().parse().unwrap();
    edit(&patch, hunk, &hunk.replace(&line.to_string(), &(line - 7).to_string()));
    run(&world, &patch, &[]).expect_refusal(2, &["buffer.c.patch", "offset"]);
}

#[test]
fn a_patch_that_does_not_apply_is_refused() {
    let world = World::prepared();
    let desk = Desk::new(&world);
    let patch = desk.patch("buffer.c", "int unused;");
    let context = fs::read_to_string(&patch).unwrap();
    let last = context.lines().rfind(|line| line.starts_with(' ') && line.trim() != "").unwrap();
    edit(&patch, &format!("\n{last}\n"), "\n something else\n");
    run(&world, &patch, &[]).expect_refusal(2, &["buffer.c.patch", "does not apply"]);
    fs::write(&patch, "no patch at all\n").unwrap();
    run(&world, &patch, &[]).expect_refusal(2, &["buffer.c.patch", "does not apply"]);
    assert!(world.records().is_empty(), "nothing was measured");
}

#[test]
fn a_patch_that_touches_what_measures_is_refused_by_name() {
    let world = World::prepared();
    let desk = Desk::new(&world);
    for (file, line) in
        [("test/bench.c", "/* faster */"), ("CMakeLists.txt", "# -Ofast"), ("cmake/AddEventLibrary.cmake", "#")]
    {
        let patch = desk.patch(file, line);
        run(&world, &patch, &[]).expect_refusal(2, &[patch.to_str().unwrap(), "refused", &format!("touches {file}")]);
    }
    assert!(world.records().is_empty(), "nothing was measured");
}

#[test]
fn a_patch_that_does_not_compile_shows_the_compilers_message() {
    let world = World::prepared();
    let desk = Desk::new(&world);
    let patch = desk.patch("buffer.c", "this is no C;");
    let line = 1 + fs::read_to_string(desk.tree().join("buffer.c")).unwrap().lines().count();
    run(&world, &patch, &[]).expect_refusal(2, &["buffer.c.patch", &format!("buffer.c:{line}:"), "error:"]);
}
