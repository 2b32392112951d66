//! Pictures of the blocks of a comparison.

mod svg;
mod terminal;

pub(crate) use svg::svg;
pub(crate) use terminal::terminal;

use model::compare::Compared;

/// What is drawn of one workload.
pub(crate) struct Picture {
    workload: String,
}

impl Picture {
    /// Of a workload, with its noise floor on this host where that is known.
    pub(crate) fn of(compared: &Compared, noise_floor_pct: Option<f64>) -> Picture {
        let _ = noise_floor_pct;
        Picture { workload: compared.workload.clone() }
    }
}
