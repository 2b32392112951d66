//! Text in buffers: lines and searches.

use super::evbuffer::fold_content;
use crate::Workload;
use crate::checksum::{Fold, pattern};
use crate::params::Params;
use crate::registry::Constructor;
use anyhow::{Context, Result, ensure};
use libevent_sys::{Eol, EvBuffer, EvBufferRef};

/// Kinds of this file.
pub const KINDS: &[(&str, Constructor)] = &[
    ("evbuffer_readln", |params| Ok(Box::new(Readln::new(params)?))),
    ("evbuffer_search", |params| Ok(Box::new(Search::new(params)?))),
];

/// Size of the pieces in which text is appended: as if read from a socket.
const PIECE_BYTES: usize = 4096;

/// Letters a to j, each as frequent as `e` in English text: a search meets the first letter of its
/// needle, and no more of it, every ten bytes.
fn letters(seed: u64, len: usize) -> Vec<u8> {
    pattern(seed, len).into_iter().map(|byte| b'a' + byte % 10).collect()
}

fn append_in_pieces(buffer: &mut EvBufferRef, text: &[u8]) -> Result<()> {
    for piece in text.chunks(PIECE_BYTES) {
        buffer.add(piece)?;
    }
    Ok(())
}

/// Takes lines, ended by CR LF and 16 to 63 bytes long, off a buffer that holds all of them.
struct Readln {
    buffer: EvBuffer,
    text: Vec<u8>,
    fold: Fold,
    batch_events: u64,
}

impl Readln {
    fn new(params: &Params<'_>) -> Result<Self> {
        let lines = params.batch_events();
        let lengths = pattern(1, usize::try_from(lines)?);
        let letters = letters(2, 16 + 64 + 64);
        let mut text = Vec::new();
        for length in lengths {
            // Start and length differ from line to line, and with them the content.
            text.extend_from_slice(&letters[usize::from(length) / 4..][..16 + usize::from(length) % 48]);
            text.extend_from_slice(b"\r\n");
        }
        Ok(Readln { buffer: EvBuffer::new()?, text, fold: Fold::default(), batch_events: lines })
    }

    /// The lines as they must come out.
    fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
        text.split(|byte| *byte == b'\n').filter_map(|line| line.strip_suffix(b"\r"))
    }

    /// The work of a batch. `inspect` sees every line that was taken off.
    #[inline]
    fn pass(&mut self, mut inspect: impl FnMut(&[u8]) -> Result<()>) -> Result<u64> {
        let mut fold = self.fold;
        let buffer: &mut EvBufferRef = &mut self.buffer;
        for _ in 0..self.batch_events {
            let line = buffer.readln(Eol::Crlf).context("fewer lines came out than went in")?;
            fold_line(&mut fold, &line);
            inspect(&line)?;
        }
        self.fold = fold;
        Ok(self.batch_events)
    }
}

/// What is folded of a line while the clock runs: its length and its last eight bytes.
#[inline]
fn fold_line(fold: &mut Fold, line: &[u8]) {
    let tail = line.last_chunk().map_or(0, |tail| u64::from_le_bytes(*tail));
    fold.add(tail ^ line.len() as u64);
}

impl Workload for Readln {
    fn verify(&mut self) -> Result<()> {
        let text = self.text.clone();
        let mut lines = Readln::lines(&text).enumerate();
        self.prepare()?;
        self.pass(|line| {
            let (number, wanted) = lines.next().context("more lines came out than went in")?;
            ensure!(line == wanted, "line {number} is not the one that went in");
            Ok(())
        })?;
        ensure!(self.buffer.is_empty(), "{} bytes are left after the last line", self.buffer.len());
        Ok(())
    }

    fn prepare(&mut self) -> Result<()> {
        ensure!(self.buffer.is_empty());
        self.fold = Fold::default();
        append_in_pieces(&mut self.buffer, &self.text)
    }

    fn run(&mut self) -> Result<u64> {
        self.pass(|_| Ok(()))
    }

    fn finish(&mut self) -> Result<u64> {
        ensure!(self.buffer.readln(Eol::Crlf).is_none(), "more lines came out than went in");
        fold_content(&mut self.buffer, &mut self.fold)?;
        Ok(self.fold.finish())
    }

    fn expected_checksum(&self) -> u64 {
        let mut fold = Fold::default();
        for line in Readln::lines(&self.text) {
            fold_line(&mut fold, line);
        }
        fold.add_bytes(&[]);
        fold.finish()
    }
}

/// Searches `haystack_bytes` of letters for a needle that occurs at their very end only.
struct Search {
    buffer: EvBuffer,
    text: Vec<u8>,
    needle: Vec<u8>,
    found: Fold,
    batch_events: u64,
}

impl Search {
    fn new(params: &Params<'_>) -> Result<Self> {
        let (haystack_bytes, needle_bytes) = (params.usize("haystack_bytes")?, params.usize("needle_bytes")?);
        ensure!((2..=haystack_bytes).contains(&needle_bytes), "needle_bytes must be in 2..=haystack_bytes");
        let mut text = letters(3, haystack_bytes);
        *text.last_mut().context("an empty haystack")? = b'!';
        let needle = text[haystack_bytes - needle_bytes..].to_vec();
        let mut buffer = EvBuffer::new()?;
        append_in_pieces(&mut buffer, &text)?;
        Ok(Search { buffer, text, needle, found: Fold::default(), batch_events: params.batch_events() })
    }
}

/// Not found, in the checksum.
const NOWHERE: u64 = u64::MAX;

impl Workload for Search {
    fn prepare(&mut self) -> Result<()> {
        self.found = Fold::default();
        Ok(())
    }

    fn run(&mut self) -> Result<u64> {
        let mut found = self.found;
        for _ in 0..self.batch_events {
            found.add(self.buffer.search(&self.needle, 0).map_or(NOWHERE, |position| position as u64));
        }
        self.found = found;
        Ok(self.batch_events)
    }

    /// Two more searches keep a wrong shortcut out: one for what is not there, one from the middle
    /// of the only place.
    fn finish(&mut self) -> Result<u64> {
        let position = self.text.len() - self.needle.len();
        for (needle, from) in [(&b"abcdefgh!"[..], 0), (&self.needle[..], position + 1)] {
            self.found.add(self.buffer.search(needle, from).map_or(NOWHERE, |position| position as u64));
        }
        Ok(self.found.finish())
    }

    fn expected_checksum(&self) -> u64 {
        let find = |needle: &[u8], from: usize| {
            let windows = self.text[from..].windows(needle.len());
            windows.into_iter().position(|window| window == needle).map_or(NOWHERE, |at| (from + at) as u64)
        };
        let position = find(&self.needle, 0);
        let mut fold = Fold::default();
        (0..self.batch_events).for_each(|_| fold.add(position));
        fold.add(find(b"abcdefgh!", 0));
        fold.add(find(&self.needle, self.text.len() - self.needle.len() + 1));
        fold.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::super::damage::{Damage, Kind, made};
    use super::*;

    #[test]
    fn wrong_letters_in_the_middle_are_noticed() {
        let damage = Damage::new(Kind::Flip);
        let mut lines = made("evbuffer.readln", Readln::new);
        damage.attach(&lines.buffer);
        assert!(damage.is_seen_by_verify(&mut lines).contains("is not the one that went in"));
    }
}
