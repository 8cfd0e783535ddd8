//! Every counterexample of `docs/protocol.md` whose rule the code has: with the rule taken out the checker finds a way
//! to lose data or to serve twice, and within the same bounds as shipped there is none.

use redis_operator::{
    agent::decide::{Start, decide as start},
    decide::{Decision, decide, elect, look::Look},
    record::Record,
};

use crate::{
    environment::Faults,
    redis::Storage,
    rules::{Rules, SHIPPED, StartAs},
    runs::{bounds, holds},
    search::explore,
    set::{Begin, Bounds, Set},
    state::Budget,
};

/// The bounds with votes, so that rule 4b applies.
fn voting(bounds: Bounds) -> Bounds {
    Bounds { votes: true, ..bounds }
}

/// The bounds with a switchover that a person wishes for.
fn switching(bounds: Bounds) -> Bounds {
    Bounds { budget: Budget { switches: 1, ..bounds.budget }, ..bounds }
}

const NONE: Faults = Faults {
    kill: false,
    stop: false,
    delete: false,
    force: false,
    force_unnoted: false,
    lose: false,
    cut: false,
    cut_peers: false,
    forget: false,
    stale_list: false,
};

/// With `without` in force a trace is found; as shipped there is none.
fn needed(name: &str, bounds: Bounds, without: Rules) {
    let report = explore(&Set::new(bounds, without), 20_000_000);
    let trace = report.trace.as_deref().unwrap_or_else(|| panic!("{name}: no counterexample in {report}"));
    assert!(!trace.starts_with("Stuck") && !trace.starts_with("Diverged"), "{name}: {trace}");
    println!("{name}: {} after {report}", trace.lines().next().unwrap_or_default());
    if std::env::var_os("MODEL_TRACES").is_some() {
        println!("{trace}");
    }
    holds(name, bounds);
}

/// Alters the record that an election writes.
fn rewritten(decision: Decision, change: impl FnOnce(&mut Record)) -> Decision {
    match decision {
        Decision::Promote { mut record, pod } => {
            change(&mut record);
            Decision::Promote { record, pod }
        }
        other => other,
    }
}

/// Members that are silent are left out of the record.
fn without_silent(record: &Record, look: &Look) -> Record {
    let mut record = record.clone();
    record.members.retain(|pod| look.member(pod).is_some());
    record
}

/// The same look, by servers that do not say that they keep append-only files.
fn aof_hidden(look: &Look) -> Look {
    let mut look = look.clone();
    for pod in &mut look.observed.pods {
        if let Ok(answer) = &mut pod.answer {
            answer.info.persistence.aof_enabled = false;
        }
    }
    look
}

#[test]
fn a_pod_trusts_the_name_in_its_file() {
    let rules = Rules {
        start: |own, asked, wait_over, stale| match start(own, asked, wait_over) {
            Start::Park { .. } if own.host == stale => StartAs::Primary,
            Start::Park { .. } => StartAs::By(Start::Follow { host: stale.to_owned() }),
            other => StartAs::By(other),
        },
        ..SHIPPED
    };
    needed("stale name", bounds(2, Storage::Rdb, Faults { kill: true, ..NONE }, 2), rules);
}

#[test]
fn an_aof_history_stays_open() {
    let rules = Rules {
        elect: |record, first, second| {
            rewritten(elect(record, first, second), |written| written.closed.clone_from(&record.closed))
        },
        ..SHIPPED
    };
    needed("history stays open", bounds(2, Storage::Aof, Faults { kill: true, ..NONE }, 3), rules);
}

#[test]
fn the_end_of_a_history_is_taken_from_a_shorter_member() {
    let rules = Rules {
        elect: |record, first, second| {
            rewritten(elect(record, first, second), |written| {
                for member in second.members() {
                    let own = &member.answer.info.replication;
                    if let Some(end) = written.closed.get_mut(&own.replid) {
                        *end = (*end).min(own.offset);
                    }
                }
            })
        },
        ..SHIPPED
    };
    needed("end of the shorter", bounds(3, Storage::Rdb, Faults { kill: true, ..NONE }, 2), rules);
}

#[test]
fn one_look_decides() {
    let rules = Rules {
        decide: |record, look| match decide(record, look) {
            Decision::LookAgain => elect(record, look, look),
            other => other,
        },
        ..SHIPPED
    };
    needed(
        "one look",
        bounds(3, Storage::Rdb, Faults { kill: true, cut: true, cut_peers: true, ..NONE }, 2),
        rules,
    );
}

#[test]
fn an_act_reaches_whoever_answers_by_then() {
    let rules = Rules { bound: false, ..SHIPPED };
    needed("acts not bound", bounds(2, Storage::Rdb, Faults { kill: true, ..NONE }, 2), rules);
}

#[test]
fn a_former_leader_writes_without_precondition() {
    let rules = Rules { preconditioned: false, ..SHIPPED };
    needed("no precondition", bounds(2, Storage::Rdb, Faults { kill: true, ..NONE }, 3), rules);
}

#[test]
fn a_namesake_passes_for_the_pod_that_served() {
    let rules = Rules { ends_are_witnessed: false, ..SHIPPED };
    needed("namesake", bounds(2, Storage::Rdb, Faults { force: true, ..NONE }, 1), rules);
}

#[test]
fn a_cut_off_primary_is_left_out() {
    let rules = Rules {
        decide: |record, look| decide(&without_silent(record, look), look),
        elect: |record, first, second| elect(&without_silent(record, second), first, second),
        ..SHIPPED
    };
    needed(
        "cut-off primary",
        bounds(2, Storage::Rdb, Faults { cut: true, cut_peers: true, ..NONE }, 1),
        rules,
    );
    needed(
        "empty beside silent",
        bounds(2, Storage::Ephemeral, Faults { kill: true, cut: true, cut_peers: true, ..NONE }, 2),
        rules,
    );
}

#[test]
fn aof_offsets_are_compared_after_a_restart() {
    let rules = Rules {
        decide: |record, look| decide(record, &aof_hidden(look)),
        elect: |record, first, second| elect(record, &aof_hidden(first), &aof_hidden(second)),
        ..SHIPPED
    };
    needed("rule 6", bounds(2, Storage::Aof, Faults { kill: true, ..NONE }, 3), rules);
}

#[test]
fn a_new_history_counts_from_its_first_byte() {
    let rules = Rules {
        elect: |record, first, second| elect(&Record { start_offset: 0, ..record.clone() }, first, second),
        ..SHIPPED
    };
    needed(
        "start offset",
        bounds(3, Storage::Rdb, Faults { kill: true, cut: true, cut_peers: true, ..NONE }, 3),
        rules,
    );
}

#[test]
fn a_rebuilt_record_passes_for_a_sure_one() {
    let rules = Rules {
        decide: |record, look| decide(&Record { sure: true, ..record.clone() }, look),
        elect: |record, first, second| elect(&Record { sure: true, ..record.clone() }, first, second),
        ..SHIPPED
    };
    let old = Bounds { begin: Begin::OldVolumes, ..bounds(2, Storage::Rdb, NONE, 0) };
    needed("not sure", Bounds { budget: Budget { writes: 0, ..old.budget }, ..old }, rules);
}

#[test]
fn everybody_who_answers_votes() {
    let rules = Rules {
        decide: |record, look| decide(&voters_of(record, look), look),
        elect: |record, first, second| elect(&voters_of(record, second), first, second),
        ..SHIPPED
    };
    needed("votes", voting(bounds(2, Storage::Rdb, Faults { kill: true, ..NONE }, 2)), rules);
}

fn voters_of(record: &Record, look: &Look) -> Record {
    let voters = look.members().iter().map(|c| c.answer.info.server.run_id.clone()).collect();
    Record { voters, ..record.clone() }
}

#[test]
fn an_older_containers_end_counts() {
    let rules = Rules { old_ends_count: true, ..SHIPPED };
    needed(
        "old end",
        voting(bounds(2, Storage::Rdb, Faults { kill: true, cut: true, cut_peers: true, ..NONE }, 2)),
        rules,
    );
}

#[test]
fn a_switchover_leaves_the_old_history_open() {
    let rules = Rules {
        decide: |record, look| match (decide(record, look), &record.switch_to) {
            (Decision::Note(noted), Some(_)) => {
                Decision::Note(Record { closed: record.closed.clone(), start_offset: 0, ..noted })
            }
            (other, _) => other,
        },
        ..SHIPPED
    };
    needed("old history open", switching(bounds(2, Storage::Rdb, Faults { kill: true, ..NONE }, 2)), rules);
}
