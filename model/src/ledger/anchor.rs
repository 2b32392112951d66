//! The head of the ledger, as generated files carry it: a tail that was cut off is missed there.

use super::Ledger;

const BEGIN: &str = "<!-- ledger head ";
const END: &str = " -->";

/// A head that was written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anchor {
    /// Hash of the last line, or [`super::GENESIS`].
    pub head: String,
    /// Lines up to it.
    pub lines: usize,
}

/// What an anchor says of a ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Anchored {
    /// It is the head.
    Current,
    /// So many lines were added since: what is generated is stale.
    Behind(usize),
    /// The line that was the head is not there any more.
    Lost(Lost),
}

/// How a head is missed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Lost {
    /// Fewer lines than there were.
    #[error("the last {gone} of {lines} lines were cut off behind line {line}: the head was {head:.12}...")]
    Cut {
        /// Last line that is there.
        line: usize,
        /// How many are missing.
        gone: usize,
        /// How many there were.
        lines: usize,
        /// The head that there was.
        head: String,
    },
    /// As many lines or more, and none is the one that was the head.
    #[error("line {line} was edited: the line that was the head, {head:.12}..., is not there")]
    Edited {
        /// Where it should be.
        line: usize,
        /// The head that there was.
        head: String,
    },
}

impl Anchor {
    /// Of a ledger.
    pub fn of(ledger: &Ledger) -> Anchor {
        Anchor { head: ledger.head().to_owned(), lines: ledger.lines().len() }
    }

    /// As a line of a generated file.
    pub fn text(&self) -> String {
        format!("{BEGIN}{}, {} lines{END}", self.head, self.lines)
    }

    /// The anchor of a generated file; `None` if it has none.
    pub fn parse(text: &str) -> Option<Anchor> {
        let (inside, _) = text.split_once(BEGIN)?.1.split_once(END)?;
        let (head, lines) = inside.split_once(", ")?;
        let hexadecimal = head.len() == 64 && head.bytes().all(|byte| byte.is_ascii_hexdigit());
        let lines = lines.strip_suffix(" lines")?.parse().ok()?;
        hexadecimal.then(|| Anchor { head: head.to_owned(), lines })
    }

    /// Holds a ledger against it.
    pub fn holds(&self, ledger: &Ledger) -> Anchored {
        let lines = ledger.lines().len();
        if self.head == ledger.head() {
            return Anchored::Current;
        }
        if self.head == super::GENESIS || ledger.line(&self.head).is_some() {
            return Anchored::Behind(lines.saturating_sub(self.lines));
        }
        let head = self.head.clone();
        Anchored::Lost(match self.lines.checked_sub(lines) {
            Some(gone @ 1..) => Lost::Cut { line: lines, gone, lines: self.lines, head },
            _ => Lost::Edited { line: self.lines, head },
        })
    }
}
