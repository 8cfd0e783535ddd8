//! A set under faults as a [`Model`]: what begins, what may happen, what must hold.

use std::{cell::RefCell, fmt};

use crate::{
    environment::{Faults, Step},
    operator::{Mind, Outcome},
    redis::{Storage, bits},
    rules::Rules,
    search::{ByDigest, Model, fingerprint},
    state::{
        Act, Budget, Closed, Disk, Failover, MOST, Member, Operator, Phase, Rec, Redis, Role, Seen, Told,
        Violation, World, sorted,
    },
};

/// How a run begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum Begin {
    /// The first member serves, the others follow it, all have one confirmed write.
    Healthy,
    /// The same, and the first has saved two writes more that nobody else has yet.
    Ahead,
    /// The first serves, and nobody has seen yet who follows it.
    Unarmed,
    /// A former leader's command to follow the first member is on its way to the second.
    LateCommand,
    /// The first record of a new set; nobody runs yet.
    New,
    /// No record; volumes of different ages and nobody runs.
    OldVolumes,
}

/// One run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Bounds {
    pub members: usize,
    pub storage: Storage,
    pub begin: Begin,
    pub budget: Budget,
    pub faults: Faults,
    /// See [`World::strict`].
    pub strict: bool,
    /// See [`Mind::votes`].
    pub votes: bool,
    /// Whether a leader's command may arrive after it has given up, or after another leads.
    pub late: bool,
    /// The mode is Quorum, and the primary is armed.
    pub quorum: bool,
}

/// Where worlds at rest end, once faults are over.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ends {
    /// A primary serves, and takes writes.
    pub serving: usize,
    /// A hold is shown.
    pub held: usize,
}

impl fmt::Display for Ends {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} serving, {} held", self.serving, self.held)
    }
}

impl fmt::Display for Bounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Budget { faults: count, crashes, saves, writes, switches } = self.budget;
        write!(f, "{} members, {:?}", self.members, self.storage)?;
        match self.begin {
            Begin::Healthy => {}
            Begin::Ahead => f.write_str(", the primary two writes ahead")?,
            Begin::Unarmed => f.write_str(", followers not known yet")?,
            Begin::LateCommand => f.write_str(", a former leader's command on its way")?,
            Begin::New => f.write_str(", new")?,
            Begin::OldVolumes => f.write_str(", old volumes without a record")?,
        }
        if count > 0 {
            write!(f, ", {count} of ({})", self.faults)?;
        }
        for (number, what) in
            [(crashes, "operator crash"), (saves, "save"), (writes, "write"), (switches, "switchover")]
        {
            if number > 0 {
                let plural = match (number, what) {
                    (1, _) => "",
                    (_, "operator crash") => "es",
                    _ => "s",
                };
                write!(f, ", {number} {what}{plural}")?;
            }
        }
        for (is_on, what) in [
            (self.votes, "votes"),
            (self.late, "late commands"),
            (self.strict, "nobody set back"),
            (self.quorum, "quorum"),
        ] {
            if is_on {
                write!(f, ", {what}")?;
            }
        }
        Ok(())
    }
}

/// A set of servers and its operator.
pub struct Set {
    bounds: Bounds,
    mind: Mind,
    /// Whether a set that neither serves nor holds once faults are over is wrong. Where a rule is taken out it may well be,
    /// and would hide what the rule is for.
    pub expects_an_end: bool,
    /// Whether a set that ends with a hold is wrong too.
    pub expects_service: bool,
    /// Worlds at rest from which the end was reached, without what no longer counts.
    ends_well: RefCell<ByDigest<End>>,
}

/// Where a set comes to once faults are over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Serves,
    Held,
    Stuck,
}

impl Set {
    pub fn new(bounds: Bounds, rules: Rules) -> Self {
        let mind = Mind::new(rules, bounds.storage, bounds.votes, bounds.quorum);
        Self { bounds, mind, expects_an_end: true, expects_service: false, ends_well: RefCell::default() }
    }

    fn storage(&self) -> Storage {
        self.bounds.storage
    }

    /// Where the worlds at rest end.
    pub fn ends(&self) -> Ends {
        let ends = self.ends_well.borrow();
        let count = |end| ends.values().filter(|found| **found == end).count();
        Ends { serving: count(End::Serves), held: count(End::Held) }
    }

    #[expect(clippy::too_many_lines, reason = "the first state, field by field")]
    fn begin(&self) -> World {
        let Bounds { members: count, storage, begin, budget, .. } = self.bounds;
        let nobody =
            Member { uid: 0, disk: Disk::default(), redis: None, terminating: false, restarted: false };
        let mut world = World {
            members: [nobody; MOST],
            ghost: None,
            cut_from_operator: 0,
            cut_from_peers: 0,
            quorum: self.bounds.quorum,
            ended: [0; 6],
            misled: false,
            record: None,
            operator: Operator::NEW,
            former: None,
            acked: 1,
            next_write: 1,
            strict: self.bounds.strict,
            budget,
            violation: None,
        };
        for member in 0..count {
            let number = bits(member) + 1;
            let serves = member == 0;
            let redis = Redis {
                run: number,
                role: if serves { Role::Primary } else { Role::ReplicaOf(0) },
                failover: Failover::No,
                link: u8::from(!serves),
                replid: 1,
                replid2: 0,
                second: -1,
                offset: 1,
                backlog: Some(0),
                data: 1,
                rewrites: false,
                by_hand: false,
                demands: false,
                stopped: false,
            };
            let disk = match storage {
                Storage::Rdb => Disk { data: 1, replid: 1, offset: 1 },
                Storage::Aof => Disk { data: 1, replid: 0, offset: 0 },
                Storage::Ephemeral => Disk::default(),
            };
            world.members[member] = Member { uid: number, disk, redis: Some(redis), ..nobody };
        }
        world.record = Some(Rec {
            primary: Some(0),
            start_offset: 0,
            members: (1 << count) - 1,
            closed: Closed::default(),
            seen: Some(Seen { uid: 1, run: 1, replid: 1, settled: storage == Storage::Aof }),
            sure: true,
            voters: if self.bounds.votes { sorted([2, if count > 2 { 3 } else { 0 }, 0]) } else { [0; 3] },
            switch_to: None,
            followers: None,
            armed: 0,
        });
        if self.bounds.quorum && begin != Begin::Unarmed {
            world.arm();
        }
        if begin == Begin::LateCommand {
            let late = Act::Tell { member: 1, run: 2, what: Told::Follow(0) };
            world.former = Some(Operator { phase: Phase::Acting(vec![late]), fresh: false, ..Operator::NEW });
        }
        if begin == Begin::Ahead {
            let primary = &mut world.members[0];
            if let Some(redis) = &mut primary.redis {
                (redis.data, redis.offset) = (0b111, 3);
                primary.disk = crate::redis::remains(storage, redis.saved(), redis);
            }
            world.next_write = 3;
        }
        if begin == Begin::New {
            for one in world.members.iter_mut().take(count) {
                (one.redis, one.disk) = (None, Disk::default());
            }
            (world.acked, world.next_write) = (0, 0);
            if let Some(record) = &mut world.record {
                (record.primary, record.seen, record.voters) = (None, None, [0; 3]);
                (record.followers, record.armed) = (None, 0);
            }
        }
        if begin == Begin::OldVolumes {
            world.record = None;
            for (member, one) in world.members.iter_mut().enumerate().take(count) {
                one.redis = None;
                if member + 1 == count && storage == Storage::Rdb {
                    // The last one served on after a restart that began a new history.
                    one.disk = Disk { data: 0b11, replid: 2, offset: 0 };
                    (world.acked, world.next_write) = (0b11, 2);
                }
            }
        }
        world
    }

    /// Faults are over: everything heals, starts and links, and the operator goes on for as long as it takes.
    fn end(&self, world: &World) -> End {
        let mut key = world.clone();
        key.budget = Budget { faults: 0, crashes: 0, saves: 0, writes: 0, switches: 0 };
        key.cut_from_operator = 0;
        key.cut_from_peers = 0;
        let key = fingerprint(&key);
        if let Some(end) = self.ends_well.borrow().get(&key) {
            return *end;
        }
        let end = self.settle(world);
        self.ends_well.borrow_mut().insert(key, end);
        end
    }

    fn settle(&self, world: &World) -> End {
        const ROUNDS: usize = 24;
        let mut now = world.clone();
        now.cut_from_operator = 0;
        now.cut_from_peers = 0;
        now.budget.switches = 0;
        let (mut last, mut held) = (None, 0);
        for round in 0..ROUNDS {
            now = now.rebuild().unwrap_or(now).canonical();
            for member in 0..self.bounds.members {
                // A pod's grace period is longer than anything else that goes on by itself.
                if round == ROUNDS / 2 {
                    now = now.pod_ends(self.storage(), member).unwrap_or(now).canonical();
                }
                let run = now.members[member].redis.map_or(0, |redis| redis.run);
                now = now.step_down(member, false).or_else(|| now.give_up(run)).unwrap_or(now);
                now = now.take_over(self.storage(), member, false, false).unwrap_or(now).canonical();
                if now.can_start(member) {
                    let asked = now.plain_answers(member);
                    let started = now
                        .start(&self.mind, member, &asked, false)
                        .or_else(|| now.start(&self.mind, member, &asked, true));
                    now = started.unwrap_or(now).canonical();
                }
            }
            for member in 0..self.bounds.members {
                now = now.link(self.storage(), member, false).unwrap_or(now).canonical();
                while let Some(next) = now.deliver(member).or_else(|| now.rewritten(member)) {
                    now = next;
                }
                if now.broken().is_some() {
                    // Reached by steps that the search takes too: it reports them.
                    return End::Serves;
                }
            }
            now = now.wait_out().unwrap_or(now).canonical();
            for member in 0..self.bounds.members {
                if let Some((next, outcome)) = now.observe(&self.mind, member).into_iter().next() {
                    now = next;
                    if matches!(outcome, Some(Outcome::Hold(_))) {
                        held = round;
                    }
                    last = outcome.or(last);
                }
            }
            while let Some(next) = now.act(&self.mind) {
                now = next.canonical();
            }
        }
        let serves =
            |primary: u8| now.members[usize::from(primary)].redis.is_some_and(|redis| redis.takes_writes());
        match last {
            Some(Outcome::Rest) if now.record.and_then(|r| r.primary).is_some_and(serves) => End::Serves,
            // An election that comes to nothing takes two looks, and begins again.
            _ if held + 3 > ROUNDS => End::Held,
            _ => End::Stuck,
        }
    }
}

impl Model for Set {
    type State = World;
    type Step = Step;

    fn first(&self) -> Vec<World> {
        vec![self.begin().canonical()]
    }

    #[expect(clippy::too_many_lines, reason = "one kind of step after the other")]
    fn next(&self, world: &World) -> Vec<(Step, World)> {
        let mut found = Vec::new();
        let mut add = |step: Step, next: Option<World>| found.extend(next.map(|next| (step, next)));
        let storage = self.storage();
        for member in 0..self.bounds.members {
            let number = bits(member);
            for ghost in [false, true] {
                add(Step::Link { member: number, ghost }, world.link(storage, member, ghost));
            }
            add(Step::Deliver { member: number }, world.deliver(member));
            add(Step::LinkTimesOut { member: number }, world.time_out(member));
            add(Step::Rewritten { member: number }, world.rewritten(member));
            for (next, _) in world.observe(&self.mind, member) {
                add(Step::Observe { member: number }, Some(next));
            }
            add(Step::PodEnds { member: number }, world.pod_ends(storage, member));
            for ghost in [false, true] {
                add(Step::HandOver { member: number, ghost }, world.step_down(member, ghost));
                for to_ghost in [false, true] {
                    let next = world.take_over(storage, member, ghost, to_ghost);
                    add(Step::TakeOver { member: number, ghost, to_ghost }, next);
                }
            }
            if world.cut_from_operator >> member & 1 == 1 || world.cut_from_peers >> member & 1 == 1 {
                let mut next = world.clone();
                next.cut_from_operator &= !(1 << member);
                next.cut_from_peers &= !(1 << member);
                add(Step::Heal { member: number }, Some(next));
            }
            if let Some(redis) = world.members[member].redis
                && storage == Storage::Rdb
                && world.budget.saves > 0
                && world.members[member].disk != redis.saved()
            {
                let mut next = world.clone();
                next.members[member].disk = redis.saved();
                next.budget.saves -= 1;
                add(Step::Save { member: number }, Some(next));
            }
            for (step, next) in world.faults(storage, &self.bounds.faults, member) {
                add(step, Some(next));
            }
        }
        for next in world.starts(&self.mind, self.bounds.faults.stale_list) {
            let started =
                (0..MOST).find(|m| next.members[*m].redis.is_some() && world.members[*m].redis.is_none());
            add(Step::Start { member: bits(started.unwrap_or(0)) }, Some(next));
        }
        let runs: Vec<u8> = world.processes().map(|redis| redis.run).collect();
        for run in runs {
            add(Step::Write { run }, world.write(run));
            add(Step::GiveUp { run }, world.give_up(run));
        }
        if self.bounds.faults.forget && world.budget.faults > 0 && world.record.is_some() {
            let mut next = world.clone();
            next.record = None;
            next.operator.fresh = false;
            if let Some(former) = &mut next.former {
                former.fresh = false;
            }
            next.budget.faults -= 1;
            add(Step::ForgetRecord, Some(next));
        }
        add(Step::GhostEnds, world.exorcise());
        add(Step::GhostFollows, world.ghost_follows(storage));
        add(Step::FenceElapses, world.wait_out());
        add(Step::RebuildRecord, world.rebuild());
        add(Step::Act, world.act(&self.mind));
        add(Step::ActLate, world.act_late(&self.mind));
        if self.bounds.late {
            add(Step::OperatorPauses, world.pause(&self.mind));
        }
        add(Step::OperatorCrashes, world.crash());
        if self.mind.rules.old_ends_count {
            for (_, next) in &mut found {
                for (before, after) in world.members.iter().zip(&mut next.members) {
                    after.restarted |=
                        before.uid == after.uid && before.redis.is_some() && after.redis.is_none();
                }
            }
        }
        found.into_iter().map(|(step, next)| (step, next.canonical())).collect()
    }

    fn wrong(&self, world: &World) -> Option<String> {
        let at_rest = matches!(world.operator.phase, Phase::Idle) && world.former.is_none();
        let end = (self.expects_an_end && at_rest).then(|| self.end(world));
        let violation = world.broken().or(match end {
            Some(End::Stuck) => Some(Violation::Stuck),
            Some(End::Held) if self.expects_service => Some(Violation::Held),
            _ => None,
        });
        violation.map(|violation| format!("{violation:?}"))
    }
}
