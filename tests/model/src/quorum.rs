//! What mode Quorum adds to the world: followers of record, a primary that demands a replica, the wait after they left it.
//!
//! The wait (`min-replicas-max-lag` and two seconds) is one step without a time: it may come at any moment after the operator has
//! detached all followers, or never.

use crate::{
    redis::Storage,
    state::{Failover, Ghost, Id, MOST, Rec, Redis, Role, Violation, World, sorted},
};

/// A process that may follow the primary of record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Follower {
    pub pod: u8,
    pub uid: Id,
    /// 0: none.
    pub run: Id,
    pub ended: bool,
}

/// All of them, empty ones last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Followers(pub [Follower; 6]);

impl Followers {
    pub fn iter(&self) -> impl Iterator<Item = Follower> {
        self.0.into_iter().filter(|follower| follower.run != 0)
    }

    pub fn from_entries(entries: impl Iterator<Item = Follower>) -> Self {
        let mut all: Vec<Follower> = entries.collect();
        // Their order decides nothing.
        all.sort_by_key(|follower| (follower.pod, follower.ended));
        let mut followers = Self::default();
        assert!(all.len() <= followers.0.len(), "more followers than the model has room for: {all:?}");
        followers.0[..all.len()].copy_from_slice(&all);
        followers
    }

    /// All of them by `run_id`, as an operator remembers that it has detached them. They answer, each in a member's pod.
    pub fn detached(&self) -> [Id; MOST] {
        let mut runs = [0; MOST];
        for (slot, follower) in runs.iter_mut().zip(self.iter()) {
            *slot = follower.run;
        }
        sorted(runs)
    }
}

/// The part of a record that is of this mode, for traces.
pub fn shown(record: &Rec) -> String {
    let Some(followers) = &record.followers else { return String::new() };
    let each =
        followers.iter().map(|f| format!("{}:r{}{}", f.pod, f.run, if f.ended { " ended" } else { "" }));
    let armed = if record.armed == 0 { "not armed".to_owned() } else { format!("armed r{}", record.armed) };
    format!(" followers [{}] {armed}", each.collect::<Vec<_>>().join(", "))
}

impl World {
    /// The primary of record is armed, with all others as its followers.
    pub fn arm(&mut self) {
        let Some(record) = &mut self.record else { return };
        let Some(primary) = record.primary else { return };
        let others = self.members.iter().zip(0..).filter(|(_, pod)| *pod != primary);
        let others = others.filter_map(|(member, pod)| {
            Some(Follower { pod, uid: member.uid, run: member.redis?.run, ended: false })
        });
        record.followers = Some(Followers::from_entries(others));
        record.armed = record.seen.map_or(0, |seen| seen.run);
        self.demand(usize::from(primary), true);
    }

    /// Two that must not serve both.
    pub fn rivals(&self) -> Option<Violation> {
        if self.serving().count() < 2 {
            return None;
        }
        if !self.quorum {
            return Some(Violation::TwoPrimaries);
        }
        // A link that is cut counts: it may heal.
        let has_replica = |primary: &&Redis| self.processes().any(|replica| replica.link == primary.run);
        if self.serving().filter(has_replica).count() > 1 {
            return Some(Violation::TwoConfirm);
        }
        let takes_writes = |primary: &&Redis| primary.takes_writes();
        (self.serving().filter(takes_writes).count() > 1).then_some(Violation::TwoTakeWrites)
    }

    /// What is wrong with this world.
    pub fn broken(&self) -> Option<Violation> {
        self.rivals().or(self.violation)
    }

    /// Whether some replica of this process can tell it that it is there.
    fn has_good_replica(&self, primary: &Redis) -> bool {
        let reached = |member: usize| {
            let linked = self.members[member].redis.is_some_and(|redis| redis.link == primary.run);
            linked && self.source(member, primary.run).is_some()
        };
        (0..MOST).any(reached)
            || self.ghost.is_some_and(|ghost| ghost.redis.link == primary.run)
                && self.source_of_ghost().is_some()
    }

    /// `CONFIG SET min-replicas-to-write`.
    pub fn demand(&mut self, member: usize, demands: bool) {
        if let Some(redis) = &mut self.members[member].redis {
            redis.demands = demands;
        }
    }

    /// A primary that has a replica again, or demands none, takes writes.
    pub fn refill(&mut self) {
        let goes_on =
            |redis: &Redis| !redis.demands || redis.role != Role::Primary || self.has_good_replica(redis);
        let again: Vec<Id> = self.processes().filter(|r| r.stopped && goes_on(r)).map(|r| r.run).collect();
        for run in again {
            self.change(run, |redis| redis.stopped = false);
        }
    }

    /// The operator has known the followers detached for long enough, and so long has a primary been without them.
    pub fn wait_out(&self) -> Option<Self> {
        if self.operator.detached == [0; 3] || self.operator.fenced {
            return None;
        }
        let mut next = self.clone();
        next.operator.fenced = true;
        let alone =
            |redis: &&Redis| redis.demands && redis.role == Role::Primary && !self.has_good_replica(redis);
        for run in self.processes().filter(alone).map(|redis| redis.run) {
            next.change(run, |redis| redis.stopped = true);
        }
        Some(next)
    }

    /// The ghost ends, unseen.
    pub fn exorcise(&self) -> Option<Self> {
        let Ghost { redis, .. } = self.ghost?;
        let mut next = self.clone();
        next.ghost = None;
        next.disconnect(redis.run);
        Some(next)
    }

    /// The process at the other end of the ghost's link, if messages get through.
    fn source_of_ghost(&self) -> Option<Redis> {
        let ghost = self.ghost.filter(|ghost| ghost.reachable && ghost.redis.link != 0)?;
        let peers = (0..MOST).filter(|member| !self.is_cut_from_peers(*member));
        peers.filter_map(|member| self.members[member].redis).find(|redis| redis.run == ghost.redis.link)
    }

    /// A replica whose pod was deleted by force goes on as one, and what it confirms counts: it links again, or the next write
    /// reaches it, or its link times out. In other modes nobody decides without it, and it is left alone.
    pub fn ghost_follows(&self, storage: Storage) -> Option<Self> {
        let ghost = self.ghost.filter(|_| self.quorum)?;
        let own = ghost.redis;
        let Role::ReplicaOf(of) = own.role else { return None };
        if own.failover != Failover::No {
            return None;
        }
        let of = usize::from(of);
        if own.link == 0 {
            let source = self.members[of].redis.filter(|_| ghost.reachable && !self.is_cut_from_peers(of))?;
            if source.role != Role::Primary && source.link == 0 {
                return None;
            }
            let mut next = self.clone();
            next.resync(storage, own.run, source);
            return Some(next);
        }
        if let Some(source) = self.source_of_ghost() {
            return self.deliver_from(source, own);
        }
        let mut next = self.clone();
        next.change(own.run, |redis| redis.link = 0);
        Some(next)
    }
}
