//! The runs as shipped: nothing is lost, nobody serves twice, and every set ends serving or with a hold.

use std::time::Instant;

use crate::{
    environment::Faults,
    redis::Storage,
    rules::SHIPPED,
    search::explore,
    set::{Begin, Bounds, Set},
    state::Budget,
};

/// A healthy set of `members`, this many faults of these kinds, two writes more, a save, and an operator that ends or
/// is paused once.
pub fn bounds(members: usize, storage: Storage, faults: Faults, count: u8) -> Bounds {
    let budget = Budget { faults: count, crashes: 1, saves: 1, writes: 1, switches: 0 };
    Bounds {
        members,
        storage,
        begin: Begin::Healthy,
        budget,
        faults,
        strict: false,
        votes: false,
        late: false,
    }
}

/// Explores everything within the bounds, as shipped.
pub fn holds(name: &str, bounds: Bounds) {
    let began = Instant::now();
    let set = Set::new(bounds, SHIPPED);
    let report = explore(&set, 50_000_000);
    let (serving, held) = set.ends();
    println!(
        "{name}: {report}; ends: {serving} serving, {held} held; {:.1} s",
        began.elapsed().as_secs_f32()
    );
    assert!(report.trace.is_none(), "{name}: {}", report.trace.unwrap_or_default());
    assert!(report.complete, "{name}: stopped before the end");
}
