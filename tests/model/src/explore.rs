//! Runs by arguments, for who changes a rule or looks for the bounds of a regression.

use std::{process::ExitCode, time::Instant};

use clap::{Args, ValueEnum};

use crate::{
    environment::Faults,
    quorum_regressions,
    redis::Storage,
    regressions,
    rules::SHIPPED,
    search,
    set::{Begin, Bounds, Set},
    state::Budget,
};

#[derive(Args)]
pub struct Options {
    /// Members of the set, 1 to 3
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=3))]
    members: u8,
    #[arg(long, default_value = "rdb")]
    storage: Storage,
    #[arg(long, default_value = "healthy")]
    begin: Begin,
    /// Kinds of faults
    #[arg(long, value_delimiter = ',', default_value = "kill")]
    faults: Vec<Kind>,
    /// How many faults
    #[arg(long, default_value_t = 2)]
    count: u8,
    /// How often an operator ends or is paused
    #[arg(long, default_value_t = 1)]
    crashes: u8,
    #[arg(long, default_value_t = 1)]
    saves: u8,
    /// Writes beside the first, which all have
    #[arg(long, default_value_t = 1)]
    writes: u8,
    /// Switchovers that a person wishes for
    #[arg(long, default_value_t = 0)]
    switches: u8,
    /// Votes are taken, so that rule 4b applies
    #[arg(long)]
    votes: bool,
    /// Commands of a former leader arrive late
    #[arg(long)]
    late: bool,
    /// A member that is set back is wrong even where others have what it lost
    #[arg(long)]
    strict: bool,
    /// A set that ends with a hold is wrong
    #[arg(long)]
    serves: bool,
    /// The mode is Quorum, and the primary is armed; with votes
    #[arg(long)]
    quorum: bool,
    /// The rules of this regression, which lack one
    #[arg(long)]
    without: Option<String>,
    /// Stop after so many states
    #[arg(long, default_value_t = 20_000_000)]
    most: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    Kill,
    Stop,
    Delete,
    Force,
    Lose,
    Cut,
    CutPeers,
    Freeze,
    Forget,
    StaleList,
    ByHand,
    TypedFailover,
    Foreign,
    WrongProof,
}

impl Options {
    fn bounds(&self) -> Bounds {
        let has = |kind| self.faults.contains(&kind);
        Bounds {
            members: usize::from(self.members),
            storage: self.storage,
            begin: self.begin,
            budget: Budget {
                faults: self.count,
                crashes: self.crashes,
                saves: self.saves,
                writes: self.writes,
                switches: self.switches,
            },
            faults: Faults {
                kill: has(Kind::Kill),
                stop: has(Kind::Stop),
                delete: has(Kind::Delete),
                force: has(Kind::Force),
                lose: has(Kind::Lose),
                cut: has(Kind::Cut),
                cut_peers: has(Kind::CutPeers),
                freeze: has(Kind::Freeze),
                forget: has(Kind::Forget),
                stale_list: has(Kind::StaleList),
                by_hand: has(Kind::ByHand),
                typed_failover: has(Kind::TypedFailover),
                foreign: has(Kind::Foreign),
                wrong_proof: has(Kind::WrongProof),
            },
            strict: self.strict,
            votes: self.votes || self.quorum,
            late: self.late,
            quorum: self.quorum,
        }
    }
}

/// Explores, prints what was found, and fails where something was.
pub fn explore(options: &Options) -> ExitCode {
    let mut all = regressions::ALL.iter().chain(quorum_regressions::ALL);
    let mut named = |name: &String| all.find(|regression| regression.name == name);
    let without = options.without.as_ref().map(|name| (name, named(name)));
    let rules = match without {
        None => SHIPPED,
        Some((_, Some(regression))) => regression.without,
        Some((name, None)) => {
            eprintln!("no regression is called {name}");
            return ExitCode::FAILURE;
        }
    };
    let began = Instant::now();
    let bounds = options.bounds();
    let mut set = Set::new(bounds, rules);
    set.expects_an_end = options.without.is_none();
    set.expects_service = options.serves;
    let report = search::explore(&set, options.most);
    println!("{bounds}: {report}; ends: {}; {:.1} s", set.ends(), began.elapsed().as_secs_f32());
    match report.trace {
        None => ExitCode::SUCCESS,
        Some(trace) => {
            println!("{trace}");
            ExitCode::FAILURE
        }
    }
}
