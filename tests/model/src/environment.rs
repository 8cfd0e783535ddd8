//! What happens to a set without being asked: starts, faults, partitions.

use std::fmt;

use redis_agent::start_rule::{Own, PeerAnswer, Says, Silence, Start};

use crate::{
    operator::Mind,
    redis::{Storage, remains},
    rules::StartAs,
    state::{Disk, Failover, Ghost, Kind, MOST, Member, Redis, Role, World},
    translate,
};

/// Faults that a run explores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Faults {
    /// A process is killed and restarts in place.
    pub kill: bool,
    /// A process is stopped, so that it saves, and restarts in place.
    pub stop: bool,
    /// A pod is deleted, ends in the kubelet's sight, and a namesake comes.
    pub delete: bool,
    /// A pod is deleted by force: its process ends unseen, or lives on with or without peers that reach it.
    pub force: bool,
    /// A process is killed and its volume is emptied.
    pub lose: bool,
    /// A member is cut off from the operator.
    pub cut: bool,
    /// A member is cut off from its peers, or from both.
    pub cut_peers: bool,
    /// A member is frozen, or cut off from everybody.
    pub freeze: bool,
    /// Somebody deletes the record.
    pub forget: bool,
    /// A starting pod's list of members may be old.
    pub stale_list: bool,
    /// A person promotes a replica.
    pub by_hand: bool,
    /// A person types `FAILOVER` on a primary.
    pub typed_failover: bool,
    /// A parked or following server comes to hold data of another history, and more of it: a person pointed it elsewhere, or
    /// gave it another volume.
    pub foreign: bool,
    /// What proves an end is wrong from now on: a cache that is stale, clocks that differ or jump.
    pub wrong_proof: bool,
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            kill,
            stop,
            delete,
            force,
            lose,
            cut,
            cut_peers,
            freeze,
            forget,
            stale_list,
            by_hand,
            typed_failover,
            foreign,
            wrong_proof,
        } = *self;
        let kinds = [
            (kill, "kill"),
            (stop, "stop"),
            (delete, "delete"),
            (force, "force"),
            (lose, "volume lost"),
            (cut, "cut from the operator"),
            (cut_peers, "cut from peers"),
            (freeze, "frozen"),
            (forget, "record deleted"),
            (stale_list, "stale list"),
            (by_hand, "promotion by hand"),
            (typed_failover, "FAILOVER by hand"),
            (foreign, "foreign history"),
            (wrong_proof, "wrong proof of an end"),
        ];
        let names: Vec<&str> = kinds.iter().filter(|(is_on, _)| *is_on).map(|(_, name)| *name).collect();
        f.write_str(&names.join(", "))
    }
}

/// One step of the world.
#[derive(Clone, Copy, Debug)]
#[expect(dead_code, reason = "what is not read is shown in traces")]
pub enum Step {
    Start { member: u8 },
    Link { member: u8, ghost: bool },
    Deliver { member: u8 },
    LinkTimesOut { member: u8 },
    PromoteByHand { member: u8 },
    TypeFailover { member: u8, target: u8 },
    BecomeForeign { member: u8 },
    ProofsAreWrong,
    Rewritten { member: u8 },
    Write { run: u8 },
    Save { member: u8 },
    Kill { member: u8 },
    Stop { member: u8 },
    DeletePod { member: u8 },
    PodEnds { member: u8 },
    HandOver { member: u8, ghost: bool },
    GiveUp { run: u8 },
    TakeOver { member: u8, ghost: bool, to_ghost: bool },
    ForceDelete { member: u8, lives_on: Option<bool> },
    Lose { member: u8 },
    Cut { member: u8, from_operator: bool, from_peers: bool },
    Heal { member: u8 },
    ForgetRecord,
    GhostEnds,
    GhostFollows,
    FenceElapses,
    RebuildRecord,
    Observe { member: u8 },
    Act,
    ActLate,
    OperatorPauses,
    OperatorCrashes,
}

impl World {
    /// All ways in which a member's Redis may start now.
    ///
    /// The agent's question to each peer is answered truthfully, or not at all by who is cut off; where a ghost has the
    /// peer's name, the ghost may answer. The wait may be over or not. All peers are asked in one step: the answer of one serves until
    /// the process has started, which the order of this step and others' steps covers.
    pub fn starts(&self, mind: &Mind, stale_list: bool) -> Vec<Self> {
        let mut found: Vec<Self> = Vec::new();
        for member in (0..MOST).filter(|m| self.can_start(*m)) {
            let peers: Vec<usize> = (0..MOST).filter(|p| *p != member && self.members[*p].uid != 0).collect();
            let mut lists = vec![peers];
            if stale_list {
                lists.push(Vec::new());
                if lists[0].len() == 2 {
                    let (a, b) = (lists[0][0], lists[0][1]);
                    lists.extend([vec![a], vec![b]]);
                }
            }
            for list in lists {
                for asked in self.answers(member, &list) {
                    for wait_over in [false, true] {
                        let Some(next) = self.start(mind, member, &asked, wait_over) else { continue };
                        if !found.contains(&next) {
                            found.push(next);
                        }
                    }
                }
            }
        }
        found
    }

    pub fn can_start(&self, member: usize) -> bool {
        let member = &self.members[member];
        member.uid != 0 && !member.terminating && member.redis.is_none()
    }

    /// Every combination of what the peers may have said.
    fn answers(&self, member: usize, peers: &[usize]) -> Vec<Vec<PeerAnswer>> {
        let mut all = vec![Vec::new()];
        for &peer in peers {
            let says = self.says(member, peer);
            all = all
                .into_iter()
                .flat_map(|asked: Vec<PeerAnswer>| {
                    says.iter().map(move |says| {
                        let answer = PeerAnswer { host: translate::host(peer), says: says.clone() };
                        [asked.clone(), vec![answer]].concat()
                    })
                })
                .collect();
        }
        all
    }

    fn says(&self, member: usize, peer: usize) -> Vec<Says> {
        let says = |redis: &Redis| match (redis.failover, redis.role) {
            (Failover::Waiting(_), _) => Says::HandsOver,
            (Failover::InProgress(target), _) => Says::HandsOverTo(translate::host(usize::from(target))),
            // The first offset that is not shared; -1 where no history was taken over.
            (Failover::No, Role::Primary) => Says::Serves {
                replid: translate::history(redis.replid),
                took_over: (redis.second > 0).then(|| translate::point(redis.replid2, redis.second - 1)),
            },
            (Failover::No, Role::Parked) => Says::Follows(redis_node::PARKED.0.to_owned()),
            (Failover::No, Role::ReplicaOf(of)) => Says::Follows(translate::host(usize::from(of))),
        };
        let silent = Says::Silent(Silence::NoAddress(String::new()));
        if self.is_cut_from_peers(member) {
            return vec![silent];
        }
        let own = self.members[peer].redis.as_ref().filter(|_| !self.is_cut_from_peers(peer));
        let mut found = vec![own.map_or(silent, says)];
        let ghost = self.ghost.filter(|ghost| usize::from(ghost.of) == peer && ghost.reachable);
        found.extend(ghost.as_ref().map(|ghost| says(&ghost.redis)));
        found
    }

    /// One start, if the agent has decided.
    pub fn start(&self, mind: &Mind, member: usize, asked: &[PeerAnswer], wait_over: bool) -> Option<Self> {
        // The file is as old as the set.
        let stale = translate::host(0);
        let (host, disk) = (translate::host(member), self.members[member].disk);
        let data = (disk.replid != 0).then(|| translate::point(disk.replid, disk.offset));
        // The mounted record only ever parks where the rule would follow, which is the same as a wait that is over; what is
        // explored here must hold without it.
        let own = Own { host: &host, pod: "", data: data.as_ref(), record: None, starts_parked: self.quorum };
        let role = match (mind.rules.start)(own, asked, wait_over, &stale) {
            StartAs::Primary => Role::Primary,
            StartAs::By(Start::Park { .. }) => Role::Parked,
            StartAs::By(Start::Follow { host }) => {
                Role::ReplicaOf(crate::redis::bits(translate::member(&host)))
            }
            StartAs::By(Start::Wait { .. } | Start::Withhold { .. }) => return None,
        };
        let mut next = self.clone();
        let (run, replid) = (next.fresh(Kind::Run), next.fresh(Kind::Replid));
        next.members[member].redis = Some(Redis::start(run, replid, next.members[member].disk, role));
        Some(next)
    }

    /// What the peers say when nothing is in the way.
    pub fn plain_answers(&self, member: usize) -> Vec<PeerAnswer> {
        (0..MOST)
            .filter(|peer| *peer != member && self.members[*peer].uid != 0)
            .filter_map(|peer| {
                let says = self.says(member, peer).into_iter().next()?;
                Some(PeerAnswer { host: translate::host(peer), says })
            })
            .collect()
    }

    /// Every fault that may happen to one member now.
    #[expect(clippy::too_many_lines, reason = "one fault after the other")]
    pub fn faults(&self, storage: Storage, faults: &Faults, member: usize) -> Vec<(Step, Self)> {
        let mut found = Vec::new();
        if self.budget.faults == 0 || self.members[member].uid == 0 {
            return found;
        }
        let number = crate::redis::bits(member);
        let spent = || {
            let mut next = self.clone();
            next.budget.faults -= 1;
            next
        };
        let disk = self.members[member].disk;
        if faults.delete && !self.members[member].terminating {
            let mut next = spent();
            next.members[member].terminating = true;
            found.push((Step::DeletePod { member: number }, next));
        }
        if faults.wrong_proof && member == 0 && !self.misled {
            let mut next = spent();
            next.misled = true;
            found.push((Step::ProofsAreWrong, next));
        }
        if let Some(redis) = self.members[member].redis {
            let killed = remains(storage, disk, &redis);
            if faults.kill {
                let mut next = spent();
                next.end(member, killed, true);
                found.push((Step::Kill { member: number }, next));
            }
            if faults.by_hand {
                let promoted = spent().promote_by_hand(member);
                found.extend(promoted.map(|next| (Step::PromoteByHand { member: number }, next)));
            }
            if faults.typed_failover && redis.role == Role::Primary {
                for target in (0..MOST).map(crate::redis::bits) {
                    let mut next = spent();
                    next.fail_over(member, target);
                    if next.members[member].redis != self.members[member].redis {
                        found.push((Step::TypeFailover { member: number, target }, next));
                    }
                }
            }
            if faults.foreign && storage == Storage::Rdb {
                let foreign = spent().become_foreign(member);
                found.extend(foreign.map(|next| (Step::BecomeForeign { member: number }, next)));
            }
            if faults.stop && storage == Storage::Rdb {
                let mut next = spent();
                next.end(member, redis.saved(), true);
                found.push((Step::Stop { member: number }, next));
            }
            if faults.force {
                let mut next = spent();
                next.end(member, killed, false);
                next.replace_pod(member);
                found.push((Step::ForceDelete { member: number, lives_on: None }, next));
                for reachable in [false, true] {
                    if self.ghost.is_none() {
                        found.push(spent().haunted(member, redis, killed, reachable));
                    }
                }
            }
            if faults.lose {
                let mut next = spent();
                next.end(member, Disk::default(), true);
                found.push((Step::Lose { member: number }, next));
            }
        }
        if !self.is_cut_from_operator(member) && !self.is_cut_from_peers(member) {
            let Faults { cut, cut_peers, freeze, .. } = *faults;
            let kinds = [
                (cut || cut_peers, true, false),
                (cut_peers, false, true),
                (cut_peers || freeze, true, true),
            ];
            for (_, from_operator, from_peers) in kinds.into_iter().filter(|(is_on, ..)| *is_on) {
                let mut next = spent();
                next.cut_from_operator |= u8::from(from_operator) << member;
                next.cut_from_peers |= u8::from(from_peers) << member;
                found.push((Step::Cut { member: number, from_operator, from_peers }, next));
            }
        }
        found
    }

    /// A forced deletion whose process goes on.
    fn haunted(mut self, member: usize, redis: Redis, disk: Disk, reachable: bool) -> (Step, Self) {
        let number = crate::redis::bits(member);
        self.members[member].redis = None;
        self.members[member].disk = disk;
        self.replace_pod(member);
        self.ghost = Some(Ghost { of: number, reachable, redis });
        (Step::ForceDelete { member: number, lives_on: Some(reachable) }, self)
    }

    fn replace_pod(&mut self, member: usize) {
        let uid = self.fresh(Kind::Uid);
        let pod = &mut self.members[member];
        (pod.uid, pod.terminating, pod.restarted) = (uid, false, false);
    }

    /// A pod that is being deleted has ended, in the kubelet's sight; a namesake comes.
    pub fn pod_ends(&self, storage: Storage, member: usize) -> Option<Self> {
        let Member { disk, redis, terminating: true, .. } = self.members[member] else { return None };
        let left = redis.map_or(disk, |redis| match storage {
            Storage::Rdb => redis.saved(),
            other => remains(other, disk, &redis),
        });
        let mut next = self.clone();
        next.end(member, left, true);
        next.replace_pod(member);
        Some(next)
    }
}
