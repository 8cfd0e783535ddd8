//! Explicit-state model checker over the decisions that ship.
#![cfg(test)]
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::as_conversions,
    reason = "the model checks itself: whatever is out of bounds here is the test's failure"
)]

mod environment;
mod operator;
mod redis;
mod regressions;
mod rules;
mod runs;
mod search;
mod set;
mod state;
mod translate;

#[cfg(test)]
mod tests {
    use crate::{
        environment::Faults,
        redis::Storage,
        rules::SHIPPED,
        search::explore,
        set::{Begin, Bounds, Set},
        state::Budget,
    };

    #[test]
    fn smoke() {
        let number =
            |name: &str, default: u8| std::env::var(name).ok().map_or(default, |v| v.parse().unwrap());
        let flag =
            |name: &str| std::env::var("FAULTS").unwrap_or("kill".into()).split(',').any(|f| f == name);
        let storage = match std::env::var("STORAGE").as_deref() {
            Ok("aof") => Storage::Aof,
            Ok("ephemeral") => Storage::Ephemeral,
            _ => Storage::Rdb,
        };
        let bounds = Bounds {
            strict: false,
            votes: number("VOTES", 0) == 1,
            late: number("LATE", 0) == 1,
            members: usize::from(number("N", 2)),
            storage,
            begin: [Begin::Healthy, Begin::OldVolumes, Begin::New][usize::from(number("OLD", 0))],
            budget: Budget {
                faults: number("F", 2),
                crashes: number("C", 1),
                saves: number("S", 1),
                writes: number("W", 1),
                switches: number("SW", 0),
            },
            faults: Faults {
                kill: flag("kill"),
                stop: flag("stop"),
                delete: flag("delete"),
                force: flag("force"),
                force_unnoted: flag("unnoted"),
                lose: flag("lose"),
                cut: flag("cut"),
                cut_peers: flag("peers"),
                forget: flag("forget"),
                stale_list: flag("stale"),
            },
        };
        let bounds = Bounds { strict: number("STRICT", 0) == 1, ..bounds };
        let began = std::time::Instant::now();
        let set = Set::new(
            bounds,
            crate::rules::Rules {
                cut_former: number("RULE1", 1) == 1,
                votes_need_two_looks: number("TWO", 0) == 1,
                ..SHIPPED
            },
        );
        let report = explore(&set, std::env::var("MOST").ok().map_or(3_000_000, |v| v.parse().unwrap()));
        println!(
            "{report} in {:?}, ends {:?}, state {} bytes",
            began.elapsed(),
            set.ends(),
            size_of::<crate::state::World>()
        );
        if let Some(trace) = report.trace {
            println!("{trace}");
        }
    }
}
