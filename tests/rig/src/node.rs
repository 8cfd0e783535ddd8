//! What a program runs inside a node's network, where pods are reachable.

pub mod in_node;
pub mod redis_client;
pub mod sync;

pub use in_node::{InNode, Target, print};
pub use sync::Sync;
