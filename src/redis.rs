//! Talking to one Redis: its words (`info`), the way to it (`connection`), how it is asked (`probe`).

pub mod connection;
pub mod info;
pub mod probe;

/// `master_host` of a parked server. Parked = a replica of nobody: it keeps its data, answers INFO, refuses
/// writes, and a peer that dials it keeps its own data (experiment E6).
pub const PARKED_HOST: &str = "127.0.0.1";
/// `master_port` of a parked server: nothing listens there.
pub const PARKED_PORT: u16 = 1;
