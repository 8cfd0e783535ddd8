//! The runs as shipped: nothing is lost, nobody serves twice, and every set ends serving or with a hold.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, OnceLock},
    time::{Duration, Instant},
};

use crate::{
    environment::Faults,
    redis::Storage::{self, Aof, Ephemeral, Rdb},
    rules::SHIPPED,
    search::{Report, explore},
    set::{Begin, Bounds, Ends, Set},
    state::Budget,
};

/// What may be explored before a run counts as too large: about 4 GiB.
pub const MOST: usize = 60_000_000;

/// No fault of any kind.
pub const NONE: Faults = Faults {
    kill: false,
    stop: false,
    delete: false,
    force: false,
    lose: false,
    cut: false,
    cut_peers: false,
    freeze: false,
    forget: false,
    stale_list: false,
    by_hand: false,
    typed_failover: false,
    foreign: false,
    wrong_proof: false,
};
pub const KILL: Faults = Faults { kill: true, ..NONE };
pub const CUT: Faults = Faults { cut: true, cut_peers: true, ..NONE };
pub const KILL_AND_CUT: Faults = Faults { kill: true, ..CUT };

/// And a person types `FAILOVER` on the primary.
pub const fn typed(faults: Faults) -> Faults {
    Faults { typed_failover: true, ..faults }
}

/// One run as shipped.
pub struct Run {
    pub name: &'static str,
    /// What it is there for.
    pub about: &'static str,
    pub bounds: Bounds,
    /// Every set must end serving: a hold would be a fault of its own.
    pub serves: bool,
    /// A part of `make proof` only.
    pub long: bool,
}

/// A healthy set of `members`, this many faults of these kinds, a write more, a save, and an operator that ends or is
/// paused once.
pub const fn bounds(members: usize, storage: Storage, faults: Faults, count: u8) -> Bounds {
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
        quorum: false,
    }
}

/// The bounds with votes, so that rule 4b applies.
pub const fn voting(bounds: Bounds) -> Bounds {
    Bounds { votes: true, ..bounds }
}

/// The bounds with a switchover that a person wishes for.
pub const fn switching(bounds: Bounds) -> Bounds {
    Bounds { budget: Budget { switches: 1, ..bounds.budget }, ..bounds }
}

/// The bounds with commands of a former leader that arrive late.
pub const fn late(bounds: Bounds) -> Bounds {
    Bounds { late: true, ..bounds }
}

/// The bounds with an operator that goes on.
pub const fn without_a_crash(bounds: Bounds) -> Bounds {
    Bounds { budget: Budget { crashes: 0, ..bounds.budget }, ..bounds }
}

/// The bounds with an operator that goes on, and without saves.
pub const fn without_crashes(bounds: Bounds) -> Bounds {
    Bounds { budget: Budget { crashes: 0, saves: 0, ..bounds.budget }, ..bounds }
}

/// Three members with votes and a switchover, of which the first has two writes that the others have yet to get.
const fn lagging(kills: u8) -> Bounds {
    let lagging = Bounds { begin: Begin::Ahead, ..voting(switching(bounds(3, Rdb, KILL, kills))) };
    Bounds { budget: Budget { crashes: 0, saves: 0, writes: 0, ..lagging.budget }, ..lagging }
}

/// A promotion by hand and a kill, with a write for each side.
pub const fn by_hand(storage: Storage) -> Bounds {
    let bounds = without_crashes(bounds(3, storage, Faults { by_hand: true, ..KILL }, 2));
    Bounds { budget: Budget { writes: 2, ..bounds.budget }, ..bounds }
}

/// A replica comes to hold foreign data, and processes are killed.
pub const fn foreign(members: usize) -> Bounds {
    without_crashes(bounds(members, Rdb, Faults { foreign: true, ..KILL }, 2))
}

/// The operator takes anything for the proof of an end, and does not reach everybody.
pub const fn misled() -> Bounds {
    voting(without_a_crash(bounds(3, Rdb, Faults { cut: true, wrong_proof: true, ..NONE }, 2)))
}

/// What exploring everything within the bounds has shown.
#[derive(Clone, Debug)]
pub struct Explored {
    pub report: Arc<Report>,
    pub ends: Ends,
    pub took: Duration,
}

/// Explores everything within the bounds, as shipped; once in this process, since several regressions share bounds.
pub fn shipped(bounds: &Bounds) -> Explored {
    static DONE: OnceLock<Mutex<HashMap<Bounds, Arc<OnceLock<Explored>>>>> = OnceLock::new();
    let slot = Arc::clone(DONE.get_or_init(Mutex::default).lock().unwrap().entry(*bounds).or_default());
    let explored = slot.get_or_init(|| {
        let began = Instant::now();
        let set = Set::new(*bounds, SHIPPED);
        let report = Arc::new(explore(&set, MOST));
        Explored { report, ends: set.ends(), took: began.elapsed() }
    });
    explored.clone()
}

/// Nothing is wrong anywhere within the bounds, and all of it was seen.
pub fn holds(name: &str, bounds: &Bounds) -> Explored {
    let explored = shipped(bounds);
    let Explored { report, ends, took } = &explored;
    println!("{name}: {bounds}: {report}; ends: {ends}; {:.1} s", took.as_secs_f32());
    assert!(report.trace.is_none(), "{name}: {}", report.trace.as_deref().unwrap_or_default());
    assert!(report.complete, "{name}: stopped before the end");
    explored
}

impl Run {
    pub const fn new(
        name: &'static str,
        about: &'static str,
        bounds: Bounds,
        serves: bool,
        long: bool,
    ) -> Self {
        Self { name, about, bounds, serves, long }
    }

    pub fn check(&self) -> Explored {
        let explored = holds(self.name, &self.bounds);
        let held = explored.ends.held;
        assert!(!self.serves || held == 0, "{}: {held} worlds end with a hold", self.name);
        explored
    }
}

named! {
    Run;
    a_new_set: "A new set comes up; its pods' lists of members may be old",
        Bounds { begin: Begin::New, ..bounds(3, Rdb, Faults { stale_list: true, ..KILL }, 1) }, false;
    two_processes_are_killed: "Two killed processes of a memory-only set", bounds(3, Ephemeral, KILL, 2), false;
    processes_end_with_a_save: "Restarts that save and restarts that do not",
        bounds(2, Rdb, Faults { stop: true, ..KILL }, 2), false;
    pods_are_deleted: "Deleted and evicted pods: the primary hands over while its pod ends", bounds(3, Rdb, Faults { delete: true, ..NONE }, 1), true;
    a_drain_and_a_kill: "The primary's pod is deleted, and the target or anybody else is killed meanwhile",
        bounds(2, Rdb, Faults { delete: true, ..KILL }, 2), false;
    the_record_is_deleted: "Somebody deletes the record between any two steps, between its write and the promotion too",
        bounds(3, Rdb, Faults { forget: true, ..KILL }, 2), false;
    the_record_is_deleted_with_append_only_files: "The same with append-only files",
        bounds(2, Aof, Faults { forget: true, ..KILL }, 2), false;
    made_again_over_old_volumes: "The resource is made again over volumes of different ages",
        Bounds { begin: Begin::OldVolumes, ..bounds(3, Rdb, KILL, 1) }, false;
    done_without_the_primary: "Rule 4b with lost volumes and partitions",
        voting(bounds(2, Rdb, Faults { lose: true, ..KILL_AND_CUT }, 2)), false;
    done_without_the_primary_in_a_switchover: "Rule 4b while a switchover is open, with an operator crash at each step of it",
        voting(switching(bounds(2, Rdb, KILL, 2))), false;
    pods_are_deleted_by_force: "A pod is deleted by force; its process has ended, or lives on with or without peers",
        voting(bounds(3, Rdb, Faults { force: true, ..NONE }, 1)), false;
    a_switchover_of_append_only_files: "FAILOVER done, then the target or the old primary is killed: either alone, and it goes on",
        switching(bounds(3, Aof, KILL, 1)), true;
    a_switchover_of_append_only_files_and_two_kills: "The same with both killed: newest data or a hold",
        switching(bounds(2, Aof, KILL, 2)), false;
    a_promotion_by_hand: "Somebody promotes a replica and writes to it, and a process is killed",
        by_hand(Aof), false;
    a_promotion_by_hand_without_append_only_files: "The same with files of the last save", by_hand(Rdb), false;
    a_failover_by_hand: "A person types FAILOVER on the primary: the set goes on with who took over",
        without_crashes(bounds(3, Rdb, typed(NONE), 1)), true;
    a_failover_by_hand_and_a_kill: "The same, and processes are killed", without_crashes(bounds(3, Rdb, typed(KILL), 2)), false;
    a_foreign_history: "A replica comes to hold more data of another history, and a process is killed: a hold at most", foreign(3), false;
    a_wrong_proof_of_an_end: "A stale cache, or clocks, prove the end of a primary that the operator does not reach: a replica that hears it says otherwise",
        misled(), false;
    a_lagging_backlog: "Rule 4b, a switchover and replicas that lag, of three members", lagging(1), false;
    a_switchover_and_partitions_from_the_operator: "A switchover, kills, and members that the operator cannot reach",
        switching(bounds(2, Rdb, Faults { cut: true, ..KILL }, 2)), false;
    #[ignore = "long: make proof"]
    three_kills: "Three killed processes", bounds(3, Rdb, KILL, 3), false;
    #[ignore = "long: make proof"]
    three_faults_and_partitions: "Three kills and partitions of any kind", bounds(3, Rdb, KILL_AND_CUT, 3), false;
    #[ignore = "long: make proof"]
    a_lagging_backlog_and_two_kills: "Rule 4b, a switchover and replicas that lag, of three members, with two kills", lagging(2), false;
}
