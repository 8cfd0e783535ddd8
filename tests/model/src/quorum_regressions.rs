//! Each part of rule 12 taken out: a way is found to lose what `WAIT 1` confirmed, or to have two servers that take writes.
//!
//! That nobody decides while a follower still hears the primary has no test here: without it a healthy primary is succeeded, which
//! costs what was not replicated and a pause, and nothing that was confirmed.

use std::time::Duration;

use operator_core::election::{Decision, decide, elect, snapshot::Snapshot, votes::PrimarySample};
use redis_agent::start_rule::{Own, decide as start};
use redis_node::{
    info::ConnectedReplica,
    record::{Follower, Record},
};

use crate::{
    environment::Faults,
    quorum_runs::{FREEZE, KILL_AND_FREEZE, quorum},
    regressions::{Regression, all_vote, altered},
    rules::{Rules, SHIPPED, StartAs},
    runs::NONE,
    set::{Begin, Bounds},
};

/// A look after which nothing has to be waited for any more.
fn waited_out(look: &Snapshot) -> Snapshot {
    Snapshot { detached_for: look.detached_for.map(|_| Duration::from_hours(1)), ..look.clone() }
}

/// The lines of replicas that the record does not name as followers are not seen; one line each.
fn strangers_hidden(record: &Record, look: &Snapshot) -> Snapshot {
    let followers: Vec<String> =
        record.followers.iter().flatten().map(|follower| format!("{}.", follower.pod)).collect();
    altered(look, |pod| {
        if let Ok(answer) = &mut pod.answer {
            let mut known: Vec<ConnectedReplica> = Vec::new();
            for line in &answer.info.replication.replicas {
                let is_follower = followers.iter().any(|name| line.host.starts_with(name));
                if is_follower && known.iter().all(|other| other.host != line.host) {
                    known.push(line.clone());
                }
            }
            answer.info.replication.replicas = known;
        }
    })
}

/// The demand is taken back before the record says so.
fn lowered_first(record: &Record, look: &Snapshot) -> Decision {
    match decide(record, look) {
        Decision::Note(next) if record.armed.is_some() && next.armed.is_none() => {
            let pod = record.primary.clone().unwrap_or_default();
            let demands = look.process(&pod).and_then(|primary| primary.answer.demands);
            match demands {
                Some(demands) if demands.min_replicas > 0 => Decision::Demand { pod, min_replicas: 0 },
                _ => Decision::Note(next),
            }
        }
        other => other,
    }
}

/// Followers that do not answer are left out.
fn without_absent(record: &Record, look: &Snapshot) -> Record {
    let mut record = record.clone();
    let answers = |f: &mut Follower| {
        let process = look.process(&f.pod);
        process.is_some_and(|member| member.answer.info.server.run_id == f.process.run_id)
    };
    if look.topology.serving().is_empty() {
        record.followers.iter_mut().for_each(|all| all.retain_mut(answers));
    }
    record
}

/// The members that did not follow since the last election are never asked.
fn without_others(record: &Record) -> Record {
    let mut record = record.clone();
    if let Some(followers) = &record.followers {
        let primary = record.primary.as_ref();
        record.members.retain(|pod| primary == Some(pod) || followers.iter().any(|f| f.pod == *pod));
    }
    record
}

/// An earlier look that knew of every end.
fn late_ends(record: &Record, look: &Snapshot) -> Snapshot {
    let ended = record.followers.iter().flatten().map(|follower| follower.process.run_id.clone()).collect();
    let before = look.before.clone().map(|before| PrimarySample { ended, ..before });
    Snapshot { before, ..look.clone() }
}

named! {
    Regression;
    the_wait_is_left_out:
        "The winner is promoted as soon as the followers have left: the former primary still takes writes",
        quorum(FREEZE, 1),
        Rules {
            decide: |record, look| decide(record, &waited_out(look)),
            elect: |record, first, second| elect(record, &waited_out(first), &waited_out(second)),
            ..SHIPPED
        };
    a_follower_that_has_not_voted_decides:
        "A follower restarted from an older file, and the primary is armed before it has caught up",
        quorum(KILL_AND_FREEZE, 2),
        Rules {
            decide: |record, look| decide(&all_vote(record, look), look),
            elect: |record, first, second| elect(&all_vote(record, second), first, second),
            ..SHIPPED
        };
    a_follower_that_is_absent_is_left_out:
        "The follower that had the confirmed write is gone, and the other one decides",
        quorum(KILL_AND_FREEZE, 2),
        Rules {
            decide: |record, look| decide(&without_absent(record, look), look),
            elect: |record, first, second| elect(&without_absent(record, second), first, second),
            ..SHIPPED
        };
    a_vote_is_older_than_an_end:
        "A follower has ended, and the other one votes by an offset that was read before that: it lacks what only the ended one had confirmed",
        quorum(KILL_AND_FREEZE, 2),
        Rules { decide: |record, look| decide(record, &late_ends(record, look)), ..SHIPPED };
    the_winner_ends_and_the_former_primary_is_not_asked:
        "The winner ends before it is promoted, and the next one is elected without the former primary, which alone has what was confirmed",
        quorum(KILL_AND_FREEZE, 2),
        Rules {
            decide: |record, look| decide(&without_others(record), look),
            elect: |record, first, second| elect(&without_others(record), first, second),
            ..SHIPPED
        };
    a_replica_follows_by_itself_when_it_starts:
        "The start rule of other modes: a replica that restarts finds the former primary, which confirms writes again",
        quorum(KILL_AND_FREEZE, 2),
        Rules {
            start: |own, asked, wait_over, _| StartAs::By(start(Own { starts_parked: false, ..own }, asked, wait_over)),
            ..SHIPPED
        };
    a_command_leads_a_detached_replica_back:
        "A former leader's REPLICAOF arrives after the wait: the former primary confirms a write again, and another one is promoted. (Not cut off when they are detached, and not asked again before the promotion)",
        Bounds { begin: Begin::LateCommand, ..quorum(FREEZE, 1) },
        Rules { detach_cuts: false, parked_before_promoting: false, ..SHIPPED };
    the_demand_is_lowered_before_the_record_is_disarmed:
        "The primary demands no replica any more, and the record says that it does: its followers are detached, and it takes writes beside the next one",
        quorum(Faults { cut_peers: true, ..NONE }, 2),
        Rules { decide: lowered_first, ..SHIPPED };
    #[ignore = "long: make proof"]
    a_followers_namesake_proves_its_end:
        "A follower was deleted by force; its process goes on, and confirms a write that nobody else has. (And the primary may list more than the followers of record)",
        quorum(Faults { force: true, ..FREEZE }, 2),
        Rules {
            followers_ends_are_witnessed: false,
            decide: |record, look| decide(record, &strangers_hidden(record, look)),
            elect: |record, first, second| elect(record, &strangers_hidden(record, first), &strangers_hidden(record, second)),
            ..SHIPPED
        };
}
