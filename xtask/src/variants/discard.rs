//! What a rejected candidate has left on the disk: its worktree, its builds and the results of its steps go. Its patch, its records
//! and its samples are the experiment's, and stay.

use super::disk::{self, Holding};
use super::prune::{self, State};
use crate::context::Context;
use crate::exit::{Exit, exit_of};
use crate::git::Store;
use crate::{exp, ledger, lock, progress};
use anyhow::Result;
use std::collections::BTreeMap;

/// Discards what the candidate of a rejected experiment takes of the disk, unless somebody else counts on it. The rejection is
/// written already: what goes wrong here is said, and makes nothing else fail.
pub(crate) fn candidate_of(context: &Context, id: &str) {
    match discarded(context, id) {
        Ok(None) => {}
        Ok(Some(said)) => progress::note(&format!("{id}: {said}")),
        Err(error) if exit_of(&error) == Exit::Locked => progress::note(&format!(
            "{id}: its worktree and builds stay while another run is at work; `cargo xtask variant prune` removes them"
        )),
        Err(error) => progress::note(&format!("{id}: its worktree and builds could not be removed: {error:#}")),
    }
}

fn discarded(context: &Context, id: &str) -> Result<Option<String>> {
    let (_, history) = ledger::read(context)?;
    let Some(attached) = &ledger::named(&history, id)?.attached else { return Ok(None) };
    let is_its = |holding: &Holding| holding.id == attached.variant;
    if !disk::holdings(context)?.iter().any(is_its) {
        return Ok(None);
    }
    // Whoever holds it may be building or measuring this very variant.
    let _lock = lock::take(context, "exp reject")?;
    let Some(holding) = disk::holdings(context)?.into_iter().find(is_its) else { return Ok(None) };
    if let Some(why) = why_kept(&holding, &exp::needed(context)?) {
        return Ok(Some(format!("variant {} stays on the disk: {why}", holding.id)));
    }
    disk::remove(context, &holding)?;
    Store::open(&context.work)?.prune_worktrees()?;
    let bytes = prune::mib(holding.bytes());
    Ok(Some(format!(
        "the worktree and builds of variant {} went ({bytes}); its patch, records and samples stay",
        holding.id
    )))
}

/// Who counts on a variant besides the experiment that was rejected; `None`: nobody.
fn why_kept(holding: &Holding, needed: &BTreeMap<String, String>) -> Option<String> {
    match prune::state(holding, needed) {
        State::Needed => Some(format!("it is a part of {}", needed[&holding.id])),
        State::Named => Some(format!("it has the name {}", holding.names.join(", "))),
        State::Unnamed => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files;
    use crate::ledger::fixtures::{Workspace, rejected};
    use model::ledger::event::TipRef;

    #[test]
    fn a_rejected_candidate_goes_unless_somebody_counts_on_it() {
        let workspace = Workspace::new();
        let context = exp::tests::context(&workspace.place.root);
        let id = workspace.proposed("Larger reads", "patch one\n", &TipRef::default());
        let variant = "c".repeat(12);
        let folder = context.work.join("variants").join(&variant);
        files::write_atomic(&folder.join("src/event.c"), b"x").unwrap();
        let step = context.work.join("steps/gate-0123");
        files::write_atomic(&step.join("inputs.json"), format!("{{\"candidate\":\"{variant}\"}}").as_bytes()).unwrap();
        let said = discarded(&context, &id).unwrap().unwrap();
        assert!(said.contains("stays on the disk") && said.contains(&id), "it is under way: {said}");
        assert!(folder.is_dir() && step.is_dir());

        workspace.book().append(&id, rejected(None), &[]).unwrap();
        let lock = lock::take(&context, "a run").unwrap();
        assert_eq!(exit_of(&discarded(&context, &id).unwrap_err()), Exit::Locked);
        candidate_of(&context, &id);
        assert!(folder.is_dir(), "another run may be at work with it");
        drop(lock);
        candidate_of(&context, &id);
        assert!(!folder.exists() && !step.exists());
        assert!(workspace.place.folder(&id).join("p.patch").is_file(), "the patch stays");
        assert_eq!(discarded(&context, &id).unwrap(), None, "there is nothing to go any more");
    }

    #[test]
    fn names_and_others_keep_a_variant() {
        let holding = |names: &[&str]| Holding {
            id: "c".repeat(12),
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            variant: None,
            unused_s: 0,
            places: vec![],
            used_at: None,
        };
        let none = BTreeMap::new();
        assert_eq!(why_kept(&holding(&[]), &none), None);
        assert_eq!(why_kept(&holding(&["heap"]), &none).unwrap(), "it has the name heap");
        let needed = BTreeMap::from([("c".repeat(12), "EXP-0002".to_owned())]);
        assert_eq!(why_kept(&holding(&[]), &needed).unwrap(), "it is a part of EXP-0002");
    }
}
