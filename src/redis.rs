//! Talking to one Redis: its held connection (`server`), those of all sets (`pool`), the commands (`connection`), and whether it
//! takes writes (`writes`).

mod bounded;
pub mod connection;
pub mod pool;
pub mod server;
pub mod users;
pub mod writes;
