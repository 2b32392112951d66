//! Empty: the manifest beside it is what matters.
