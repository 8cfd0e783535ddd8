//! One Redis of a set: what it says of itself (`info`), what came of asking it (`answer`), the password, the role record and the
//! files that the operator and the agent share; `plain` makes its words fit to be shown. No Kubernetes, and no client.

pub mod answer;
pub mod conf;
pub mod files;
pub mod info;
pub mod login;
pub mod memory_size;
pub mod password;
pub mod plain;
pub mod record;

/// `master_host` and `master_port` of a parked server: nobody listens there, so its link never comes up. Parked = a
/// replica of nobody: it keeps its data, answers INFO, refuses writes, and a peer that dials it keeps its own data
/// (experiment E6).
pub const PARKED: (&str, u16) = ("127.0.0.1", 1);
