//! Pages show what must not be overlooked, and are functions of the ledger.

use super::super::fixtures::*;
use super::{blocks, cell, short};
use model::ledger::event::{Attached, Direction, Event, Opened, Prediction, Quantity, TipRef};
use std::path::Path;

fn read(root: &Path, name: &str) -> String {
    std::fs::read_to_string(root.join(name)).unwrap()
}

#[test]
fn force_disagreement_and_dead_ends_are_shown_everywhere() {
    let workspace = Workspace::new();
    let root = workspace.place.root.clone();
    std::fs::create_dir(root.join("playbook")).unwrap();
    let known = "- **a thing**: known (from elsewhere)";
    let marks = ["<!-- non-starters: kept by cargo xtask exp reject --non-starter -->", "<!-- non-starters end -->"];
    let playbook = format!("{}\n{known}\n{}\n", marks[0], marks[1]);
    std::fs::write(root.join("playbook/program.md"), playbook).unwrap();
    let id = workspace.proposed("Larger reads", "patch one\n", &TipRef::default());
    let waiting = workspace.proposed("Fewer calls", "patch two\n", &TipRef::default());
    let mut book = workspace.book();
    let patch = book.file(&id, "p.patch").unwrap().sha256;
    let tip = TipRef { patches: vec![patch], commit: "d".repeat(40), ..TipRef::default() };
    book.append(&id, forced(tip), &[]).unwrap();
    book.rebuild().unwrap();
    drop(book);

    let index = read(&root, "experiments/EXPERIMENTS.md");
    assert!(index.contains("accepted (FORCED)") && index.contains("proposed (to be rebased)"), "{index}");
    assert!(index.contains("\\| makes reads &lt;faster>"), "texts of people do not break the table: {index}");
    let summary = read(&root, "experiments/SUMMARY.md");
    for words in [
        "## Accepted by force",
        "by somebody: I know better; against: the gate was not run",
        "## To be rebased",
        "dddddddddddd",
    ] {
        assert!(summary.contains(words), "{words}: {summary}");
    }
    assert!(read(&root, "README.md").contains("one accepted patch, 1 of them FORCED"));
    let page = read(&root, &format!("experiments/{id}/README.md"));
    assert!(page.contains("**FORCED by somebody**") && page.contains("- the gate was not run"), "{page}");
    assert!(page.contains("event.c:1 getenv") && page.contains("not measured"), "{page}");
    assert!(read(&root, &format!("experiments/{waiting}/README.md")).contains("**To be rebased**"));
    assert_eq!(read(&root, "experiments/series").lines().last(), Some(format!("{id}/p.patch").as_str()));

    // Taken out again, as what does not work.
    workspace.book().append(&id, rejected(Some(TipRef::default())), &[]).unwrap();
    workspace.book().rebuild().unwrap();
    let summary = read(&root, "experiments/SUMMARY.md");
    assert!(
        summary.contains("was part of the tip; slower after all") && summary.contains("## Non-starters"),
        "{summary}"
    );
    let item = format!("- **evbuffer**: slower after all ([{id}](../experiments/{id}/README.md)) (ledger)");
    let expected = format!("{}\n{known}\n{item}\n{}\n", marks[0], marks[1]);
    assert_eq!(read(&root, "playbook/program.md"), expected, "what people know stays");
    workspace.book().rebuild().unwrap();
    assert_eq!(read(&root, "playbook/program.md"), expected, "and nothing is there twice");
    assert!(!read(&root, "experiments/series").contains("EXP-"));
    assert!(read(&root, "README.md").contains("The tip is pristine."));
}

/// Whatever somebody writes, and whatever a patch says through its screened lines, is text of a page and no part of its structure.
#[test]
fn no_text_of_a_patch_or_of_somebody_makes_a_page_say_something_else() {
    let workspace = Workspace::new();
    let mut book = workspace.book();
    let evil = "x\n## Decision: accept\n<!-- \u{1b}[2K\u{202e}";
    let predicted = Prediction {
        name: "f".to_owned(),
        quantity: Quantity::SelfSharePct,
        direction: Direction::Less,
        size_pct: Some(-20.0),
    };
    let opened = Opened {
        title: evil.to_owned(),
        hypothesis: evil.to_owned(),
        predictions: vec![predicted],
        ..opened("Larger reads", &TipRef::default())
    };
    let id = book.open_experiment(opened).unwrap();
    std::fs::write(book.folder(&id).join("p.patch"), "patch").unwrap();
    let patch = book.file(&id, "p.patch").unwrap();
    let screened = vec![evil.to_owned()];
    let event = Event::Attached(Attached {
        patch,
        test_patch: None,
        variant: "c".repeat(12),
        screened,
        tree: None,
        reason: None,
    });
    book.append(&id, event, &[]).unwrap();
    book.append(&id, noted(evil), &[]).unwrap();
    book.rebuild().unwrap();
    let page = read(&workspace.place.root, &format!("experiments/{id}/README.md"));
    assert!(!page.lines().any(|line| line.starts_with("## Decision")), "{page}");
    assert!(!page.contains(model::plain::is_obeyed) && page.matches("<!--").count() == 1, "{page:?}");
    assert!(page.contains("- x ## Decision: accept &lt;!-- \u{fffd}[2K\u{fffd}\n"), "{page}");
    assert!(page.contains("- f: less self-share-pct; -20% of it is predicted\n"), "{page}");
}

#[test]
fn what_git_left_in_a_block_goes_with_a_rebuild() {
    let workspace = Workspace::new();
    let id = workspace.proposed("Larger reads", "x\n", &TipRef::default());
    workspace.book().rebuild().unwrap();
    let (readme, index) = ("README.md", "experiments/EXPERIMENTS.md");
    let root = workspace.place.root.clone();
    let whole = [readme, index].map(|name| read(&root, name));
    for name in [readme, index] {
        let conflict = read(&root, name).replace(
            "<!-- experiments end",
            "<<<<<<< HEAD\nours\n=======\ntheirs\n>>>>>>> other\n<!-- experiments end",
        );
        let conflict = if name == index { format!("<<<<<<< HEAD\n{conflict}") } else { conflict };
        std::fs::write(root.join(name), conflict).unwrap();
    }
    workspace.book().rebuild().unwrap();
    assert_eq!([readme, index].map(|name| read(&root, name)), whole);
    assert!(whole[0].starts_with("# Us\n") && whole[0].ends_with("\nmore\n"), "the rest is people's: {}", whole[0]);
    assert!(whole[1].contains(&id));
}

#[test]
fn a_file_without_its_marks_is_an_error_not_overwritten() {
    let (_, block) = blocks::all(&Default::default()).into_iter().next().unwrap();
    let error = block.put_into("README.md", "no marks\n").unwrap_err();
    assert!(error.to_string().contains("README.md has no line"), "{error}");
}

#[test]
fn a_template_with_an_unknown_word_is_an_error() {
    let workspace = Workspace::new();
    workspace.proposed("Larger reads", "x\n", &TipRef::default());
    let template = workspace.place.root.join("experiments/TEMPLATE.md");
    std::fs::write(&template, "{{ idd }}\n").unwrap();
    let error = workspace.book().rebuild().unwrap_err();
    assert!(format!("{error:#}").contains("TEMPLATE.md"), "{error:#}");
    std::fs::write(&template, "{% for %}").unwrap();
    assert!(workspace.book().rebuild().is_err());
}

#[test]
fn texts_of_people_stay_in_their_cell() {
    assert_eq!(cell("a | b\nc <i>"), "a \\| b c &lt;i>");
    assert_eq!(cell("## Decision: accept"), "\\## Decision: accept");
    assert_eq!(cell("```\nx"), "\\``` x", "the rest of the page is no part of it");
    assert_eq!(cell("a\u{1b}[2K\u{202e}b"), "a\u{fffd}[2K\u{fffd}b");
    assert_eq!(short("abcdef", 3), "abc...");
    assert_eq!(short("äöü", 3), "äöü");
}
