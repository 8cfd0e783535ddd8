//! Talking to one Redis: its words (`info`), how it is asked (`probe`).

pub mod info;
pub mod probe;
