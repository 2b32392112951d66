//! The verdict of a comparison: pure, from the blocks' figures to one of three answers.
//!
//! A block gives one figure, `log(candidate) - log(baseline)`. [`Plan`] fixes before the first block
//! when they are looked at and what each look may spend of the error probability. [`Sequential`] takes
//! the looks at these times and at no others, and ends with a [`Report`]: changed, no change larger
//! than the margin, or inconclusive. [`gains`] and [`guards`] ask about several workloads together.

pub mod block;
#[cfg(test)]
mod fixtures;
pub mod gains;
pub mod guards;
pub mod left_out;
pub mod plan;
pub mod report;
pub mod sequential;
pub mod settle;

pub use plan::{Plan, PlanError, PlannedLook};
pub use report::{Answer, Report};
pub use sequential::{LookError, Question, Sequential, Step, Stop};
