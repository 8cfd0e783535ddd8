//! The real cluster under measurement: its sets, its faults, what the API server was asked.

pub mod audit;
pub mod black_hole;
pub mod lab;
pub mod log;
pub mod program;
pub mod set;
