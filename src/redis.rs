//! Talking to one Redis: its words (`info`), the way to it (`connection`), how it is asked (`probe`), and whether it takes
//! writes (`writes`).

mod bounded;
pub mod connection;
pub mod info;
pub mod password;
pub mod probe;
pub mod writes;

/// `master_host` and `master_port` of a parked server: nobody listens there, so its link never comes up. Parked = a
/// replica of nobody: it keeps its data, answers INFO, refuses writes, and a peer that dials it keeps its own data
/// (experiment E6).
pub const PARKED: (&str, u16) = ("127.0.0.1", 1);
