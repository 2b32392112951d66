// A user's workloads in Rust: copy this file, change it, and build it in:
//
//     cargo xtask bench --workload-file hello.rs --workload 'hello.*'
//
// It becomes a module of the crate `bench-harness`, so everything of that crate is under `crate::`.
// It measures evbuffer_pullup(): pieces that lie in separate chains made contiguous.

use crate::Workload;
use crate::checksum::{Fold, pattern};
use crate::user::UserWorkload;
use anyhow::{Result, ensure};
use libevent_sys::EvBuffer;
use model::workload::{Checksum, Metric, WorkloadSpec};

const ROUNDS: usize = 3000;
const PIECES: usize = 4;
const PIECE_BYTES: usize = 1024;

/// The one function that a file must export.
pub fn workloads() -> Vec<UserWorkload> {
    let spec = WorkloadSpec {
        name: "hello.pullup.4096".into(),
        kind: "hello_pullup".into(),
        params: toml::Table::new(),
        event: "four pieces of 1 KiB moved into a buffer and made contiguous".into(),
        batch_events: ROUNDS as u64,
        checksum: Checksum(0x5ae2_45b9_6038_48d0),
        metric: Metric::CpuTime,
        peer_process: false,
        threads: false,
        needs: None,
        exact_counts: true,
    };
    vec![UserWorkload { spec, set_up: Box::new(|| Ok(Box::new(Pullup::new()?))) }]
}

struct Pullup {
    source: EvBuffer,
    buffer: EvBuffer,
    pieces: Vec<Vec<u8>>,
    fold: Fold,
}

impl Pullup {
    fn new() -> Result<Self> {
        let pieces = (0..PIECES as u64).map(|seed| pattern(seed, PIECE_BYTES)).collect();
        Ok(Pullup { source: EvBuffer::new()?, buffer: EvBuffer::new()?, pieces, fold: Fold::default() })
    }
}

/// What is kept of one round: a byte of every piece, at places that change from round to round.
fn sample(round: usize, all: &[u8]) -> u64 {
    let at = |piece: usize| piece * PIECE_BYTES + round % PIECE_BYTES;
    (0..PIECES).fold(all.len() as u64, |sum, piece| sum << 8 | u64::from(all[at(piece)]))
}

impl Workload for Pullup {
    fn prepare(&mut self) -> Result<()> {
        self.fold = Fold::default();
        Ok(())
    }

    fn run(&mut self) -> Result<u64> {
        for round in 0..ROUNDS {
            for piece in &self.pieces {
                // A chain of its own for each piece: add_buffer moves chains without a copy.
                self.source.add(piece)?;
                self.buffer.add_buffer(&mut self.source)?;
            }
            self.fold.add(sample(round, self.buffer.pullup(None)?));
            self.buffer.drain(PIECES * PIECE_BYTES)?;
        }
        Ok(ROUNDS as u64)
    }

    fn finish(&mut self) -> Result<u64> {
        ensure!(self.buffer.is_empty(), "{} bytes are left in the buffer", self.buffer.len());
        Ok(self.fold.finish())
    }

    fn expected_checksum(&self) -> u64 {
        let all = self.pieces.concat();
        let mut fold = Fold::default();
        (0..ROUNDS).for_each(|round| fold.add(sample(round, &all)));
        fold.finish()
    }
}
