//! What of a live object is not as it is desired, and what of that Kubernetes lets nobody change.

pub mod fields;
pub mod stateful_set;
