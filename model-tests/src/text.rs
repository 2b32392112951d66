//! Bytes in cases and traces: one character a byte, so that people can read them.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::ffi::{CStr, CString, c_char};
use std::fmt;

/// Bytes; in a case file a text with a character for each.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Bytes(pub(crate) Vec<u8>);

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&self.0.iter().copied().map(char::from).collect::<String>())
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let bytes = text.chars().map(|c| u8::try_from(u32::from(c))).collect::<Result<_, _>>();
        bytes.map(Bytes).map_err(|_| serde::de::Error::custom("a character that is no byte"))
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", shown(&self.0))
    }
}

/// Bytes as one line of text; long ones by their length and both ends.
pub(crate) fn shown(bytes: &[u8]) -> String {
    const MOST: usize = 4000;
    if bytes.len() <= MOST {
        bytes.escape_ascii().to_string()
    } else {
        let sum = bytes.iter().fold(0_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add((*byte).into()));
        let (head, tail) = (&bytes[..200], &bytes[bytes.len() - 200..]);
        format!("{} .. {} ({} bytes, sum {sum:x})", head.escape_ascii(), tail.escape_ascii(), bytes.len())
    }
}

/// A string of libevent's, or what stands for null.
///
/// # Safety
/// Null, or a string.
pub(crate) unsafe fn from_c(text: *const c_char) -> String {
    // SAFETY: as the caller says.
    if text.is_null() { "(null)".to_owned() } else { shown(unsafe { CStr::from_ptr(text) }.to_bytes()) }
}

/// Text for C; a NUL ends it.
pub(crate) fn c_string(text: &[u8]) -> CString {
    let end = text.iter().position(|byte| *byte == 0).unwrap_or(text.len());
    CString::new(&text[..end]).unwrap_or_default()
}
