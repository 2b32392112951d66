//! The parts of `cargo xtask calibrate`: how often the harness errs on this host.
//!
//! `schedule` lists the comparisons (pure), `forms` makes two sides equal in different ways, `load` keeps
//! other CPUs busy, `sizing` aims slowdowns, `soak` does the comparisons through the code of `compare`, `journal` remembers them, so
//! that a soak can be ended and resumed, and `store` keeps the result for verdicts to stand on.
//! `rivals` puts the same questions to other ways of comparing two builds.

pub(crate) mod forms;
pub(crate) mod journal;
pub(crate) mod load;
pub(crate) mod rivals;
pub(crate) mod schedule;
pub(crate) mod sizing;
pub(crate) mod soak;
pub(crate) mod store;
