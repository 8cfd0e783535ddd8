//! What the tests share: commands, waiting, one set in a namespace of its own, and faults.

mod cluster;
mod command;
mod fault;
mod namespace;
mod set;
mod wait;

pub use cluster::{OPERATOR_NAMESPACE, cluster_tool, helm, install, node_exec, ready};
pub use command::{get, get_opt, kubectl, kubectl_in, kubectl_refused, kubectl_with, list, text};
pub use fault::{BlackHole, kill_redis, signal_redis};
pub use namespace::Namespace;
pub use set::{IMAGE, Says, Set, field, is_ready};
pub use wait::{PATIENCE, Watch, wait_until};
