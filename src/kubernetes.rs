//! Every call to the API server, one file a kind.

pub mod status;
