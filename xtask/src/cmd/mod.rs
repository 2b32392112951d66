//! One verb, one file; `measuring` has the options that some share.

pub(crate) mod bench;
pub(crate) mod calibrate;
pub(crate) mod compare;
pub(crate) mod doctor;
pub(crate) mod exp;
pub(crate) mod ledger;
pub(crate) mod measuring;
pub(crate) mod models;
pub(crate) mod profile;
pub(crate) mod setup;
pub(crate) mod test;
pub(crate) mod tip;
pub(crate) mod variant;
pub(crate) mod verify;
