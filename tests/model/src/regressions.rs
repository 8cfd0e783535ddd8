//! Every counterexample of `docs/design/protocol.md` whose rule the code has: with the rule taken out the checker finds a way
//! to lose data, to set a member back or to serve twice, and within the same bounds as shipped there is none.
//!
//! Rules cover each other. Where one alone can go and nothing is found, others go with it, and the text says which.

use std::time::Instant;

use operator_core::{
    election::{Decision, decide, elect, snapshot::Snapshot, votes::PrimarySample},
    observed::ObservedPod,
};
use redis_agent::start_rule::{Reason, Says, Start, decide as start};
use redis_node::{PARKED, files::REDIS_PORT, info, record::Record};

use crate::{
    environment::Faults,
    redis::Storage::{Aof, Ephemeral, Rdb},
    rules::{Cut, Rules, SHIPPED, StartAs},
    runs::{
        CUT, Explored, KILL, KILL_AND_CUT, MOST, NONE, bounds, by_hand, foreign, holds, late, misled,
        switching, voting, without_a_crash, without_crashes,
    },
    search::{Report, explore},
    set::{Begin, Bounds, Set},
    state::Budget,
};

/// One rule, and what happens without it.
pub struct Regression {
    pub name: &'static str,
    /// What goes wrong, and what was taken out for it.
    pub about: &'static str,
    pub bounds: Bounds,
    pub without: Rules,
    /// A part of `make proof` only.
    pub long: bool,
}

/// What a regression has shown.
pub struct Found {
    /// With the rule taken out; it has a trace.
    pub without: Report,
    pub shipped: Explored,
}

impl Regression {
    pub const fn new(
        name: &'static str,
        about: &'static str,
        bounds: Bounds,
        without: Rules,
        long: bool,
    ) -> Self {
        Self { name, about, bounds, without, long }
    }

    /// With the rule taken out a trace is found; as shipped there is none.
    pub fn check(&self) -> Found {
        let began = Instant::now();
        let mut set = Set::new(self.bounds, self.without);
        set.expects_an_end = false;
        let without = explore(&set, MOST);
        let took = began.elapsed();
        let name = self.name;
        let trace =
            without.trace.as_deref().unwrap_or_else(|| panic!("{name}: no counterexample in {without}"));
        assert!(!trace.starts_with("Diverged"), "{name}: the model is wrong: {trace}");
        println!(
            "{name}: {} after {without}; {:.1} s",
            trace.lines().next().unwrap_or_default(),
            took.as_secs_f32()
        );
        let shipped = holds(name, &self.bounds);
        Found { without, shipped }
    }
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
fn without_silent(record: &Record, look: &Snapshot) -> Record {
    let mut record = record.clone();
    record.members.retain(|pod| look.member(pod).is_some());
    record
}

/// Who serves by a promotion that was not the operator's is gone on with although the others do not follow it.
fn adopts_unfollowed(record: &Record, look: &Snapshot) -> Decision {
    let serving = look.topology.serving();
    let own = serving.first().and_then(|verdict| look.process(&verdict.pod)).map(|own| own.answer.clone());
    let Some(own) = own else { return decide(record, look) };
    let followed = altered(look, |pod| {
        let Some(answer) = pod.answer.as_mut().ok().filter(|answer| answer.announced != own.announced) else {
            return;
        };
        let replication = &mut answer.info.replication;
        replication.replid.clone_from(&own.info.replication.replid);
        replication.upstream = Some(info::Upstream {
            host: own.announced.clone(),
            port: REDIS_PORT,
            link_up: true,
            last_io_seconds: 0,
            sync_in_progress: false,
            offset: replication.offset,
        });
    });
    match decide(record, &followed) {
        adopted @ Decision::Adopt(_) => adopted,
        _ => decide(record, look),
    }
}

pub fn altered(look: &Snapshot, change: impl Fn(&mut ObservedPod)) -> Snapshot {
    let mut look = look.clone();
    look.observed.pods.iter_mut().for_each(change);
    look
}

/// The same look, by servers that do not say that they keep append-only files.
fn aof_hidden(look: &Snapshot) -> Snapshot {
    altered(look, |pod| {
        if let Ok(answer) = &mut pod.answer {
            answer.info.persistence.aof = info::Aof::Off;
        }
    })
}

/// Every history that is not known for another one passes for the one that was served last.
fn foreign_hidden(record: &Record, look: &Snapshot) -> Snapshot {
    let served = record.seen_serving.as_ref().map(|seen| seen.replid.clone()).unwrap_or_default();
    altered(look, |pod| {
        if let Ok(answer) = &mut pod.answer {
            let own = &mut answer.info.replication;
            if own.upstream.is_some() && !record.closed.contains_key(&own.replid) && own.replid2 != served {
                own.replid.clone_from(&served);
            }
        }
    })
}

/// Where nobody is seen to serve, nobody is known to hear anybody.
fn links_hidden(look: &Snapshot) -> Snapshot {
    if !look.topology.serving().is_empty() {
        return look.clone();
    }
    altered(look, |pod| {
        if let Ok(answer) = &mut pod.answer
            && let Some(upstream) = &mut answer.info.replication.upstream
        {
            upstream.last_io_seconds = 60;
        }
    })
}

/// The same look; who dials in vain seems to be parked.
fn dialling_hidden(look: &Snapshot) -> Snapshot {
    altered(look, |pod| {
        if let Ok(answer) = &mut pod.answer
            && let Some(upstream) = answer.info.replication.upstream.as_mut().filter(|u| !u.link_up)
        {
            (upstream.host, upstream.port) = (PARKED.0.to_owned(), PARKED.1);
        }
    })
}

/// The same look; who has more of a closed history than counts seems to have just that.
fn level(record: &Record, look: &Snapshot) -> Snapshot {
    altered(look, |pod| {
        if let Ok(answer) = &mut pod.answer
            && let Some(end) = record.closed.get(&answer.info.replication.replid)
        {
            answer.info.replication.offset = answer.info.replication.offset.min(*end);
        }
    })
}

/// The record with votes for all who answer.
pub fn all_vote(record: &Record, look: &Snapshot) -> Record {
    let voters = look.members().iter().map(|c| c.answer.info.server.run_id.clone()).collect();
    Record { voters, ..record.clone() }
}

/// The same where at least one of them has a vote.
fn one_votes(record: &Record, look: &Snapshot) -> Record {
    let has_vote = look.members().iter().any(|c| record.voters.contains(&c.answer.info.server.run_id));
    if has_vote { all_vote(record, look) } else { record.clone() }
}

/// A record that takes whoever has the target's name for the process that the switchover was begun with.
fn any_target(record: &Record, look: &Snapshot) -> Record {
    let mut record = record.clone();
    if let Some(switch) = &mut record.switch_to
        && let Some(pod) = look.observed.pods.iter().find(|pod| pod.name == switch.target)
    {
        switch.process.pod_uid.clone_from(&pod.uid);
        if let Ok(answer) = &pod.answer {
            switch.process.run_id.clone_from(&answer.info.server.run_id);
        }
    }
    record
}

fn no_switchover(record: &Record) -> Record {
    Record { switch_to: None, ..record.clone() }
}

/// A look whose earlier one has shown an offset that everybody reaches.
fn no_offset(look: &Snapshot) -> Snapshot {
    let before = look.before.clone().map(|before| PrimarySample { offset: i64::MIN, ..before });
    Snapshot { before, ..look.clone() }
}

named! {
    Regression;
    a_pod_trusts_the_name_in_its_file:
        "A pod follows, or becomes, the primary that a file names: the file is as old as the set",
        bounds(2, Rdb, KILL, 2),
        Rules {
            start: |own, asked, wait_over, stale| match start(own, asked, wait_over) {
                Start::Park { .. } if own.host == stale => StartAs::Primary,
                Start::Park { .. } => StartAs::By(Start::Follow { host: stale.to_owned() }),
                other => StartAs::By(other),
            },
            ..SHIPPED
        };
    a_pod_alone_in_its_list_serves:
        "A pod whose list of members is too old to name anybody makes itself primary",
        bounds(2, Rdb, Faults { stale_list: true, ..KILL }, 1),
        Rules {
            start: |own, asked, wait_over, _| match start(own, asked, wait_over) {
                Start::Park { .. } if asked.is_empty() => StartAs::Primary,
                other => StartAs::By(other),
            },
            ..SHIPPED
        };
    a_pod_starts_while_the_role_is_handed_to_it:
        "Start rule 3 is out: a target that restarts in the middle of a switchover gets the role over its old file",
        switching(bounds(2, Rdb, KILL, 1)),
        Rules {
            start: |own, asked, wait_over, _| match start(own, asked, wait_over) {
                Start::Withhold { .. } => StartAs::By(Start::Park { reason: Reason::NobodyServes }),
                other => StartAs::By(other),
            },
            ..SHIPPED
        };
    an_election_leaves_histories_open:
        "The primary is done without, returns with writes that nobody confirmed, and outranks what was confirmed since",
        without_crashes(Bounds { begin: Begin::Ahead, ..voting(bounds(3, Rdb, KILL, 2)) }),
        Rules {
            elect: |record, first, second| {
                rewritten(elect(record, first, second), |written| written.closed.clone_from(&record.closed))
            },
            ..SHIPPED
        };
    a_history_ends_where_a_shorter_member_ends:
        "The end of a closed history is taken from a shorter member: the longer copy is cut level. (And nothing but the ordinal decides between such copies)",
        bounds(3, Rdb, KILL, 2),
        Rules {
            elect: |record, first, second| {
                let chosen = elect(record, &level(record, first), &level(record, second));
                rewritten(chosen, |written| {
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
    copies_that_are_cut_level_are_equal:
        "A winner had come to the next history before it had all of the former one, closed that too low, and restarted",
        without_a_crash(switching(bounds(2, Rdb, KILL, 3))),
        Rules {
            elect: |record, first, second| elect(record, &level(record, first), &level(record, second)),
            ..SHIPPED
        };
    a_new_history_counts_from_its_first_byte:
        "A replica has the winner's history before it has the backlog; without `startOffset` it outranks the confirmed copy",
        switching(bounds(2, Rdb, KILL, 2)),
        Rules {
            elect: |record, first, second| elect(&Record { start_offset: 0, ..record.clone() }, first, second),
            ..SHIPPED
        };
    an_act_reaches_whoever_answers_by_then:
        "The winner restarts between the decision and the promotion, and the promotion reaches its next process",
        bounds(2, Rdb, KILL, 2),
        Rules { bound: false, ..SHIPPED };
    a_former_leader_writes_without_precondition:
        "A former leader, which goes on without a Lease, writes its record over a newer one. (And nobody is asked again before a promotion)",
        late(Bounds { budget: Budget { crashes: 2, ..bounds(2, Rdb, KILL, 2).budget }, ..bounds(2, Rdb, KILL, 2) }),
        Rules {
            preconditioned: false,
            mandate: false,
            looks_before_promoting: false,
            parked_before_promoting: false,
            ..SHIPPED
        };
    a_former_leaders_promotion_arrives_late:
        "A promotion that is under way arrives after another member took over",
        late(switching(bounds(2, Rdb, KILL, 1))),
        Rules { cut_former: Cut::Nobody, ..SHIPPED };
    a_former_leader_is_cut_off_the_winner_only:
        "The same, where a former leader's connections are cut on the member that is told something only",
        late(bounds(3, Rdb, KILL, 2)),
        Rules { cut_former: Cut::Told, ..SHIPPED };
    a_promotion_that_arrived_since_the_look_is_not_seen:
        "The same, where nobody is asked again before the promotion",
        late(bounds(3, Rdb, KILL, 2)),
        Rules { looks_before_promoting: false, parked_before_promoting: false, ..SHIPPED };
    a_namesake_passes_for_the_pod_that_served:
        "A pod was deleted by force; its process serves on while its namesake answers",
        bounds(2, Rdb, Faults { force: true, ..NONE }, 1),
        Rules { ends_are_witnessed: false, ..SHIPPED };
    a_namesake_passes_for_the_target:
        "The same for the target of a switchover, which took over unseen",
        switching(bounds(2, Rdb, Faults { force: true, ..NONE }, 1)),
        Rules {
            decide: |record, look| decide(&any_target(record, look), look),
            elect: |record, first, second| elect(&any_target(record, second), first, second),
            ..SHIPPED
        };
    a_cut_off_primary_is_left_out:
        "A primary that cannot be reached serves on while another is promoted",
        bounds(2, Rdb, CUT, 1),
        Rules {
            decide: |record, look| decide(&without_silent(record, look), look),
            elect: |record, first, second| elect(&without_silent(record, second), first, second),
            ..SHIPPED
        };
    silent_replicas_are_left_out:
        "An empty parked former primary is promoted beside full replicas that are silent",
        bounds(2, Ephemeral, KILL_AND_CUT, 2),
        Rules {
            decide: |record, look| decide(&without_silent(record, look), look),
            elect: |record, first, second| elect(&without_silent(record, second), first, second),
            ..SHIPPED
        };
    aof_offsets_are_compared_after_a_restart:
        "Rule 6 is out: a restarted member with append-only files begins at offset 0 and loses against an older copy",
        without_crashes(bounds(3, Aof, KILL, 2)),
        Rules {
            decide: |record, look| decide(record, &aof_hidden(look)),
            elect: |record, first, second| elect(record, &aof_hidden(first), &aof_hidden(second)),
            ..SHIPPED
        };
    a_stray_is_adopted_that_nobody_follows:
        "A replica is promoted by hand, and the primary ends: whoever serves alone is made the primary, and the others copy from it what has less",
        by_hand(Rdb),
        Rules { decide: adopts_unfollowed, ..SHIPPED };
    a_former_primary_follows_who_was_promoted_by_hand:
        "A pod follows whoever serves, also while its own replicas still follow it",
        by_hand(Aof),
        Rules {
            start: |own, asked, wait_over, _| {
                let mut asked = asked.to_vec();
                for peer in &mut asked {
                    if peer.says == Says::Follows(own.host.to_owned()) {
                        peer.says = Says::Follows("nobody".to_owned());
                    }
                }
                StartAs::By(start(own, &asked, wait_over))
            },
            ..SHIPPED
        };
    a_file_that_is_being_rewritten_passes_for_whole:
        "Rule 6 without a look at the rewrite: a primary that ended before its append-only file held what it served comes back with what that held before, and wins",
        without_crashes(switching(bounds(2, Aof, KILL, 2))),
        Rules { rewrites_are_seen: false, ..SHIPPED };
    a_foreign_history_wins_by_its_size:
        "A history that nobody of the set knows is ranked by its offset",
        foreign(3),
        Rules {
            decide: |record, look| decide(record, &foreign_hidden(record, look)),
            elect: |record, first, second| elect(record, &foreign_hidden(record, first), &foreign_hidden(record, second)),
            ..SHIPPED
        };
    a_link_says_nothing_about_the_primary:
        "Rule 4b without the links: what proves the end of the primary is wrong, and replicas that still hear it are parked",
        misled(),
        Rules {
            decide: |record, look| decide(record, &links_hidden(look)),
            elect: |record, first, second| elect(record, &links_hidden(first), &links_hidden(second)),
            ..SHIPPED
        };
    a_rebuilt_record_passes_for_a_sure_one:
        "The record is lost over volumes of different ages, and the longest history wins",
        {
            let old = Bounds { begin: Begin::OldVolumes, ..bounds(2, Rdb, NONE, 0) };
            Bounds { budget: Budget { writes: 0, ..old.budget }, ..old }
        },
        Rules {
            decide: |record, look| decide(&Record { sure: true, ..record.clone() }, look),
            elect: |record, first, second| elect(&Record { sure: true, ..record.clone() }, first, second),
            ..SHIPPED
        };
    everybody_who_answers_votes:
        "Rule 4b without votes: a member that restarted from an older file decides",
        voting(bounds(2, Rdb, KILL, 2)),
        Rules {
            decide: |record, look| decide(&all_vote(record, look), look),
            elect: |record, first, second| elect(&all_vote(record, second), first, second),
            ..SHIPPED
        };
    one_voter_of_two_decides:
        "Rule 4b with one vote of two: the other one had the confirmed write",
        voting(bounds(3, Rdb, KILL, 2)),
        Rules {
            decide: |record, look| decide(&one_votes(record, look), look),
            elect: |record, first, second| elect(&one_votes(record, second), first, second),
            ..SHIPPED
        };
    a_link_that_is_up_is_a_vote:
        "A restarted replica is linked, and its backlog has not arrived",
        voting(bounds(2, Rdb, KILL, 2)),
        Rules { decide: |record, look| decide(record, &no_offset(look)), ..SHIPPED };
    a_vote_comes_from_one_torn_look:
        "Who was alive is taken from the look that read the offset: a member that was asked later is counted",
        voting(bounds(2, Rdb, KILL, 2)),
        Rules { votes_need_two_looks: false, ..SHIPPED };
    an_older_containers_end_counts:
        "The end of a pod's earlier process is taken for the end of the one that serves",
        voting(bounds(2, Rdb, KILL_AND_CUT, 2)),
        Rules { old_ends_count: true, ..SHIPPED };
    an_election_leaves_members_dialling:
        "Whoever dials an old name copies from a former primary that is linked before it and still behind",
        Bounds { strict: true, ..bounds(3, Rdb, KILL, 2) },
        Rules {
            decide: |record, look| decide(record, &dialling_hidden(look)),
            elect: |record, first, second| elect(record, &dialling_hidden(first), &dialling_hidden(second)),
            ..SHIPPED
        };
    an_open_switchover_is_ignored:
        "Rule 2 and the second half of rule 6 are out: members are judged and told as if no switchover were open",
        without_crashes(switching(bounds(3, Aof, KILL, 2))),
        Rules {
            decide: |record, look| decide(&no_switchover(record), look),
            elect: |record, first, second| elect(&no_switchover(record), first, second),
            ..SHIPPED
        };
    a_switchover_is_given_up_though_it_had_completed:
        "`switchTo` is cleared although FAILOVER had completed: the target serves unnamed",
        switching(bounds(3, Aof, KILL, 1)),
        Rules {
            decide: |record, look| match (decide(record, look), &record.switch_to) {
                (Decision::Abort { .. } | Decision::Await | Decision::LookAgain, Some(_)) => Decision::Note(no_switchover(record)),
                (other, _) => other,
            },
            ..SHIPPED
        };
}
