//! What the calls mean, on a plain slice of bytes.

use libevent_sys::ffi;
use serde::{Deserialize, Serialize};

/// Bytes that an operation puts somewhere: their number and what they are.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Data {
    pub(crate) len: usize,
    /// Odd: with many ends of lines; even: of all values.
    pub(crate) salt: u32,
}

impl Data {
    pub(crate) fn bytes(self) -> Vec<u8> {
        let lines = b"ab\r\n\0c\r\nd\nxyz";
        let byte = |index: usize| {
            let mixed = (index as u32 ^ self.salt.wrapping_mul(0x9E37_79B9)).wrapping_mul(0x85EB_CA6B);
            let mixed = (mixed ^ (mixed >> 13)).wrapping_mul(0xC2B2_AE35) >> 16;
            if self.salt % 2 == 1 { lines[mixed as usize % lines.len()] } else { mixed as u8 }
        };
        (0..self.len).map(byte).collect()
    }
}

/// What ends a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Eol {
    Any,
    Crlf,
    CrlfStrict,
    Lf,
    Nul,
}

impl Eol {
    pub(crate) const ALL: [Eol; 5] = [Eol::Any, Eol::Crlf, Eol::CrlfStrict, Eol::Lf, Eol::Nul];

    /// As libevent names it.
    pub(crate) fn raw(self) -> ffi::evbuffer_eol_style::Type {
        match self {
            Eol::Any => ffi::evbuffer_eol_style::EVBUFFER_EOL_ANY,
            Eol::Crlf => ffi::evbuffer_eol_style::EVBUFFER_EOL_CRLF,
            Eol::CrlfStrict => ffi::evbuffer_eol_style::EVBUFFER_EOL_CRLF_STRICT,
            Eol::Lf => ffi::evbuffer_eol_style::EVBUFFER_EOL_LF,
            Eol::Nul => ffi::evbuffer_eol_style::EVBUFFER_EOL_NUL,
        }
    }

    /// Place and length of the first end of a line at or after `start`.
    pub(crate) fn find(self, bytes: &[u8], start: usize) -> Option<(usize, usize)> {
        let is_any = |byte: &u8| matches!(byte, b'\r' | b'\n');
        let from = bytes.get(start..)?;
        match self {
            Eol::Any => {
                let at = from.iter().position(is_any)?;
                Some((start + at, from[at..].iter().take_while(|byte| is_any(byte)).count()))
            }
            Eol::Crlf => {
                let at = from.iter().position(|byte| *byte == b'\n')?;
                // The CR must not lie before the start.
                Some(if at > 0 && from[at - 1] == b'\r' { (start + at - 1, 2) } else { (start + at, 1) })
            }
            Eol::CrlfStrict => Some((start + find(from, b"\r\n")?, 2)),
            Eol::Lf => Some((start + from.iter().position(|byte| *byte == b'\n')?, 1)),
            Eol::Nul => Some((start + from.iter().position(|byte| *byte == 0)?, 1)),
        }
    }
}

/// First place of `needle`, slowly and plainly.
pub(crate) fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    bytes.windows(needle.len()).position(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_of_lines_are_found_as_the_header_says() {
        let bytes = b"a\r\nb\n\n\r\0\r\r\n";
        let all = |start| Eol::ALL.map(|eol| eol.find(bytes, start));
        assert_eq!(all(0), [Some((1, 2)), Some((1, 2)), Some((1, 2)), Some((2, 1)), Some((7, 1))]);
        assert_eq!(all(2), [Some((2, 1)), Some((2, 1)), Some((9, 2)), Some((2, 1)), Some((7, 1))]);
        assert_eq!(all(4), [Some((4, 3)), Some((4, 1)), Some((9, 2)), Some((4, 1)), Some((7, 1))]);
        assert_eq!(all(11), [None; 5]);
    }

    #[test]
    fn data_has_ends_of_lines_where_asked_and_depends_on_its_salt() {
        let text = Data { len: 400, salt: 7 }.bytes();
        assert!(Eol::ALL.iter().all(|eol| eol.find(&text, 0).is_some()));
        assert_ne!(text, Data { len: 400, salt: 9 }.bytes());
    }
}
