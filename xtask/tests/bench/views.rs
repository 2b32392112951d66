//! What a profile counts beside its phases: instructions by function and by line, allocations by call site.

use crate::support::{TINY, World, copy_libevent, edit, git};
use serde_json::Value;
use std::fs;
use std::path::PathBuf;

const COUNTED: &[&str] = &["profile", "--seconds", "0.1", "--no-pictures", "--json", "--workload", TINY];

fn side<'a>(document: &'a Value, role: &str) -> &'a Value {
    document["workloads"].as_array().unwrap().iter().find(|workload| workload["role"] == role).unwrap()
}

fn sum(list: &Value, field: &str) -> f64 {
    list.as_array().unwrap().iter().map(|entry| entry[field].as_f64().unwrap()).sum()
}

#[test]
fn instructions_are_those_of_functions_and_lines_with_their_source() {
    let world = World::prepared();
    let document = world.run(&[COUNTED, &["pristine", "--only", "instructions"]].concat()).expect_code(0).document();
    let counted = &side(&document, "baseline")["instructions"];
    if counted.is_null() {
        eprintln!("NOT TESTED: instructions were not counted: {document}");
        return;
    }
    let per_event = counted["per_event"].as_f64().unwrap();
    let functions = counted["functions"].as_array().unwrap();
    assert!((sum(&counted["functions"], "self_per_event") / per_event - 1.0).abs() < 0.001, "{counted}");
    let add = functions.iter().find(|function| function["symbol"] == "evbuffer_add").unwrap();
    assert_eq!((add["file"].as_str(), add["part"].as_str()), (Some("buffer.c"), Some("evbuffer")));
    assert!(add["inclusive_per_event"].as_f64().unwrap() > add["self_per_event"].as_f64().unwrap());
    // Lines of a function add up to it; source is what stands in the file.
    let lines: Vec<&Value> =
        counted["lines"].as_array().unwrap().iter().filter(|line| line["symbol"] == "evbuffer_add").collect();
    let of_lines: f64 = lines.iter().map(|line| line["self_per_event"].as_f64().unwrap()).sum();
    assert!((of_lines / add["self_per_event"].as_f64().unwrap() - 1.0).abs() < 0.01, "{of_lines}: {add}");
    let source = fs::read_to_string(world.root.join("libevent/buffer.c")).unwrap();
    let excerpt =
        counted["annotated"].as_array().unwrap().iter().find(|excerpt| excerpt["file"] == "buffer.c").unwrap();
    for line in excerpt["lines"].as_array().unwrap() {
        let number = usize::try_from(line["line"].as_u64().unwrap()).unwrap();
        assert_eq!(source.lines().nth(number - 1), line["text"].as_str(), "line {number}");
    }
    assert!(world.scratch_folders("count-").is_empty(), "what was made for counting is gone");
    world.assert_no_worker_is_left();
}

#[test]
fn an_allocation_more_shows_at_the_function_that_asks_for_it() {
    let world = World::prepared();
    let patch = one_more(&world);
    let args = [patch.to_str().unwrap(), "--against", "pristine", "--only", "allocations"];
    let document = world.run(&[COUNTED, &args].concat()).expect_code(0).document();
    let [pristine, candidate] = ["baseline", "candidate"].map(|role| &side(&document, role)["allocations"]);
    for (counted, allocations) in [(pristine, 1.0), (candidate, 2.0)] {
        for figure in ["allocations", "frees"] {
            assert_eq!(counted["total"][figure], allocations, "{counted}");
            assert_eq!(counted["libevent"][figure], allocations, "all of them are libevent's: {counted}");
        }
        assert_eq!(counted["lost_calls"], 0);
        assert_eq!(counted["differs"], Value::Null, "two runs are equal");
    }
    let bytes = |counted: &Value| counted["total"]["bytes"].as_f64().unwrap();
    assert_eq!(bytes(candidate) - bytes(pristine), 24.0);
    let chain = |counted: &Value, of: &str| {
        let sites = counted["sites"].as_array().unwrap();
        let site = sites.iter().find(|site| site["chain"][0].as_str().unwrap().starts_with(of));
        site.map(|site| site["chain"].as_array().unwrap().iter().map(|name| name.to_string()).collect::<Vec<_>>())
    };
    let new = chain(pristine, "evbuffer_chain_new+").unwrap();
    assert!(new[1].starts_with("\"evbuffer_add+") && new[2].contains("bench_harness"), "{new:?}");
    let asks = |counted: &Value| {
        let sites = counted["sites"].as_array().unwrap().iter();
        let drain = sites.filter(|site| site["chain"][0].as_str().unwrap().starts_with("evbuffer_drain+"));
        drain.map(|site| site["rates"]["allocations"].as_f64().unwrap()).sum::<f64>()
    };
    assert_eq!((asks(pristine), asks(candidate)), (0.0, 1.0));
    assert!(world.scratch_folders("allocations-").is_empty());
    world.assert_no_worker_is_left();
}

/// A patch with which each drain asks for 24 bytes more, and gives them back.
fn one_more(world: &World) -> PathBuf {
    let folder = world.folder.path().join("one-more");
    let tree = folder.join("libevent");
    copy_libevent(&tree);
    git(&tree, &["init", "--quiet"]);
    git(&tree, &["add", "--all", "--force", "."]);
    git(&tree, &["commit", "--quiet", "-m", "pinned"]);
    let head = "evbuffer_drain(struct evbuffer *buf, size_t len)\n{\n";
    // Kept from the compiler, which knows what malloc and free are.
    let more = "\tvoid *volatile more = mm_malloc(24);\n\tmm_free(more);\n";
    edit(&tree.join("buffer.c"), head, &format!("{head}{more}"));
    let patch = folder.join("one-more.patch");
    fs::write(&patch, git(&tree, &["diff"]) + "\n").unwrap();
    patch
}
