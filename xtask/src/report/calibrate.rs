//! What people read of a calibration.

use super::table::Style;
use model::calibration::Calibration;

/// Everything about a calibration.
pub(crate) fn full(calibration: &Calibration, style: Style) -> String {
    format!("{} {style:?}\n", calibration.host.id)
}
