//! `lifetimes`: base, bufferevents, buffers, listeners and events torn down in every order, with callbacks, writes and
//! references pending.

mod draw;
mod make;
mod op;
mod things;
mod work;

use crate::Rng;
use crate::family::{Family, Verdict};
use op::Op;
use things::World;

/// The family.
pub(crate) struct Lifetimes(&'static World);

impl Family for Lifetimes {
    type Op = Op;
    const NAME: &'static str = "lifetimes";
    const ABOUT: &'static str = "base, bufferevents, buffers, listeners and events torn down in every order";

    fn systematic() -> u64 {
        draw::count()
    }

    fn generate(rng: &mut Rng, number: u64) -> Vec<Op> {
        if number < draw::count() { draw::systematic(number) } else { draw::case(rng) }
    }

    fn start() -> Result<Self, String> {
        Ok(Lifetimes(World::leak()))
    }

    fn apply(&mut self, op: &Op) -> Verdict {
        match op {
            Op::Threads
            | Op::NewSocket { .. }
            | Op::NewPair { .. }
            | Op::NewFilter { .. }
            | Op::NewBuffer { .. }
            | Op::NewListener { .. }
            | Op::Connect { .. }
            | Op::NewEvent { .. } => make::apply(self.0, op)?,
            _ => work::apply(self.0, op)?,
        }
        self.0.say();
        Ok(())
    }

    fn finish(self) -> Verdict {
        self.0.finish()
    }
}
