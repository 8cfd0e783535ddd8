//! Redis' replication, from the experiments behind `docs/design/protocol.md` and Redis' source where they are silent.
//!
//! One write moves the offset by one, and only where there is a backlog: without one the server counts nothing.

use crate::state::{Disk, Failover, Kind, Phase, Redis, Role, Violation, World, Writes};

/// How a set keeps its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum Storage {
    /// The file of the last save, with its history and offset: of a replica always, of a primary where it had a backlog.
    Rdb,
    /// Every write, but each start begins a new history at offset 0 (experiment E5 B).
    Aof,
    /// Nothing, whatever ends.
    Ephemeral,
}

impl Redis {
    /// A process that has just started with this volume.
    pub fn start(run: u8, replid: u8, disk: Disk, role: Role) -> Self {
        let known = disk.replid != 0;
        Self {
            run,
            role,
            failover: Failover::No,
            link: 0,
            replid: if known { disk.replid } else { replid },
            replid2: 0,
            second: -1,
            offset: if known { disk.offset } else { 0 },
            backlog: None,
            data: disk.data,
            rewrites: false,
            by_hand: false,
            demands: false,
            stopped: false,
        }
    }

    /// What a save now leaves on the volume.
    pub fn saved(&self) -> Disk {
        let named = self.role != Role::Primary || self.backlog.is_some();
        if named {
            Disk { data: self.data, replid: self.replid, offset: self.offset }
        } else {
            Disk { data: self.data, replid: 0, offset: 0 }
        }
    }

    pub fn takes_writes(&self) -> bool {
        self.role == Role::Primary && self.failover == Failover::No && !self.stopped
    }

    /// Whether it can continue another server's stream where that ended.
    fn can_continue(&self, of: &Self) -> bool {
        let shared = of.replid == self.replid || of.replid == self.replid2 && of.offset < self.second;
        shared && of.offset <= self.offset && self.backlog.is_some_and(|from| from <= of.offset)
    }
}

/// Data that is not the set's.
const FOREIGN: Writes = 0x80;
/// An offset that the set never comes to.
const BEYOND: i8 = 50;

/// What a process leaves behind when it ends without saving.
pub fn remains(storage: Storage, disk: Disk, redis: &Redis) -> Disk {
    match storage {
        Storage::Rdb => disk,
        Storage::Aof if redis.rewrites => disk,
        Storage::Aof => Disk { data: redis.data, replid: 0, offset: 0 },
        Storage::Ephemeral => Disk::default(),
    }
}

impl World {
    /// Whoever is linked to this process is not any more.
    pub fn disconnect(&mut self, run: u8) {
        for redis in self.processes_mut().filter(|redis| redis.link == run) {
            redis.link = 0;
        }
    }

    /// `REPLICAOF NO ONE`, to the process of this `run_id`.
    pub fn promote(&mut self, run: u8) {
        let replid = self.fresh(Kind::Replid);
        let Some(redis) = self.processes_mut().find(|redis| redis.run == run) else { return };
        if redis.role == Role::Primary {
            return;
        }
        (redis.replid2, redis.second) = (redis.replid, redis.offset + 1);
        (redis.role, redis.failover, redis.link, redis.replid) = (Role::Primary, Failover::No, 0, replid);
        let data = redis.data;
        // Its replicas must hear of the new history.
        self.disconnect(run);
        let lacks = self.acked & self.surviving() & !data;
        if lacks != 0 {
            self.violation = Some(Violation::PromotedOlder { run, lacks });
        }
    }

    /// Those who serve and may.
    pub fn serving(&self) -> impl Iterator<Item = &Redis> {
        self.processes().filter(|redis| redis.role == Role::Primary && !redis.by_hand)
    }

    /// `REPLICAOF NO ONE`, typed by a person, to a replica that is linked. (Whoever promotes the parked primary of record
    /// while the others dial its name has decided that they copy from it; no rule can be asked in between.)
    pub fn promote_by_hand(&self, member: usize) -> Option<Self> {
        let redis = self.members[member].redis.filter(|redis| redis.link != 0)?;
        if redis.failover != Failover::No {
            return None;
        }
        let mut next = self.clone();
        let replid = next.fresh(Kind::Replid);
        let redis = next.members[member].redis.as_mut()?;
        (redis.replid2, redis.second) = (redis.replid, redis.offset + 1);
        (redis.role, redis.link, redis.replid, redis.by_hand) = (Role::Primary, 0, replid, true);
        let run = redis.run;
        next.disconnect(run);
        Some(next)
    }

    /// A replica is pointed at a server outside of the set, copies everything, and is parked. A look shows the copy while it
    /// is under way, so that is not between a look and an act.
    pub fn become_foreign(&self, member: usize) -> Option<Self> {
        let redis = self.members[member].redis.filter(|redis| redis.role != Role::Primary)?;
        if redis.failover != Failover::No || self.operator.phase != Phase::Idle {
            return None;
        }
        let mut next = self.clone();
        let replid = next.fresh(Kind::Replid);
        let pod = &mut next.members[member];
        let redis = pod.redis.as_mut()?;
        (redis.replid, redis.replid2, redis.second) = (replid, 0, -1);
        (redis.data, redis.offset, redis.backlog) = (FOREIGN, BEYOND, Some(BEYOND));
        (redis.role, redis.link) = (Role::Parked, 0);
        pod.disk = redis.saved();
        let run = redis.run;
        next.disconnect(run);
        Some(next)
    }

    /// `REPLICAOF` somebody, or nobody. The same again changes nothing (experiment E6). Its own replicas stay linked:
    /// they may resync with it later. Refused while a `FAILOVER` runs.
    pub fn replicaof(&mut self, member: usize, role: Role) {
        if let Some(redis) = &mut self.members[member].redis
            && redis.role != role
            && redis.failover == Failover::No
        {
            (redis.role, redis.link, redis.by_hand) = (role, 0, false);
        }
    }

    /// Writes of which a copy exists: in memory, or on the volume of a member that does not run. Who deletes a pod by
    /// force gives its process up, so what a ghost holds does not count.
    fn surviving(&self) -> Writes {
        let kept =
            self.members.iter().map(|member| member.redis.map_or(member.disk.data, |redis| redis.data));
        kept.fold(0, |all, data| all | data)
    }

    /// The replica dials its primary's name and syncs. `ghost`: the name still leads to the process of a pod that was
    /// deleted by force. `None`: nobody answers there, or it refuses.
    pub fn link(&self, storage: Storage, member: usize, ghost: bool) -> Option<Self> {
        let own = self.members[member].redis?;
        let Role::ReplicaOf(of) = own.role else { return None };
        if own.link != 0 || own.failover != Failover::No {
            return None;
        }
        let source = self.answers_as(member, usize::from(of), ghost)?;
        // NOMASTERLINK (experiment E6).
        if source.role != Role::Primary && source.link == 0 {
            return None;
        }
        let mut next = self.clone();
        next.resync(storage, own.run, source);
        Some(next)
    }

    /// Who answers a member that dials another one's name.
    fn answers_as(&self, member: usize, of: usize, ghost: bool) -> Option<Redis> {
        if self.is_cut_from_peers(member) || !ghost && of == member { None } else { self.process(of, ghost) }
    }

    /// The process of this `run_id` syncs.
    pub fn resync(&mut self, storage: Storage, run: u8, source: Redis) {
        let Some(own) = self.processes().find(|redis| redis.run == run).copied() else { return };
        if source.can_continue(&own) {
            self.resync_partially(own, &source);
        } else {
            self.resync_fully(storage, own, source);
        }
        if self.quorum {
            self.acknowledge();
        }
    }

    /// Whether this is the process that the record names as the target of its switchover. The operator asks it before the
    /// command, and a restart and a full sync take longer than the command has: reasoned, not explored.
    pub fn is_named_heir(&self, target: u8) -> bool {
        let named = self.record.and_then(|record| record.switch_to).filter(|switch| switch.target == target);
        let run = self.members[usize::from(target)].redis.map_or(0, |redis| redis.run);
        named.is_none_or(|switch| switch.run == run)
    }

    /// `FAILOVER TO`: refused unless the target is linked.
    pub fn fail_over(&mut self, member: usize, target: u8) {
        let linked = self.members[usize::from(target)].redis.map_or(0, |redis| redis.link);
        if let Some(redis) = &mut self.members[member].redis
            && redis.role == Role::Primary
            && redis.failover == Failover::No
            && linked == redis.run
        {
            redis.failover = Failover::Waiting(target);
        }
    }

    /// The process that answers under a member's name, or the ghost of it.
    fn process(&self, member: usize, ghost: bool) -> Option<Redis> {
        if ghost {
            self.ghost
                .filter(|ghost| usize::from(ghost.of) == member && ghost.reachable)
                .map(|ghost| ghost.redis)
        } else {
            self.members[member].redis.filter(|_| !self.is_cut_from_peers(member))
        }
    }

    pub fn change(&mut self, run: u8, edit: impl FnOnce(&mut Redis)) {
        if let Some(redis) = self.processes_mut().find(|redis| redis.run == run) {
            edit(redis);
        }
    }

    /// The target has everything: the primary becomes its replica, and offers it the role. (The process of a target
    /// whose pod was deleted by force before this is left out. It would pass for in sync while the role goes to its
    /// namesake; `docs/use/guarantees.md`, "What is not promised".)
    pub fn step_down(&self, member: usize, ghost: bool) -> Option<Self> {
        let own = self.process(member, ghost)?;
        let Failover::Waiting(target) = own.failover else { return None };
        let linked = |heir: &Redis| heir.link == own.run && heir.offset == own.offset;
        self.process(usize::from(target), false).filter(linked).filter(|_| self.is_named_heir(target))?;
        let mut next = self.clone();
        next.change(own.run, |redis| {
            (redis.role, redis.link) = (Role::ReplicaOf(target), 0);
            redis.failover = Failover::InProgress(target);
        });
        Some(next)
    }

    /// The `TIMEOUT` while it waits for the target: as before.
    pub fn give_up(&self, run: u8) -> Option<Self> {
        let own = self.processes().find(|redis| redis.run == run)?;
        let Failover::Waiting(_) = own.failover else { return None };
        let mut next = self.clone();
        next.change(run, |redis| redis.failover = Failover::No);
        Some(next)
    }

    /// `PSYNC … FAILOVER` to whoever has the target's name: a replica of the same history becomes the primary and is
    /// followed; anybody else refuses, and the old primary goes on. `from_ghost`: the old primary's pod was deleted by
    /// force; `to_ghost`: the name still leads to the target's former pod. (Only where that
    /// was in sync, and was replaced in the middle of this: a role is not handed to a pod whose address is new.)
    pub fn take_over(
        &self,
        storage: Storage,
        member: usize,
        from_ghost: bool,
        to_ghost: bool,
    ) -> Option<Self> {
        let own = self.process(member, from_ghost)?;
        let Failover::InProgress(target) = own.failover else { return None };
        let heir = self.process(usize::from(target), to_ghost)?;
        if to_ghost && (self.members[usize::from(target)].redis.is_some() || heir.offset != own.offset) {
            return None;
        }
        let mut next = self.clone();
        if heir.role == Role::Primary || heir.replid != own.replid {
            next.promote(own.run);
            return Some(next);
        }
        next.promote(heir.run);
        next.change(own.run, |redis| redis.failover = Failover::No);
        if !from_ghost {
            let heir = *next.processes().find(|redis| redis.run == heir.run)?;
            next.resync(storage, own.run, heir);
        }
        Some(next)
    }

    /// `FAILOVER ABORT`; true if the server serves then.
    pub fn abort(&mut self, member: usize) -> bool {
        let Some(redis) = &mut self.members[member].redis else { return false };
        let run = redis.run;
        match redis.failover {
            Failover::InProgress(_) => self.promote(run),
            _ => redis.failover = Failover::No,
        }
        self.members[member].redis.is_some_and(|redis| redis.role == Role::Primary)
    }

    /// `+CONTINUE`: the history changes at once, the data comes afterwards.
    fn resync_partially(&mut self, before: Redis, source: &Redis) {
        let mut own = before;
        let renamed = own.replid != source.replid;
        if renamed {
            (own.replid2, own.second, own.replid) = (own.replid, own.offset + 1, source.replid);
        }
        own.link = source.run;
        own.backlog = own.backlog.or(Some(own.offset));
        self.change(own.run, |redis| *redis = own);
        if renamed {
            self.disconnect(own.run);
        }
        if own.data & !source.data != 0 {
            self.violation = Some(Violation::Diverged);
        }
    }

    fn resync_fully(&mut self, storage: Storage, before: Redis, mut source: Redis) {
        if source.backlog.is_none() {
            // Its first replica: a new history, since no offset of the old one was counted.
            let replid = self.fresh(Kind::Replid);
            (source.replid, source.replid2, source.second) = (replid, 0, -1);
            source.backlog = Some(source.offset);
            self.change(source.run, |redis| *redis = source);
        }
        let lost = self.acked & before.data & !source.data;
        let copy = Redis {
            link: source.run,
            replid: source.replid,
            replid2: 0,
            second: -1,
            offset: source.offset,
            backlog: Some(source.offset),
            data: source.data,
            rewrites: storage == Storage::Aof,
            by_hand: false,
            ..before
        };
        self.change(before.run, |redis| *redis = copy);
        self.disconnect(before.run);
        // Nobody counts on what a ghost holds.
        let copied = self.members.iter().position(|member| member.redis == Some(copy));
        let Some(member) = copied else { return };
        let disk = &mut self.members[member].disk;
        match storage {
            // What the file holds stays as it is, until a rewrite of the copy is done (experiment E31).
            Storage::Aof => *disk = remains(storage, *disk, &before),
            // The copy that it received is its dump.rdb.
            Storage::Rdb => *disk = copy.saved(),
            Storage::Ephemeral => {}
        }
        let gone = lost & !self.surviving();
        if gone != 0 {
            self.violation = Some(Violation::Lost { member: bits(member), lost: gone });
        } else if lost != 0 && self.strict {
            self.violation = Some(Violation::SetBack { member: bits(member), lost });
        }
    }

    /// The rewrite of an append-only file is done: it holds what is served, and each write from now on.
    pub fn rewritten(&self, member: usize) -> Option<Self> {
        let mut next = self.clone();
        let redis = next.members[member].redis.as_mut().filter(|redis| redis.rewrites)?;
        redis.rewrites = false;
        Some(next)
    }

    /// The next write of its primary's stream reaches a replica.
    pub fn deliver(&self, member: usize) -> Option<Self> {
        let own = self.members[member].redis.filter(|redis| redis.link != 0)?;
        self.deliver_from(self.source(member, own.link)?, own)
    }

    /// The next write of this stream reaches this replica.
    pub fn deliver_from(&self, source: Redis, own: Redis) -> Option<Self> {
        if source.offset <= own.offset {
            return None;
        }
        let mut next = self.clone();
        let missing = source.data & !own.data;
        next.change(own.run, |redis| {
            redis.data |= missing & missing.wrapping_neg();
            redis.offset += 1;
        });
        next.acknowledge();
        Some(next)
    }

    /// The process at the other end of a link, if messages get through.
    pub fn source(&self, member: usize, run: u8) -> Option<Redis> {
        if self.is_cut_from_peers(member) {
            return None;
        }
        let peers = self.members.iter().enumerate();
        let peer = peers
            .filter(|(ordinal, _)| !self.is_cut_from_peers(*ordinal))
            .filter_map(|(_, peer)| peer.redis)
            .find(|redis| redis.run == run);
        peer.or_else(|| self.ghost.filter(|g| g.reachable && g.redis.run == run).map(|g| g.redis))
    }

    /// The end of a partition that lasted longer than `repl-timeout`.
    pub fn time_out(&self, member: usize) -> Option<Self> {
        let own = self.members[member].redis.filter(|redis| redis.link != 0)?;
        if self.source(member, own.link).is_some() {
            return None;
        }
        let mut next = self.clone();
        next.members[member].redis.as_mut()?.link = 0;
        Some(next)
    }

    /// A client writes to whoever serves.
    pub fn write(&self, run: u8) -> Option<Self> {
        if self.budget.writes == 0 {
            return None;
        }
        let mut next = self.clone();
        let write = 1 << next.next_write;
        let redis = next.processes_mut().find(|redis| redis.run == run)?;
        if !redis.takes_writes() {
            return None;
        }
        redis.data |= write;
        if redis.backlog.is_some() {
            redis.offset += 1;
        }
        next.next_write += 1;
        next.budget.writes -= 1;
        Some(next)
    }

    /// `WAIT 1` returns as soon as it may.
    pub fn acknowledge(&mut self) {
        let mut acked = self.acked;
        for primary in self.serving() {
            let members = self.members.iter().filter_map(|member| member.redis.as_ref());
            let ghost = self.ghost.iter().map(|ghost| &ghost.redis).filter(|_| self.quorum);
            for replica in members.chain(ghost).filter(|replica| replica.link == primary.run) {
                acked |= primary.data & replica.data;
            }
        }
        self.acked = acked;
    }

    /// A process ends, and the kubelet may report that. What is left of it, the caller says.
    pub fn end(&mut self, member: usize, disk: Disk, reported: bool) {
        if let Some(redis) = self.members[member].redis.take() {
            self.disconnect(redis.run);
            if reported && let Some(slot) = self.ended.iter_mut().find(|slot| **slot == 0) {
                *slot = redis.run;
            }
        }
        self.members[member].disk = disk;
    }
}

/// A member's ordinal as it is stored.
pub fn bits(member: usize) -> u8 {
    u8::try_from(member).expect("ordinals are small")
}
