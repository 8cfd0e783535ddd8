//! Talking to one Redis: the way to it (`connection`), how it is asked (`probe`), and whether it takes writes (`writes`).

mod bounded;
pub mod connection;
pub mod probe;
pub mod writes;
