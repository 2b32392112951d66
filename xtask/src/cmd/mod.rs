//! One verb, one file.

pub(crate) mod bench;
pub(crate) mod calibrate;
pub(crate) mod compare;
pub(crate) mod doctor;
pub(crate) mod setup;
pub(crate) mod test;
pub(crate) mod verify;
