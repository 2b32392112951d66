//! What a person decides: accept, reject, park, explain. The program refuses an acceptance that the evidence does not bear.

use super::evidence::{self, Records, Rules};
use super::open::{append, refuse_if_unsettled, stale};
use super::sides;
use crate::context::Context;
use crate::exit::{Exit, failure};
use crate::ledger::{self, Book};
use crate::{progress, source, tip};
use anyhow::{Context as _, Result};
use model::decision::{Decision, Verdict};
use model::experiment::State;
use model::ledger::event::{About, Acceptance, Because, Decided, Event, Explained, Forced, Rejected};
use model::ledger::history::{Experiment, UNSETTLED};
use model::plain::plain;
use std::io::{BufRead as _, IsTerminal as _, Write as _};

/// Accepts the patch of an experiment: it becomes part of the tip. Without `force` only if the full gate, a confirmed
/// comparison and the profile are there and hold, against the tip that there is.
pub(crate) fn accept(context: &Context, text: &str, reason: &str, force: bool) -> Result<String> {
    let source = source::ensure_pinned(context)?.source;
    let (_, history) = ledger::read(context)?;
    let experiment = ledger::named(&history, text)?.clone();
    let id = &experiment.id;
    if !force && let Some(why) = history.needs_rebase(&experiment) {
        return Err(stale(&experiment, &why));
    }
    refuse_if_unsettled(&history)?;
    if experiment.state == State::Accepted {
        return Err(failure(Exit::Usage, format!("{id} is part of the tip already")));
    }
    let sides = sides::sides(context, &history, &experiment)?;
    let records = Records::of(context, &history, &experiment)?;
    let outcome = records.decide(&sides.baseline, &sides.candidate, &Rules::read(context)?);
    let decision = evidence::decision(&outcome).clone();
    let stands = history.needs_rebase(&experiment).is_none() && experiment.state == State::Measured;
    let word = match (&outcome, force) {
        (Ok(_), _) if stands => None,
        (_, false) => return Err(refused(&experiment, &decision)),
        (_, true) => Some(persons_word(id, &decision)?),
    };
    let mut book = ledger::write(context)?;
    // Somebody else may have written meanwhile.
    let now = ledger::named(book.history(), id)?.clone();
    if now != experiment || book.history().accepted() != history.accepted() {
        let message = format!("the ledger changed while {id} was looked at; run the same command again");
        return Err(failure(Exit::Infrastructure, message));
    }
    if word.is_none() && book.is_unclean() {
        return Err(failure(Exit::Usage, unclean(id)));
    }
    let derived = tip::with(context, &source, book.history(), &experiment)?;
    let acceptance = match (&outcome, word) {
        (_, Some(word)) => Acceptance::forced(word, reason, derived.reference),
        (Ok(acceptable), None) => {
            // By other rules, or by a harness whose rules nobody can see, is not by these.
            if experiment.decision.as_ref() != Some(&decision) || experiment.decided_unclean {
                let attempt = Some(experiment.attempt);
                append(&mut book, id, Event::Decided(Decided { decision, attempt }))?;
            }
            Acceptance::earned(acceptable, reason, derived.reference)
        }
        (Err(decision), None) => return Err(refused(&experiment, decision)),
    };
    append(&mut book, id, Event::Accepted(acceptance))?;
    Ok(id.clone())
}

/// Why nothing is accepted on the word of this harness.
fn unclean(id: &str) -> String {
    format!(
        "{id} cannot be accepted by a harness with changes that no commit has (`git status`): among them may be other rules, \
         and nobody could see by which it was accepted. Commit or undo them, and run the same command again"
    )
}

/// Why an acceptance is refused, with everything that stands against it.
fn refused(experiment: &Experiment, decision: &Decision) -> anyhow::Error {
    let against: Vec<String> = against(decision).into_iter().map(|text| format!("  {text}")).collect();
    let exit = match decision.verdict {
        Verdict::Reject => Exit::Failed,
        Verdict::InfraError => Exit::Infrastructure,
        Verdict::Inconclusive | Verdict::Park => Exit::Inconclusive,
        Verdict::Accept => Exit::Failed,
    };
    let why = if against.is_empty() {
        format!("  it is {}; run it first", experiment.state.name())
    } else {
        against.join("\n")
    };
    let message = format!(
        "{} cannot be accepted; the evidence says {}:\n{why}\nOnly a person can accept it against that, on a terminal, with \
         --force; the ledger and every report then say so",
        experiment.id,
        decision.verdict.name()
    );
    failure(exit, message)
}

/// What stands against accepting, in sentences.
fn against(decision: &Decision) -> Vec<String> {
    let reasons = decision.reasons.iter().filter(|reason| reason.allows != Verdict::Accept);
    reasons.map(|reason| format!("{}: {}", reason.allows.name(), reason.text)).collect()
}

/// A person, on a terminal, by typing the experiment's name. There is no option that does it.
fn persons_word(id: &str, decision: &Decision) -> Result<Forced> {
    let against = against(decision);
    let shown: String = against.iter().map(|text| format!("  {text}\n")).collect();
    let question = format!(
        "The evidence says {} about {id}:\n{shown}If you accept it all the same, the ledger and every report will say that you \
         did.\nType the experiment's whole name to accept it: ",
        decision.verdict.name()
    );
    ask_for_name(id, "--force", &question)?;
    Ok(Forced { by: person(), against })
}

/// A person, on a terminal, stands behind an explanation: it takes away what stands against the patch, as `--force` does.
fn confirmed(id: &str, decision: Option<&Decision>, about: About) -> Result<()> {
    let reasons = decision.iter().flat_map(|decision| &decision.reasons).filter(|reason| reason.topic == about.topic());
    let shown: String = reasons.map(|reason| format!("  {}\n", reason.text)).collect();
    let question = format!(
        "Of {id}:\n{shown}With your explanation, this stands against the patch no more, and every report will name you.\nType \
         the experiment's whole name to give it: "
    );
    ask_for_name(id, &format!("--about {}", about.name()), &question)
}

/// Who explains: a name that is given is not proof of one, so the user is named, too.
fn signed(by: Option<&str>, user: &str) -> String {
    match by.map(str::trim) {
        Some(by) if by != user => format!("{by} (user {user})"),
        _ => user.to_owned(),
    }
}

/// Goes on only if somebody at a terminal types the experiment's whole name.
fn ask_for_name(id: &str, option: &str, question: &str) -> Result<()> {
    let (stdin, mut stderr) = (std::io::stdin(), std::io::stderr());
    if !stdin.is_terminal() || !stderr.is_terminal() {
        let message = format!("{option} is a person's word: it is asked for on a terminal, and this is none");
        return Err(failure(Exit::Usage, message));
    }
    // Sentences of patches are in it, and somebody is about to believe what stands there.
    write!(stderr, "{}", plain(question))?;
    stderr.flush()?;
    let mut line = String::new();
    stdin.lock().read_line(&mut line).context("cannot read the answer")?;
    if line.trim() != id {
        return Err(failure(Exit::Usage, "that is not its name; nothing was changed"));
    }
    Ok(())
}

/// Who is at the terminal, as the system names them. Not by variables, in which anybody writes any name.
pub(super) fn person() -> String {
    // SAFETY: getuid cannot fail and has no preconditions.
    let number = unsafe { libc::getuid() };
    user_name(number).unwrap_or_else(|| format!("user {number}"))
}

/// The name that the system has for a user.
fn user_name(number: libc::uid_t) -> Option<String> {
    // Far more than an entry of any system takes.
    let mut buffer = vec![0; 64 << 10];
    let mut entry = std::mem::MaybeUninit::<libc::passwd>::zeroed();
    let mut found: *mut libc::passwd = std::ptr::null_mut();
    // SAFETY: the entry, the buffer with its length and the place of the result are valid for writes, and outlive the call.
    let failed =
        unsafe { libc::getpwuid_r(number, entry.as_mut_ptr(), buffer.as_mut_ptr(), buffer.len(), &raw mut found) };
    if failed != 0 || found.is_null() {
        return None;
    }
    // SAFETY: a result that is not null points to the entry, whose name is a text in the buffer, which is still there.
    let name = unsafe { std::ffi::CStr::from_ptr((*found).pw_name) };
    name.to_str().ok().filter(|name| !name.is_empty()).map(str::to_owned)
}

/// Rejects an experiment; one that was accepted goes out of the tip, if the later patches can do without it. Where nobody knows
/// what the patches come to, nobody has to say what is left: else branches that do not go together could not be taken apart.
pub(crate) fn reject(context: &Context, text: &str, reason: &str, non_starter: bool) -> Result<String> {
    let source = source::ensure_pinned(context)?.source;
    let mut book = ledger::write(context)?;
    let experiment = ledger::named(book.history(), text)?.clone();
    let tip = match experiment.state {
        State::Accepted => tip::left(context, &source, book.history(), &experiment.id)?,
        _ => None,
    };
    let event = Event::Rejected(Rejected { reason: reason.to_owned(), non_starter, tip });
    append(&mut book, &experiment.id, event)?;
    if book.history().is_unsettled() {
        progress::note(&format!("the patch is out of the tip, and {UNSETTLED}"));
    }
    Ok(experiment.id)
}

/// Puts an experiment aside.
pub(crate) fn park(context: &Context, text: &str, reason: &str) -> Result<String> {
    with_reason(context, text, Event::Parked, reason)
}

/// Writes down something that a reader of an experiment should know.
pub(crate) fn note(context: &Context, text: &str, note: &str) -> Result<String> {
    with_reason(context, text, Event::Noted, note)
}

fn with_reason(context: &Context, text: &str, event: impl Fn(Because) -> Event, reason: &str) -> Result<String> {
    let mut book = ledger::write(context)?;
    let id = ledger::named(book.history(), text)?.id.clone();
    append(&mut book, &id, event(Because { reason: reason.to_owned() }))?;
    Ok(id)
}

/// Writes down a reviewer's explanation of what figures alone do not explain, and decides anew with it.
pub(crate) fn explain(
    context: &Context,
    text: &str,
    about: About,
    explanation: &str,
    by: Option<&str>,
) -> Result<String> {
    let (_, history) = ledger::read(context)?;
    let experiment = ledger::named(&history, text)?;
    let user = person();
    let explained = Explained { about, text: explanation.to_owned(), by: signed(by, &user), user: Some(user) };
    history.explainable(experiment, &explained).map_err(|illegal| failure(Exit::Usage, illegal.to_string()))?;
    if by.is_some_and(|by| experiment.author.as_deref().is_some_and(|author| author.trim() == by.trim())) {
        let message = format!("{} was proposed by that name; somebody else has to explain it", experiment.id);
        return Err(failure(Exit::Usage, message));
    }
    let id = experiment.id.clone();
    confirmed(&id, experiment.decision.as_ref(), about)?;
    let mut book: Book = ledger::write(context)?;
    append(&mut book, &id, Event::Explained(explained))?;
    let experiment = ledger::named(book.history(), &id)?.clone();
    if experiment.measured.is_none() || experiment.state != State::Measured {
        return Ok(id);
    }
    let sides = sides::sides(context, book.history(), &experiment)?;
    let records = Records::of(context, book.history(), &experiment)?;
    let outcome = records.decide(&sides.baseline, &sides.candidate, &Rules::read(context)?);
    let decision = evidence::decision(&outcome).clone();
    if experiment.decision.as_ref() != Some(&decision) {
        let attempt = Some(experiment.attempt);
        append(&mut book, &id, Event::Decided(Decided { decision, attempt }))?;
    }
    Ok(id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::exit_of;
    use crate::exp::tests::context;
    use crate::ledger::fixtures::Workspace;
    use model::ledger::event::TipRef;

    #[test]
    fn nothing_is_explained_in_advance() {
        let workspace = Workspace::new();
        let context = context(&workspace.place.root);
        let id = workspace.proposed("Larger reads", "patch one\n", &TipRef::default());
        let before = workspace.bytes();
        for about in [About::Profile, About::Suspicion, About::Screened] {
            let error = explain(&context, &id, about, "it is memmem", Some("a reviewer")).unwrap_err();
            assert_eq!(exit_of(&error), Exit::Usage);
            assert!(error.to_string().contains("no decision of this attempt asks"), "{error}");
        }
        assert_eq!(workspace.bytes(), before, "nothing was written");
    }

    #[test]
    fn who_explains_is_named_with_the_user_that_typed_it() {
        assert_eq!(signed(None, "ann"), "ann");
        assert_eq!(signed(Some(" ann "), "ann"), "ann");
        assert_eq!(signed(Some("Bob"), "ann"), "Bob (user ann)");
    }

    #[test]
    fn the_user_is_who_the_system_says_and_no_variable() {
        assert_eq!(user_name(0).as_deref(), Some("root"));
        assert_eq!(user_name(libc::uid_t::MAX - 7), None, "nobody has that number");
        assert!(!person().is_empty());
        // The program of the tests has no terminal to ask on, or is not answered with the name.
        let (stdin, stderr) = (std::io::stdin(), std::io::stderr());
        for about in [About::Profile, About::Suspicion, About::Screened] {
            if !stdin.is_terminal() || !stderr.is_terminal() {
                let error = confirmed("EXP-0001-x-000000", None, about).unwrap_err();
                assert!(error.to_string().contains("a person's word"), "{error}");
            }
        }
    }

    #[test]
    fn what_the_ledger_knows_of_a_patch_reaches_its_decision() {
        let workspace = Workspace::new();
        let context = context(&workspace.place.root);
        let id = workspace.proposed("Larger reads", "patch one\n", &TipRef::default());
        let (_, history) = ledger::read(&context).unwrap();
        let records = Records::of(&context, &history, &history.experiments[&id]).unwrap();
        assert_eq!(records.screened, ["event.c:1 getenv: `x`"]);
        assert_eq!((records.attempts.map(|attempts| attempts.here), records.unclean.len()), (Some(1), 0));
        assert_eq!(records.test_patch, None);
    }
}
