//! What a family of model tests is: how its cases are drawn and what an operation does.

use crate::case::Case;
use crate::{Rng, locks, observe};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Debug;

/// `Err` is a violation of the reference model, in words that do not vary between two runs.
pub type Verdict = Result<(), String>;

/// A set of cases over one part of libevent.
///
/// Any part of a case's list of operations is a case as well, since failures are shrunk by leaving
/// operations out: an operation whose object does not exist (any more) does nothing. Objects are
/// named by small numbers, taken modulo what there is.
///
/// Nothing that varies between two runs of a correct library may be observed: no addresses, no
/// descriptor numbers, no times.
pub trait Family: Sized {
    /// One step of a case.
    type Op: Serialize + DeserializeOwned + Debug;

    /// Name on the command line.
    const NAME: &'static str;
    /// One line for `list`.
    const ABOUT: &'static str;
    /// Most time for one case, in a process of its own.
    const LIMIT_SECONDS: u64 = 20;
    /// At the end of a case libevent must have given back all memory (`memory.rs`).
    const CHECKS_MEMORY: bool = true;

    /// Between operations no lock may be held (`locks.rs`): there is one thread.
    const CHECKS_LOCKS: bool = true;

    /// How many cases enumerate something: they have the first numbers and ignore the draws.
    fn systematic() -> u64 {
        0
    }

    /// The operations of case `number`; from [`Family::systematic`] on they are drawn.
    fn generate(rng: &mut Rng, number: u64) -> Vec<Self::Op>;

    /// What exists before the first operation.
    fn start() -> Result<Self, String>;

    /// Does one operation: calls libevent, observes what it returned, compares with the model.
    fn apply(&mut self, op: &Self::Op) -> Verdict;

    /// Frees everything, in an order of the family's choice; last checks.
    fn finish(self) -> Verdict;
}

/// A family without its types, for the registry.
#[derive(Clone, Copy)]
pub(crate) struct Entry {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) systematic: fn() -> u64,
    pub(crate) limit_seconds: u64,
    pub(crate) checks_memory: bool,
    pub(crate) generate: fn(seed: u64, number: u64) -> Result<Case, String>,
    pub(crate) run: fn(case: &Case) -> Verdict,
}

/// The registry's line for a family.
pub(crate) fn entry<F: Family>() -> Entry {
    Entry {
        name: F::NAME,
        about: F::ABOUT,
        systematic: F::systematic,
        limit_seconds: F::LIMIT_SECONDS,
        checks_memory: F::CHECKS_MEMORY,
        generate: generate::<F>,
        run: run::<F>,
    }
}

fn generate<F: Family>(seed: u64, number: u64) -> Result<Case, String> {
    let mut rng = Case::rng(F::NAME, seed, number);
    let ops = F::generate(&mut rng, number).iter().map(serde_json::to_value).collect::<Result<_, _>>();
    let ops = ops.map_err(|error| format!("an operation cannot be written down: {error}"))?;
    Ok(Case::new(F::NAME, seed, number, ops))
}

fn run<F: Family>(case: &Case) -> Verdict {
    let ops = case.ops.iter().map(|op| serde_json::from_value(op.clone())).collect::<Result<Vec<F::Op>, _>>();
    let ops = ops.map_err(|error| format!("not an operation of family {}: {error}", F::NAME))?;
    let mut family = F::start()?;
    for (index, op) in ops.iter().enumerate() {
        observe::step(index, op);
        family.apply(op)?;
        if F::CHECKS_LOCKS && locks::held() != 0 {
            return Err(format!("{} locks are held after the call", locks::held()));
        }
        observe::violation()?;
    }
    observe::step_end(ops.len());
    family.finish()?;
    observe::violation()
}
