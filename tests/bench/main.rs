//! Benchmark on the real cluster.
fn main() {}
