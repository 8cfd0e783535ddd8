//! Runs in mode Quorum, of three members: the primary is armed, its replicas follow and have voted.

use crate::{
    environment::Faults,
    redis::Storage::{Aof, Rdb},
    runs::{CUT, KILL, NONE, Run, bounds, late, switching, typed, voting},
    set::{Begin, Bounds},
    state::Budget,
};

pub const FREEZE: Faults = Faults { freeze: true, ..NONE };
pub const KILL_AND_FREEZE: Faults = Faults { freeze: true, ..KILL };

/// This many faults of these kinds, a write more, and an operator that goes on.
pub const fn quorum(faults: Faults, count: u8) -> Bounds {
    let bounds = voting(bounds(3, Rdb, faults, count));
    Bounds { quorum: true, budget: Budget { crashes: 0, saves: 0, ..bounds.budget }, ..bounds }
}

/// The same with an operator that ends or is paused once.
const fn crashing(bounds: Bounds) -> Bounds {
    Bounds { budget: Budget { crashes: 1, ..bounds.budget }, ..bounds }
}

/// The same with this many writes.
const fn writing(writes: u8, bounds: Bounds) -> Bounds {
    Bounds { budget: Budget { writes, ..bounds.budget }, ..bounds }
}

named! {
    Run;
    a_silent_primary: "A member is cut off from the operator, its peers or both; operator crashes at each step",
        crashing(writing(2, quorum(CUT, 1))), false;
    two_members_are_cut_off: "Two are, one after the other or at once", quorum(CUT, 2), false;
    a_silent_primary_and_a_kill: "A member is frozen, and processes are killed", quorum(KILL_AND_FREEZE, 2), false;
    a_silent_primary_in_a_switchover: "A member is frozen or killed while a role is handed over",
        switching(quorum(KILL_AND_FREEZE, 1)), false;
    a_silent_primary_and_late_commands: "A former leader's command arrives at any time",
        late(crashing(quorum(FREEZE, 1))), false;
    a_set_that_comes_to_be_armed: "The followers are not in the record yet", Bounds { begin: Begin::Unarmed, ..quorum(KILL_AND_FREEZE, 1) }, false;
    pods_of_a_silent_set_are_deleted_by_force: "A pod is deleted by force; its process has ended, or lives on and goes on following",
        crashing(quorum(Faults { force: true, ..FREEZE }, 1)), false;
    the_followers_disk_is_older: "Processes are killed, with a save between", Bounds { budget: Budget { saves: 1, ..quorum(KILL, 2).budget }, ..quorum(KILL, 2) }, false;
    a_failover_by_hand_of_an_armed_set: "A person types FAILOVER on the primary: the set goes on with who took over",
        crashing(quorum(typed(NONE), 1)), true;
    #[ignore = "long: make proof"]
    a_failover_by_hand_of_an_armed_set_and_a_kill: "The same, and processes are killed", quorum(typed(KILL), 2), false;
    #[ignore = "long: make proof"]
    a_silent_primary_with_append_only_files: "A member is frozen, and processes are killed, with append-only files",
        Bounds { storage: Aof, ..quorum(KILL_AND_FREEZE, 2) }, false;
    #[ignore = "long: make proof"]
    a_silent_primary_and_a_kill_and_crashes: "A member is frozen, and processes are killed, with an operator crash at each step",
        crashing(quorum(KILL_AND_FREEZE, 2)), false;
    #[ignore = "long: make proof"]
    a_silent_primary_in_a_switchover_and_two_faults: "Members are frozen or killed while a role is handed over",
        switching(quorum(KILL_AND_FREEZE, 2)), false;
    #[ignore = "long: make proof"]
    a_namesake_answers_for_a_follower: "A pod is deleted by force, and processes are killed: a namesake is asked in the place of a follower that lives on",
        Bounds { budget: Budget { saves: 1, ..quorum(KILL, 2).budget }, ..quorum(Faults { force: true, ..KILL }, 2) }, false;
    #[ignore = "long: make proof"]
    pods_of_a_cut_off_set_are_deleted_by_force: "A pod is deleted by force, and members are cut off from the operator, their peers or both",
        quorum(Faults { force: true, ..CUT }, 2), false;
}
