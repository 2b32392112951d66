//! `evbuffer`: every operation over every chain layout, contents against a plain vector.

mod calls;
mod draw;
mod files;
mod layouts;
mod model;
mod op;
mod sockets;
mod world;

use crate::Rng;
use crate::family::{Family, Verdict};
use op::Op;
use world::{BUFFERS, World};

/// The family.
pub(crate) struct Buffers(World);

impl Family for Buffers {
    type Op = Op;
    const NAME: &'static str = "evbuffer";
    const ABOUT: &'static str = "every operation over every chain layout, contents against a plain vector";

    fn systematic() -> u64 {
        layouts::count()
    }

    fn generate(rng: &mut Rng, number: u64) -> Vec<Op> {
        if number < layouts::count() { layouts::case(number) } else { draw::case(rng) }
    }

    fn start() -> Result<Self, String> {
        World::new().map(Buffers)
    }

    fn apply(&mut self, op: &Op) -> Verdict {
        let world = &mut self.0;
        match op {
            Op::Read { .. } | Op::ReadNothing { .. } | Op::ReadEof { .. } => sockets::read(world, op)?,
            Op::Write { .. } | Op::WriteFull { .. } | Op::WriteBlocked { .. } => sockets::write(world, op)?,
            Op::AddFile { .. }
            | Op::NewSegment { .. }
            | Op::AddSegment { .. }
            | Op::FreeSegment
            | Op::SendFile { .. } => {
                files::apply(world, op)?;
            }
            _ => calls::apply(world, op)?,
        }
        touch(world, op);
        world.check()
    }

    fn finish(self) -> Verdict {
        self.0.finish()
    }
}

/// Marks the buffers that an operation names: any call may leave chains without bytes behind, except
/// those that never make one.
fn touch(world: &mut World, op: &Op) {
    if matches!(op, Op::AddCallback { .. } | Op::EnableLocking { .. } | Op::Free { .. }) {
        return;
    }
    let written = serde_json::to_value(op).unwrap_or_default();
    for name in ["b", "to", "from"] {
        let fields = written.as_object().and_then(|variant| variant.values().next());
        if let Some(b) = fields.and_then(|fields| fields.get(name)?.as_u64()) {
            world.slots[b as usize % BUFFERS].touched = true;
        }
    }
}

/// The buffer that an operation names.
fn at(b: u8) -> usize {
    usize::from(b) % BUFFERS
}
