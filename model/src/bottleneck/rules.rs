//! From figures to a class.

use super::{Class, Classification, Figures, Thresholds};

pub(super) fn classify(_figures: &Figures, _thresholds: &Thresholds) -> Classification {
    Classification {
        class: Class::Unknown,
        deciding: vec![],
        because: "no figure is known".to_owned(),
        syscall_bound: None,
        latency_bound: None,
        also: vec![],
        tiers: vec![],
        experiments: vec![],
        unknown: vec![],
        caveats: vec![],
    }
}
