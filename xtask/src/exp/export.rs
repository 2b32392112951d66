//! `exp export`: an experiment as mail, ready for a pull request: message, measured results, how to test, the patch.

use super::evidence::Records;
use super::sides::{self, Sides};
use super::style::{self, Style};
use crate::context::Context;
use crate::exit::{Exit, failure};
use crate::gate::test_patch::with_all;
use crate::git::Store;
use crate::report::exp as pages;
use crate::{files, ledger, process};
use anyhow::{Context as _, Result};
use model::experiment::State;
use model::ledger::history::Experiment;
use model::plain::plain;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Longest line of a message.
const WIDTH: usize = 72;

/// What was written.
pub(crate) struct Exported {
    pub(crate) path: PathBuf,
    pub(crate) style: Style,
    /// What whoever sends it should know.
    pub(crate) notes: Vec<String>,
}

/// Writes an experiment as mail to `out`.
pub(crate) fn export(context: &Context, text: &str, out: Option<&Path>, author: Option<&str>) -> Result<Exported> {
    let (_, history) = ledger::read(context)?;
    let experiment = ledger::named(&history, text)?.clone();
    let sides = sides::sides(context, &history, &experiment)?;
    let records = Records::of(context, &history, &experiment)?;
    let author = match author {
        Some(author) => author.to_owned(),
        None => configured_author(context)?,
    };
    if !author.contains('<') || !author.ends_with('>') || author.contains(char::is_control) {
        return Err(failure(Exit::Usage, format!("`{author}` is no author: write \"Name <name@host>\"")));
    }
    let mut notes = Vec::new();
    if experiment.state != State::Accepted {
        notes.push(format!("{} is {}, not accepted; the message says so", experiment.id, experiment.state.name()));
    }
    if !experiment.base.patches.is_empty() {
        notes.push(format!(
            "it applies on {} accepted before it; export and send these first",
            counted(experiment.base.patches.len(), "patch", "patches")
        ));
    }
    let path = out.map_or_else(|| PathBuf::from(format!("{}.mail", experiment.id)), Path::to_owned);
    let folder = sides::folder(context, &experiment.id);
    let attached = experiment.attached.as_ref().context("its sides have a patch")?;
    let patch = folder.join(&attached.patch.path);
    let mail = Mail { context, experiment: &experiment, sides: &sides, records: &records, author: &author };
    let parts = if sides.test_patch.is_some() { 2 } else { 1 };
    let mut text = mail.library(parts)?;
    if let Some(tests) = &sides.test_patch {
        text.push_str(&mail.tests(tests)?);
    }
    mail.check(&text, parts)?;
    files::write_atomic(&path, text.as_bytes())?;
    let style = style::check(context, &sides.candidate, &patch)?;
    Ok(Exported { path, style, notes })
}

struct Mail<'a> {
    context: &'a Context,
    experiment: &'a Experiment,
    sides: &'a Sides,
    records: &'a Records,
    author: &'a str,
}

impl Mail<'_> {
    fn library(&self, parts: usize) -> Result<String> {
        let Sides { baseline, candidate, .. } = self.sides;
        let experiment = self.experiment;
        let mut body = wrapped(&experiment.hypothesis);
        body.push_str(&format!("\nTechnique: {}\n", experiment.technique));
        body.push_str("\nMeasured\n--------\n");
        body.push_str(&pages::measured(self.records));
        body.push_str("\nCorrectness\n-----------\n");
        body.push_str(&pages::gated(self.records));
        body.push_str("\nHow to test\n-----------\n");
        body.push_str(&self.advice()?);
        body.push_str(&format!("\n{}\n", self.standing()));
        let part = if parts == 1 { String::new() } else { format!(" 1/{parts}") };
        self.mail(&part, &experiment.title, &candidate.commit, &body, [&baseline.tree, &candidate.tree])
    }

    fn tests(&self, patch: &Path) -> Result<String> {
        let on = with_all(self.context, &self.sides.candidate, &self.sides.tests_of_tip)?;
        let with_tests = crate::variant::with_tests(self.context, &on, patch)?.0;
        let changed = self.experiment.gated.as_ref().map_or(vec![], |gated| gated.tests_changed.clone());
        let mut body =
            "Unit tests for the patch before. They were built apart, and no measured build has them.\n".to_owned();
        changed.iter().for_each(|changed| body.push_str(&format!("- {changed}\n")));
        let title = format!("test: {}", self.experiment.title);
        self.mail(" 2/2", &title, &with_tests.commit, &body, [&on.tree, &with_tests.tree])
    }

    /// What differs between two trees, as mail. The patch file itself may have mail of its own above its first file, and would be
    /// two messages.
    fn mail(&self, part: &str, title: &str, commit: &str, body: &str, trees: [&str; 2]) -> Result<String> {
        let store = Store::open(&self.context.work)?;
        let scratch = self.context.scratch("mail-")?;
        let file = scratch.path().join("patch");
        store.write_patch(trees[0], trees[1], &file)?;
        let patch = std::fs::read_to_string(&file).context("a mail needs a patch in UTF-8")?;
        let numbers = store.numbers(trees[0], trees[1])?;
        Ok(message(&Message { author: self.author, part, title, commit, body, numbers: &numbers, patch: &patch }))
    }

    /// What to run, for whoever gets it.
    fn advice(&self) -> Result<String> {
        let Sides { baseline, candidate, .. } = self.sides;
        let files = Store::open(&self.context.work)?.differing_files(&baseline.tree, &candidate.tree)?;
        let config = self.context.config("gate.toml")?;
        let config = model::gate::config::GateConfig::parse(&config).context("config/gate.toml")?;
        let reached: Vec<&str> = config
            .configurations
            .iter()
            .filter(|configuration| configuration.is_part_of(model::gate::Tier::Light, &files))
            .map(|configuration| configuration.name.as_str())
            .collect();
        Ok(format!(
            "The patch touches {}.\n\
             - libevent's own tests: `make verify`, or test/regress with each backend alone\n  (EVENT_NOEPOLL=1 and so on); at \
             least: {}.\n\
             - the same under -fsanitize=address, undefined and thread.\n\
             - in the performance workspace: `cargo xtask exp reproduce EXP`, where EXP is\n  {}, builds both sides anew, gates and measures them, \
             and\n  says whether this result holds on your machine.\n",
            files.join(", "),
            reached.join(", "),
            self.experiment.id
        ))
    }

    /// Where it stands in the ledger, forced or not.
    fn standing(&self) -> String {
        let experiment = self.experiment;
        let decided = experiment.decision.as_ref().map_or("nothing was decided".to_owned(), |decision| {
            format!("the decision rule says {}: {}", decision.verdict.name(), decision.headline())
        });
        let forced =
            experiment.acceptance.as_ref().and_then(|acceptance| acceptance.force()).map_or(String::new(), |force| {
                format!(" It was accepted by {}'s word, against: {}.", force.by, force.against.join("; "))
            });
        let base = match experiment.base.patches.len() {
            0 => format!("{} (tree {:.12})", self.sides.baseline.source.label, self.sides.baseline.source.tree),
            n => format!(
                "{} with {}",
                self.sides.baseline.source.label,
                counted(n, "accepted patch", "accepted patches")
            ),
        };
        wrapped(&format!(
            "{} is {}; {decided}.{forced} Baseline: {base}, commit {:.12}.",
            experiment.id,
            experiment.state.name(),
            self.sides.baseline.commit
        ))
    }

    /// Fails unless `git am` takes what was written, as so many commits of that author, and makes exactly the candidate's files of it.
    fn check(&self, text: &str, parts: usize) -> Result<()> {
        let scratch = self.context.scratch("mail-")?;
        let file = scratch.path().join("mail");
        files::write_atomic(&file, text.as_bytes())?;
        let store = Store::open(&self.context.work)?;
        // The tip has the tests that were accepted with its patches.
        let [from, to] = [&self.sides.baseline, &self.sides.candidate]
            .map(|side| with_all(self.context, side, &self.sides.tests_of_tip));
        let (from, to) = (from?, to?);
        let received = store.am(&from.commit, &file, &scratch.path().join("repository"))?;
        if let Some(other) = received.authors.iter().find(|author| *author != self.author) {
            let message = format!("git reads the author `{}` as `{other}`; write it so with --author", self.author);
            return Err(failure(Exit::Usage, message));
        }
        let wanted = match &self.sides.test_patch {
            Some(tests) => crate::variant::with_tests(self.context, &to, tests)?.0.tree,
            None => to.tree,
        };
        if received.tree == wanted && received.authors.len() == parts {
            return Ok(());
        }
        let message =
            format!("the mail of {} does not make the files of its variant; it was not written", self.experiment.id);
        Err(failure(Exit::Infrastructure, message))
    }
}

/// The author that git knows here.
fn configured_author(context: &Context) -> Result<String> {
    let of = |name: &str| {
        let mut command = Command::new("git");
        command.arg("-C").arg(&context.root).args(["config", "--get", name]);
        let got = process::capture(&mut command, Duration::from_secs(10)).ok()?;
        (got.status.success() && !got.stdout.trim().is_empty()).then(|| got.stdout.trim().to_owned())
    };
    match (of("user.name"), of("user.email")) {
        (Some(name), Some(mail)) => Ok(format!("{name} <{mail}>")),
        _ => {
            Err(failure(Exit::Usage, "git knows no user.name and user.email here; give --author \"Name <name@host>\""))
        }
    }
}

/// What one mail is made of.
struct Message<'a> {
    author: &'a str,
    /// ` 1/2`; empty of a single one.
    part: &'a str,
    title: &'a str,
    commit: &'a str,
    body: &'a str,
    /// Files with lines added and removed.
    numbers: &'a [(String, u64, u64)],
    patch: &'a str,
}

/// One mail as `git format-patch` would write it.
fn message(message: &Message<'_>) -> String {
    let Message { author, part, title, commit, body, numbers, patch } = *message;
    let stat: String =
        numbers.iter().map(|(file, added, removed)| format!(" {file} | +{added} -{removed}\n")).collect();
    // The first line is what mail readers of git know a patch by; its date means nothing.
    format!(
        "From {commit} Mon Sep 17 00:00:00 2001\nFrom: {author}\nDate: {}\nSubject: [PATCH{part}] {}\nMIME-Version: 1.0\n\
         Content-Type: text/plain; charset=UTF-8\nContent-Transfer-Encoding: 8bit\n\n{}---\n{stat} {} changed\n\n{}-- \n{}\n\n",
        jiff::Timestamp::now().strftime("%a, %d %b %Y %H:%M:%S +0000"),
        one_line(title),
        quoted(body),
        counted(numbers.len(), "file", "files"),
        with_line_end(patch),
        env!("CARGO_PKG_VERSION")
    )
}

fn with_line_end(text: &str) -> String {
    if text.ends_with('\n') { text.to_owned() } else { format!("{text}\n") }
}

/// A title as a header may have it: a line end would begin another header.
fn one_line(title: &str) -> String {
    plain(title).split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A line that would end the message, begin another one or a patch, or be taken for a header, is set off.
fn quoted(body: &str) -> String {
    const SIGNS: &[&str] = &["diff -", "Index: ", "--- ", "From ", ">From ", "From:", "Date:", "Subject:", "[PATCH"];
    let begins_something = |line: &str| line == "---" || SIGNS.iter().any(|sign| line.starts_with(sign));
    body.lines().map(|line| if begins_something(line) { format!(" {line}\n") } else { format!("{line}\n") }).collect()
}

/// Text in lines of a mail's width; its own line ends stay.
pub(crate) fn wrapped(text: &str) -> String {
    let mut all = String::new();
    for paragraph in text.lines() {
        let mut width = 0;
        for word in paragraph.split_whitespace() {
            let length = word.chars().count();
            if width > 0 && width + 1 + length > WIDTH {
                all.push('\n');
                width = 0;
            } else if width > 0 {
                all.push(' ');
                width += 1;
            }
            all.push_str(word);
            width += length;
        }
        all.push('\n');
    }
    all
}

fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_as_wide_as_a_mail_and_paragraphs_stay() {
        let text = wrapped(&format!("{}\n\nsecond paragraph", "word ".repeat(40)));
        assert!(text.lines().all(|line| line.len() <= WIDTH), "{text}");
        assert!(text.ends_with("\n\nsecond paragraph\n"), "{text}");
        assert_eq!(text.split_whitespace().count(), 42);
    }

    #[test]
    fn git_takes_the_mail_whatever_is_written_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let source = folder.path().join("source");
        std::fs::create_dir(&source).unwrap();
        let tree = |text: &str| {
            std::fs::write(source.join("event.c"), text).unwrap();
            store.import(&source).unwrap()
        };
        let [before, after] = ["int a;\nint b;\n", "int a;\nint c;\n"].map(tree);
        let root = store.root_commit(&before, "x").unwrap();
        let file = folder.path().join("patch");
        store.write_patch(&before, &after, &file).unwrap();
        let patch = std::fs::read_to_string(&file).unwrap();
        let hypothesis = "From: Somebody Else <else@example.org>\nSubject: another\n\n\
                          From 0123456789012345678901234567890123456789 Mon Sep 17 00:00:00 2001\nFrom: c <c@d>\n\n---\ndiff --git a b\n";
        let mail = message(&Message {
            author: "Ann Ä <ann@example.org>",
            part: "",
            title: "Larger\nBcc: x@example.org\n\nreads",
            commit: &root,
            body: &wrapped(hypothesis),
            numbers: &store.numbers(&before, &after).unwrap(),
            patch: &patch,
        });
        std::fs::write(folder.path().join("mail"), &mail).unwrap();
        let am = |name: &str| store.am(&root, &folder.path().join("mail"), &folder.path().join(name));
        let received = am("one").unwrap();
        assert_eq!(
            (received.tree.as_str(), &received.authors[..]),
            (after.as_str(), &["Ann Ä <ann@example.org>".to_owned()][..])
        );
        assert_eq!(received.subjects, ["Larger Bcc: x@example.org reads"]);
        // What `git format-patch` puts above a patch is a second message in the same file.
        let within = mail.replace(
            &patch,
            &format!("From {root} Mon Sep 17 00:00:00 2001\nFrom: a <a@b>\nSubject: x\n\ny\n---\n{patch}"),
        );
        std::fs::write(folder.path().join("mail"), within).unwrap();
        let error = am("two").unwrap_err();
        assert_eq!(crate::exit::exit_of(&error), Exit::Infrastructure, "{error:#}");
    }

    #[test]
    fn nothing_in_a_message_is_taken_for_a_patch() {
        assert_eq!(quoted("a\n---\ndiff --git a b\n--- a/x\n----\n"), "a\n ---\n diff --git a b\n --- a/x\n----\n");
    }
}
