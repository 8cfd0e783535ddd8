//! The whole world as one value: servers, volumes, the record, the operator in the middle of a pass.
//!
//! Identities (histories, processes, pods) are small numbers that only ever are compared, so two worlds that differ in
//! the numbering alone are one: [`World::canonical`] numbers them by first occurrence.

use std::fmt;

use crate::quorum::Followers;

/// The largest set that is explored.
pub const MOST: usize = 3;

/// An identity; 0 is none.
pub type Id = u8;

/// A set of writes, one bit each.
pub type Writes = u8;

/// What a server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    Parked,
    /// Of this member, by name.
    ReplicaOf(u8),
    Primary,
}

/// `master_failover_state`, and to which member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Failover {
    No,
    /// `waiting-for-sync`: a primary whose writes wait.
    Waiting(u8),
    /// `failover-in-progress`: a replica already, that offers its role to whoever answers under the target's name.
    InProgress(u8),
}

/// One process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Redis {
    pub run: Id,
    pub role: Role,
    pub failover: Failover,
    /// Process at the other end of the link to its primary; 0 while that is down.
    pub link: Id,
    pub replid: Id,
    pub replid2: Id,
    /// `second_repl_offset`.
    pub second: i8,
    pub offset: i8,
    /// Offset at which the backlog begins.
    pub backlog: Option<i8>,
    pub data: Writes,
    /// Its append-only file is rewritten after a full sync: until that is done a restart loads what was there before.
    pub rewrites: bool,
    /// Somebody promoted it, and not the operator. What it takes is promised to nobody.
    pub by_hand: bool,
    /// It demands a replica for a write (`min-replicas-to-write 1`).
    pub demands: bool,
    /// It demands one, has had none for `min-replicas-max-lag` and longer, and so takes no write.
    pub stopped: bool,
}

/// What a restart would load.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Disk {
    pub data: Writes,
    /// 0: the file names no history, or there is none.
    pub replid: Id,
    pub offset: i8,
}

/// One ordinal: the pod that has its name now, and its volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Member {
    pub uid: Id,
    pub disk: Disk,
    pub redis: Option<Redis>,
    /// `deletionTimestamp` is set; the process goes on until the pod's end.
    pub terminating: bool,
    /// An earlier process of this pod has ended. Kept only where a regression takes that for a proof.
    pub restarted: bool,
}

/// The process of a pod that was deleted by force, still running under the old name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ghost {
    /// Whose name it has.
    pub of: u8,
    /// Whether peers reach it (a DNS answer that is some seconds old leads to it).
    pub reachable: bool,
    pub redis: Redis,
}

/// Histories that ended: replid and end, sorted, zeros last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Closed(pub [(Id, i8); 8]);

impl Closed {
    pub fn iter(&self) -> impl Iterator<Item = (Id, i8)> {
        self.0.into_iter().filter(|(replid, _)| *replid != 0)
    }

    pub fn from_entries(entries: impl Iterator<Item = (Id, i8)>) -> Self {
        let mut all: Vec<(Id, i8)> = entries.collect();
        all.sort_unstable();
        let mut closed = Self::default();
        assert!(all.len() <= closed.0.len(), "more closed histories than the model has room for: {all:?}");
        closed.0[..all.len()].copy_from_slice(&all);
        closed
    }
}

/// `seenServing`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Seen {
    pub uid: Id,
    pub run: Id,
    pub replid: Id,
    /// `aofSettled`.
    pub settled: bool,
}

/// The record. The epoch is left out: rules ask only whether there was any decision, and then there is a primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rec {
    pub primary: Option<u8>,
    pub start_offset: i8,
    /// Bits of ordinals.
    pub members: u8,
    pub closed: Closed,
    pub seen: Option<Seen>,
    pub sure: bool,
    /// `run_id`s, sorted, zeros last.
    pub voters: [Id; 3],
    pub switch_to: Option<SwitchTo>,
    pub followers: Option<Followers>,
    /// `run_id` of the primary that is armed; 0: none.
    pub armed: Id,
}

/// `switchTo`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SwitchTo {
    pub target: u8,
    pub replid: Id,
    /// The target's process.
    pub uid: Id,
    pub run: Id,
    /// Its `aofSettled`.
    pub settled: bool,
}

/// An earlier look at the serving primary, as the operator remembers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Earlier {
    pub primary: Id,
    pub offset: i8,
    /// `run_id`s of all who answered, sorted, zeros last.
    pub alive: [Id; 3],
    /// Followers whose end stood in the record before, sorted, zeros last.
    pub ended: [Id; 3],
}

/// Identities in one order, whatever their numbers.
pub fn sorted(mut ids: [Id; 3]) -> [Id; 3] {
    ids.sort_unstable_by_key(|id| if *id == 0 { Id::MAX } else { *id });
    ids
}

/// What a look keeps of one member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Glimpse {
    NotYet,
    /// `refused`: nobody listens there.
    Silent {
        uid: Id,
        terminating: bool,
        refused: bool,
    },
    Answer {
        uid: Id,
        terminating: bool,
        view: View,
    },
}

/// The part of an answer that anything is decided on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct View {
    pub run: Id,
    pub role: Role,
    pub failover: Failover,
    pub link_up: bool,
    pub replid: Id,
    pub replid2: Id,
    pub second: i8,
    pub offset: i8,
    pub backlog: bool,
    pub empty: bool,
    /// `aof_rewrite_in_progress`, or scheduled.
    pub rewrites: bool,
    /// Members that it lists as replicas, as bits, and above those of their ghosts.
    pub replicas: u8,
    /// Its link is up, and something came over it lately.
    pub hears: bool,
    pub demands: bool,
}

/// One look, whole or not yet.
pub type Glimpses = [Glimpse; MOST];

/// Nobody was looked at yet.
pub const NOTHING_SEEN: Glimpses = [Glimpse::NotYet; MOST];

/// One thing that the operator does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Act {
    Write(Rec),
    /// Over the connection of the look: only to this process.
    Tell {
        member: u8,
        run: Id,
        what: Told,
    },
}

/// One command to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Told {
    Promote(Promotion),
    Follow(u8),
    Park,
    /// Parked only if nothing was written to it since it left this history.
    Retire(Id),
    HandOver(u8),
    /// `FAILOVER ABORT`; what comes after it is done only if the server serves then.
    Abort,
    /// Other operators' connections are cut there; nothing else.
    Cut,
    /// Parked, and seen parked. The last one of those makes the operator know that the followers are detached.
    Detach,
    /// `min-replicas-to-write` 1 or 0.
    Demand(bool),
}

/// What a promotion is bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Promotion {
    /// The processes that the leader has connections to: none of them may hear another leader any more.
    pub connected: [Id; MOST],
    /// The members that were parked in the look, as bits: none may follow anybody by now.
    pub parked: u8,
    /// It demands a replica, and is told not to before.
    pub lowers: bool,
}

impl Told {
    /// Whether nothing more is done where this could not be.
    pub fn ends_a_pass_that_fails(self) -> bool {
        matches!(self, Self::Promote(_) | Self::Abort | Self::Cut | Self::Detach | Self::Demand(_))
    }
}

/// Acts that are still to be done, first first.
pub type Acts = Vec<Act>;

/// Where the operator stands in its pass.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    Idle,
    /// Asking one member after the other; `first` is the first of two looks.
    Looking {
        first: Option<Glimpses>,
        now: Glimpses,
    },
    Acting(Acts),
}

/// One operator process: the record as it read or wrote it, and whether nobody wrote since.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Operator {
    pub phase: Phase,
    /// Only while not idle.
    pub record: Option<Rec>,
    pub fresh: bool,
    /// Across passes, for as long as the process.
    pub remembers: Option<Earlier>,
    /// Who answered in the last whole look.
    pub answered: [Id; 3],
    /// The followers that it has detached, by `run_id`, sorted, zeros last.
    pub detached: [Id; 3],
    /// That was long enough ago: a primary that demands a replica takes no more writes.
    pub fenced: bool,
}

impl Operator {
    /// A process that has just begun.
    pub const NEW: Self = Self {
        phase: Phase::Idle,
        record: None,
        fresh: true,
        remembers: None,
        answered: [0; 3],
        detached: [0; 3],
        fenced: false,
    };
}

/// What must never be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Violation {
    /// A copy over a member deleted the last copy of acknowledged writes.
    Lost { member: u8, lost: Writes },
    /// A copy over a member deleted acknowledged writes that its source does not have, though others do.
    SetBack { member: u8, lost: Writes },
    /// A member was promoted although acknowledged writes survive elsewhere that it does not have.
    PromotedOlder { run: Id, lacks: Writes },
    /// Two processes serve as primary. (In mode Quorum the former one may for a while, and the next two must not be.)
    TwoPrimaries,
    /// Two processes serve as primary, and both have replicas that could confirm their writes.
    TwoConfirm,
    /// Two processes serve as primary and take writes.
    TwoTakeWrites,
    /// Partial resync between histories that differ: the model itself is wrong.
    Diverged,
    /// Faults are over, and neither a primary serves nor a hold is shown.
    Stuck,
    /// The same with a hold, where there should be none.
    Held,
}

/// What may still happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Budget {
    pub faults: u8,
    pub crashes: u8,
    pub saves: u8,
    pub writes: u8,
    pub switches: u8,
}

/// Everything.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    pub members: [Member; MOST],
    pub ghost: Option<Ghost>,
    /// Members that the operator cannot reach, as bits.
    pub cut_from_operator: u8,
    /// Members that their peers cannot reach.
    pub cut_from_peers: u8,
    /// The mode is Quorum, and all pods were made for it.
    pub quorum: bool,
    /// `run_id`s of processes whose end the kubelet has reported.
    pub ended: [Id; 6],
    /// What the operator takes for the proof of an end proves nothing.
    pub misled: bool,
    /// The record as the API server has it.
    pub record: Option<Rec>,
    pub operator: Operator,
    /// A former leader that goes on with the acts it had begun, at any later time.
    pub former: Option<Operator>,
    /// Writes that a replica of the serving primary had too: `WAIT 1` returned.
    pub acked: Writes,
    /// Number of the next write.
    pub next_write: u8,
    /// Whether a copy that sets a member back is wrong even if others have what it lost.
    pub strict: bool,
    pub budget: Budget,
    pub violation: Option<Violation>,
}

/// Kinds of identities.
#[derive(Clone, Copy)]
pub enum Kind {
    Run = 0,
    Replid = 1,
    Uid = 2,
}

type Visit<'a> = dyn FnMut(Kind, &mut Id) + 'a;

impl Redis {
    fn visit(&mut self, f: &mut Visit<'_>) {
        f(Kind::Run, &mut self.run);
        f(Kind::Run, &mut self.link);
        f(Kind::Replid, &mut self.replid);
        f(Kind::Replid, &mut self.replid2);
    }
}

impl Rec {
    fn visit(&mut self, f: &mut Visit<'_>) {
        if let Some(seen) = &mut self.seen {
            f(Kind::Uid, &mut seen.uid);
            f(Kind::Run, &mut seen.run);
            f(Kind::Replid, &mut seen.replid);
        }
        if let Some(switch) = &mut self.switch_to {
            f(Kind::Replid, &mut switch.replid);
            f(Kind::Uid, &mut switch.uid);
            f(Kind::Run, &mut switch.run);
        }
        f(Kind::Run, &mut self.armed);
        for follower in self.followers.iter_mut().flat_map(|all| &mut all.0) {
            f(Kind::Uid, &mut follower.uid);
            f(Kind::Run, &mut follower.run);
        }
    }

    pub fn is_member(&self, member: usize) -> bool {
        self.members >> member & 1 == 1
    }
}

fn visit_glimpses(glimpses: &mut Glimpses, f: &mut Visit<'_>) {
    for glimpse in glimpses {
        match glimpse {
            Glimpse::NotYet => {}
            Glimpse::Silent { uid, .. } => f(Kind::Uid, uid),
            Glimpse::Answer { uid, view, .. } => {
                f(Kind::Uid, uid);
                f(Kind::Run, &mut view.run);
                f(Kind::Replid, &mut view.replid);
                f(Kind::Replid, &mut view.replid2);
            }
        }
    }
}

impl Operator {
    fn visit(&mut self, f: &mut Visit<'_>) {
        if let Some(earlier) = &mut self.remembers {
            f(Kind::Run, &mut earlier.primary);
        }
        self.detached.iter_mut().for_each(|run| f(Kind::Run, run));
        match &mut self.phase {
            Phase::Idle => {}
            Phase::Looking { first, now } => {
                if let Some(first) = first {
                    visit_glimpses(first, f);
                }
                visit_glimpses(now, f);
            }
            Phase::Acting(acts) => {
                for act in acts {
                    if let Act::Tell { run, what, .. } = act {
                        f(Kind::Run, run);
                        match what {
                            Told::Retire(replid) => f(Kind::Replid, replid),
                            Told::Promote(promotion) => {
                                promotion.connected.iter_mut().for_each(|run| f(Kind::Run, run));
                            }
                            Told::Follow(_)
                            | Told::Park
                            | Told::HandOver(_)
                            | Told::Abort
                            | Told::Cut
                            | Told::Detach
                            | Told::Demand(_) => {}
                        }
                    }
                }
            }
        }
    }

    fn records(&mut self) -> impl Iterator<Item = &mut Rec> {
        let written = match &mut self.phase {
            Phase::Acting(acts) => acts.as_mut_slice(),
            _ => &mut [],
        };
        let written = written.iter_mut().filter_map(|act| match act {
            Act::Write(record) => Some(record),
            Act::Tell { .. } => None,
        });
        self.record.iter_mut().chain(written)
    }
}

impl World {
    fn records(&mut self) -> impl Iterator<Item = &mut Rec> {
        self.record
            .iter_mut()
            .chain(self.operator.records())
            .chain(self.former.iter_mut().flat_map(Operator::records))
    }

    /// Every identity that can meet another one, apart from closed histories and ended pods: those matter only while
    /// somebody has them.
    fn visit(&mut self, f: &mut Visit<'_>) {
        for member in &mut self.members {
            f(Kind::Uid, &mut member.uid);
            if let Some(redis) = &mut member.redis {
                redis.visit(f);
            }
            f(Kind::Replid, &mut member.disk.replid);
        }
        if let Some(ghost) = &mut self.ghost {
            ghost.redis.visit(f);
        }
        self.operator.visit(f);
        if let Some(former) = &mut self.former {
            former.visit(f);
        }
        for record in self.records() {
            record.visit(f);
        }
    }

    /// An identity that nobody has.
    pub fn fresh(&mut self, wanted: Kind) -> Id {
        let mut highest = 0;
        self.visit(&mut |kind, id| {
            if kind as usize == wanted as usize {
                highest = highest.max(*id);
            }
        });
        for record in self.records() {
            for (replid, _) in record.closed.iter() {
                highest = highest.max(replid);
            }
        }
        for ended in self.ended {
            highest = highest.max(ended);
        }
        highest + 1
    }

    /// The same world, numbered by first occurrence, without what can never matter again.
    pub fn canonical(mut self) -> Self {
        let mut names = [[0_u8; 64]; 3];
        let mut next = [0_u8; 3];
        self.visit(&mut |kind, id| {
            if *id != 0 {
                let name = &mut names[kind as usize][*id as usize];
                if *name == 0 {
                    next[kind as usize] += 1;
                    *name = next[kind as usize];
                }
                *id = *name;
            }
        });
        let known = |kind: Kind, id: Id| names[kind as usize][id as usize];
        for record in self.records() {
            record.closed = Closed::from_entries(
                record
                    .closed
                    .iter()
                    .map(|(replid, end)| (known(Kind::Replid, replid), end))
                    .filter(|(replid, _)| *replid != 0),
            );
            record.voters = sorted(record.voters.map(|run| known(Kind::Run, run)));
        }
        for operator in [Some(&mut self.operator), self.former.as_mut()].into_iter().flatten() {
            operator.answered = sorted(operator.answered.map(|run| known(Kind::Run, run)));
            if let Some(earlier) = &mut operator.remembers {
                earlier.alive = sorted(earlier.alive.map(|run| known(Kind::Run, run)));
                earlier.ended = sorted(earlier.ended.map(|run| known(Kind::Run, run)));
            }
        }
        let mut asked = [false; 64];
        for record in self.records() {
            let followers = record.followers.iter().flat_map(|all| all.iter().map(|follower| follower.run));
            let served = record.seen.map(|seen| seen.run).into_iter();
            for run in served.chain(record.switch_to.map(|switch| switch.run)).chain(followers) {
                asked[usize::from(run)] = true;
            }
        }
        for ended in &mut self.ended {
            *ended = known(Kind::Run, *ended);
            if !asked[usize::from(*ended)] {
                *ended = 0;
            }
        }
        self.ended.sort_unstable_by(|a, b| b.cmp(a));
        self.operator.detached = sorted(self.operator.detached);
        self.refill();
        if matches!(self.operator.phase, Phase::Idle) {
            (self.operator.record, self.operator.fresh) = (None, true);
        }
        self
    }

    /// Every process, the ghost last.
    pub fn processes(&self) -> impl Iterator<Item = &Redis> {
        self.members
            .iter()
            .filter_map(|member| member.redis.as_ref())
            .chain(self.ghost.iter().map(|g| &g.redis))
    }

    pub fn processes_mut(&mut self) -> impl Iterator<Item = &mut Redis> {
        self.members
            .iter_mut()
            .filter_map(|member| member.redis.as_mut())
            .chain(self.ghost.iter_mut().map(|g| &mut g.redis))
    }

    /// Whether the operator can talk to this member's pod.
    pub fn is_cut_from_operator(&self, member: usize) -> bool {
        self.cut_from_operator >> member & 1 == 1
    }

    /// Whether peers and this member cannot talk.
    pub fn is_cut_from_peers(&self, member: usize) -> bool {
        self.cut_from_peers >> member & 1 == 1
    }
}

impl fmt::Display for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.failover != Failover::No {
            write!(f, "[failover {:?}] ", self.failover)?;
        }
        match self.role {
            Role::Parked => write!(f, "parked")?,
            Role::Primary => write!(f, "PRIMARY")?,
            Role::ReplicaOf(of) => {
                write!(
                    f,
                    "replica of {of} ({})",
                    if self.link == 0 { "down".into() } else { format!("up, r{}", self.link) }
                )?;
            }
        }
        write!(f, " run r{} history h{}@{} data {:b}", self.run, self.replid, self.offset, self.data)?;
        if self.replid2 != 0 {
            write!(f, " before h{}<{}", self.replid2, self.second)?;
        }
        match self.backlog {
            Some(from) => write!(f, " backlog from {from}")?,
            None => write!(f, " no backlog")?,
        }
        if self.demands {
            write!(f, " demands a replica{}", if self.stopped { " and takes no writes" } else { "" })?;
        }
        Ok(())
    }
}

impl fmt::Display for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (ordinal, member) in self.members.iter().enumerate().filter(|(_, member)| member.uid != 0) {
            write!(
                f,
                "    {ordinal}: pod u{}{} ",
                member.uid,
                if member.terminating { " (terminating)" } else { "" }
            )?;
            match &member.redis {
                Some(redis) => write!(f, "{redis}")?,
                None => write!(f, "not running")?,
            }
            let Disk { data, replid, offset } = member.disk;
            writeln!(f, "; disk {data:b} h{replid}@{offset}")?;
        }
        if let Some(ghost) = &self.ghost {
            writeln!(f, "    ghost of {} (reachable {}): {}", ghost.of, ghost.reachable, ghost.redis)?;
        }
        match &self.record {
            None => writeln!(f, "    no record")?,
            Some(r) => writeln!(
                f,
                "    record: primary {:?} from {} closed {:?} seen {:?} voters {:?} {:?} sure {}{}",
                r.primary,
                r.start_offset,
                r.closed.iter().collect::<Vec<_>>(),
                r.seen.map(|s| (s.uid, s.run, s.replid)),
                r.voters,
                r.switch_to.map(|s| (s.target, s.replid)),
                r.sure,
                crate::quorum::shown(r)
            )?,
        }
        for (bits, of) in [(self.cut_from_operator, "the operator"), (self.cut_from_peers, "peers")] {
            if bits != 0 {
                writeln!(f, "    cut from {of}: {bits:03b}")?;
            }
        }
        if self.operator.detached != [0; 3] {
            let fenced = if self.operator.fenced { ", long enough ago" } else { "" };
            writeln!(f, "    detached: {:?}{fenced}", self.operator.detached)?;
        }
        write!(f, "    acknowledged {:b}", self.acked)
    }
}
