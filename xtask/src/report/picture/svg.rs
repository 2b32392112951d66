//! As SVG.

use super::Picture;

/// One panel a workload.
pub(crate) fn svg(pictures: &[Picture], title: &str, provenance: &str) -> String {
    format!("{} {title} {provenance}", pictures.len())
}
