//! One pass over the file.

use super::{CallgrindError, Profile};

/// Reads an output file.
///
/// # Errors
/// What [`CallgrindError`] lists: a file that is cut short is refused, not read half.
pub fn parse(_text: &str) -> Result<Profile, CallgrindError> {
    Err(CallgrindError::Foreign("not yet read"))
}
