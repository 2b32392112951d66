//! `--source`: another libevent, from a repository or a folder, without a network.

use crate::support::{TINY, World, copy_libevent, edit, git, scratch, snapshot};
use serde_json::Value;
use std::fs;
use std::path::Path;

/// A repository of the user's: the pinned files, and a commit on them tagged `changed`.
fn repository(folder: &Path) {
    copy_libevent(folder);
    git(folder, &["init", "--quiet"]);
    git(folder, &["add", "--all", "--force", "."]);
    git(folder, &["commit", "--quiet", "-m", "as pinned"]);
    git(folder, &["tag", "pinned"]);
    let file = folder.join("buffer.c");
    fs::write(&file, fs::read_to_string(&file).unwrap() + "\n/* a change of the user's own */\n").unwrap();
    git(folder, &["commit", "--quiet", "--all", "-m", "changed"]);
    git(folder, &["tag", "changed"]);
}

fn measured(world: &World, source: &str) -> Value {
    let args = ["bench", "--quick", "--launches", "1", "--workload", TINY, "--json", "--source", source];
    world.run(&args).expect_code(0).document()["sides"][0]["build"]["variant"]["source"].clone()
}

#[test]
fn revisions_of_a_local_repository_and_of_a_url_are_measured_and_the_repository_is_left_alone() {
    let world = World::prepared();
    let folder = scratch();
    let path = folder.path().join("libevent");
    repository(&path);
    let before = snapshot(&path);
    let (path, url) = (path.to_str().unwrap(), format!("file://{}", path.display()));
    let named = |expression: &str| git(Path::new(path), &["rev-parse", expression]);
    for (source, revision, pinned) in [
        (format!("{path}@pinned"), "pinned", true),
        (format!("{path}@changed"), "changed", false),
        (format!("{url}@pinned"), "pinned", true),
        (url.clone(), "changed", false),
    ] {
        let recorded = measured(&world, &source);
        assert_eq!(recorded["label"], source);
        assert_eq!(recorded["tree"], named(&format!("{revision}^{{tree}}")), "{source}");
        assert_eq!(recorded["upstream_commit"], named(&format!("{revision}^{{commit}}")), "{source}");
        assert_eq!(recorded["pinned"], pinned, "{source}");
    }
    let unknown = ["bench", "--workload", TINY, "--source", &format!("{path}@no-such-revision")];
    world.run(&unknown).expect_refusal(1, &["no-such-revision"]);
    assert!(snapshot(Path::new(path)) == before, "the user's repository is as it was");
}

#[test]
fn a_shallow_clone_is_measured_as_itself_and_not_as_the_source_before_it() {
    let world = World::prepared();
    let folder = scratch();
    let path = folder.path().join("libevent");
    repository(&path);
    let url = format!("file://{}", path.display());
    measured(&world, &format!("{url}@pinned"));
    git(folder.path(), &["clone", "--quiet", "--depth", "1", &url, "shallow"]);
    let shallow = folder.path().join("shallow");
    let recorded = measured(&world, &format!("{}@HEAD", shallow.display()));
    assert_eq!(recorded["tree"], git(&shallow, &["rev-parse", "HEAD^{tree}"]));
    assert_ne!(recorded["tree"], git(&path, &["rev-parse", "pinned^{tree}"]));
}

#[test]
fn a_source_with_a_submodule_is_refused_by_name() {
    let world = World::prepared();
    let folder = scratch();
    let path = folder.path().join("libevent");
    repository(&path);
    let commit = git(&path, &["rev-parse", "HEAD"]);
    git(&path, &["update-index", "--add", "--cacheinfo", &format!("160000,{commit},third-party")]);
    git(&path, &["commit", "--quiet", "-m", "with a submodule"]);
    let source = format!("{}@HEAD", path.display());
    world.run(&["bench", "--workload", TINY, "--source", &source]).expect_refusal(1, &["submodule", "third-party"]);
}

#[test]
fn a_source_that_does_not_compile_shows_the_compilers_message() {
    let world = World::prepared();
    let folder = scratch();
    copy_libevent(folder.path());
    let file = folder.path().join("event.c");
    edit(&file, "\nevent_base_new(void)\n", "\nevent_base_new(void) this is no C\n");
    let text = fs::read_to_string(&file).unwrap();
    let line = 1 + text.lines().position(|line| line.ends_with("this is no C")).unwrap();
    world
        .run(&["bench", "--workload", TINY, "--source", folder.path().to_str().unwrap()])
        .expect_refusal(2, &["cannot be compiled", &format!("event.c:{line}:"), "error:"]);
    assert!(world.records().is_empty(), "nothing was measured");
}
