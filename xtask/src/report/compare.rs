//! What people read of a comparison.

use super::table::Style;
use model::compare::CompareRecord;

/// Everything about a record.
pub(crate) fn full(record: &CompareRecord, style: Style, folder: Option<&str>) -> String {
    format!("{} {style:?} {folder:?}\n", record.id)
}
