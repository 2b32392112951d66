//! In text.

use super::Picture;

/// At most `width` columns wide.
pub(crate) fn terminal(picture: &Picture, width: usize) -> String {
    format!("{} {width}\n", picture.workload)
}
