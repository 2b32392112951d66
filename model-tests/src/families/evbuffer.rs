//! `evbuffer`: every operation over every chain layout.

use crate::family::{Family, Verdict};
use crate::{Rng, observe};
use libevent_sys::EvBuffer;
use serde::{Deserialize, Serialize};

/// One step.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Op {
    /// Appends that many bytes.
    Add(usize),
    /// Drains that many bytes.
    Drain(usize),
}

/// The buffers and their models.
pub(crate) struct Buffers {
    buffer: EvBuffer,
    len: usize,
}

impl Family for Buffers {
    type Op = Op;
    const NAME: &'static str = "evbuffer";
    const ABOUT: &'static str = "every operation over every chain layout, contents against a plain vector";

    fn generate(rng: &mut Rng, _number: u64) -> Vec<Op> {
        (0..rng.usize(1..40))
            .map(|_| if rng.bool() { Op::Add(rng.usize(0..5000)) } else { Op::Drain(rng.usize(0..5000)) })
            .collect()
    }

    fn start() -> Result<Self, String> {
        Ok(Buffers { buffer: EvBuffer::new().map_err(|error| error.to_string())?, len: 0 })
    }

    fn apply(&mut self, op: &Op) -> Verdict {
        match op {
            Op::Add(len) => {
                self.buffer.add(&vec![1; *len]).map_err(|error| error.to_string())?;
                self.len += len;
            }
            Op::Drain(len) => {
                self.buffer.drain(*len).map_err(|error| error.to_string())?;
                self.len = self.len.saturating_sub(*len);
            }
        }
        observe!("length {}", self.buffer.len());
        if self.buffer.len() == self.len {
            Ok(())
        } else {
            Err(format!("{} bytes, not {}", self.buffer.len(), self.len))
        }
    }

    fn finish(self) -> Verdict {
        Ok(())
    }
}
