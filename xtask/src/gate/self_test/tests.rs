//! The seeded defects that are kept: enough of them, each a patch that applies and may be.

use super::list;
use crate::context::Context;
use crate::git::Store;
use model::mutants::Kind;
use model::patch;
use std::collections::BTreeSet;
use std::path::Path;

fn context(work: &Path) -> Context {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap();
    Context {
        root,
        work: work.into(),
        runs: work.into(),
        calibrations: work.into(),
        install: false,
        json: false,
        sandbox_without: vec![],
    }
}

#[test]
fn every_defect_has_its_patch_and_every_patch_its_defect() {
    let context = context(Path::new("unused"));
    let names: BTreeSet<String> = list::read(&context).unwrap().mutant.into_iter().map(|mutant| mutant.name).collect();
    let entries = std::fs::read_dir(context.root.join("gate/mutants")).unwrap();
    let files = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let patches: BTreeSet<String> = files.map(|file| file.strip_suffix(".patch").unwrap().to_owned()).collect();
    assert_eq!(names, patches);
}

#[test]
fn there_are_enough_of_every_kind_and_in_every_part() {
    let list = list::read(&context(Path::new("unused"))).unwrap();
    let of = |kind| list.mutant.iter().filter(|mutant| mutant.kind == kind).count();
    assert!(list.defects().count() >= 48);
    assert!(of(Kind::Reversal) >= 12);
    assert!(of(Kind::Optimisation) >= 12);
    assert_eq!(of(Kind::Control), 1);
    let touched: BTreeSet<&str> = list.defects().flat_map(|mutant| &mutant.files).map(String::as_str).collect();
    for file in [
        "buffer.c",
        "event.c",
        "evmap.c",
        "epoll.c",
        "select.c",
        "poll.c",
        "signal.c",
        "bufferevent.c",
        "bufferevent_sock.c",
        "bufferevent_filter.c",
        "bufferevent_pair.c",
        "bufferevent_ratelim.c",
        "minheap-internal.h",
        "evthread.c",
        "evthread_pthread.c",
        "http.c",
        "evdns.c",
        "listener.c",
        "evutil.c",
    ] {
        assert!(touched.contains(file), "nothing is wrong with {file}");
    }
    // Most have to be visible where the light gate looks.
    let hidden = list.defects().filter(|mutant| mutant.needs.is_some()).count();
    assert!(hidden * 8 <= list.defects().count(), "{hidden} need a configuration of the full gate");
    for mutant in list.mutant.iter().filter(|mutant| mutant.kind == Kind::Reversal) {
        let upstream = mutant.upstream.as_deref().unwrap();
        assert!(upstream.starts_with("2.0.") || upstream.starts_with("2.1."), "{upstream}");
    }
}

#[test]
fn every_patch_applies_strictly_touches_what_it_says_and_may_be() {
    let work = tempfile::tempdir().unwrap();
    let context = context(work.path());
    let source = context.root.join("libevent");
    assert!(source.join("event.c").is_file(), "./libevent is empty; run `cargo xtask setup`");
    let store = Store::open(&context.work).unwrap();
    let tree = store.import_everything(&source).unwrap();
    for mutant in list::read(&context).unwrap().mutant {
        let patch = list::patch(&context, &mutant.name);
        assert!(std::fs::metadata(&patch).unwrap().len() < patch::PATCH_LIMIT_BYTES);
        let patched = store.apply(&tree, &patch).unwrap_or_else(|error| panic!("{}: {error:#}", mutant.name));
        let changes = patch::parse_raw_diff(&store.raw_diff(&tree, &patched).unwrap()).unwrap();
        let diff = store.diff(&tree, &patched).unwrap();
        let may_be = patch::check_changes(&changes).and_then(|()| patch::check_text(&diff));
        may_be.unwrap_or_else(|why| panic!("{}: {why}", mutant.name));
        let files: Vec<String> = changes.into_iter().map(|change| change.path).collect();
        assert_eq!(files, mutant.files, "{}", mutant.name);
    }
}

#[test]
fn a_glob_that_matches_nothing_is_said() {
    let list = list::read(&context(Path::new("unused"))).unwrap();
    let some = list::select(&list, &["heap-*".into(), "control".into()]).unwrap();
    assert!(some.mutant.len() >= 3 && some.mutant.iter().all(|m| m.name.starts_with("heap-") || m.name == "control"));
    let error = list::select(&list, &["nothing-*".into()]).unwrap_err();
    assert!(error.to_string().contains("matches none"), "{error}");
}

#[test]
fn numbers_of_pristine_runs() {
    use super::pristine_runs;
    assert_eq!(pristine_runs("3"), Ok((3, 3)));
    assert_eq!(pristine_runs("60:20"), Ok((60, 20)));
    assert!(pristine_runs("x").is_err() && pristine_runs("1:").is_err() && pristine_runs("-1").is_err());
}
