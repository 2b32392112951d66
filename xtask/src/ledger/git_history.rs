//! What git knows of earlier versions of the ledger.
