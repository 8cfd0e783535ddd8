//! The calls to the API server, one file a kind, and what the watches show of the children.

pub mod children;
pub mod claims;
pub mod error;
#[cfg(test)]
pub(crate) mod fake_api;
pub mod node;
pub mod pods;
pub mod record;
pub mod refused_pods;
pub mod secrets;
pub mod set;
pub mod status;
pub mod stores;
