//! The operator: one observation or one act a step, with the shipped functions deciding in between.

use std::cell::RefCell;

use operator_core::{
    api::Reason,
    election::{
        Decision,
        next::{Goal, Step, towards},
        quorum::leads_with,
        snapshot::Snapshot,
        votes,
    },
};

use crate::{
    redis::{Storage, bits},
    rules::{Cut, Rules},
    search::{ByDigest, fingerprint},
    state::{
        Act, Acts, Closed, Earlier, Glimpse, Glimpses, Id, MOST, NOTHING_SEEN, Operator, Phase, Promotion,
        Rec, Role, Told, View, World, sorted,
    },
    translate::{self, Around},
};

/// What the operator makes of a whole look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Rest,
    Hold(Reason),
    LookAgain,
    Await,
    Do(Acts),
}

/// A whole look and what it was taken with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Seen {
    pub record: Rec,
    pub first: Option<Glimpses>,
    pub now: Glimpses,
    pub proven: Proven,
    /// An earlier look at the serving primary, where that is old enough.
    pub before: Option<Earlier>,
    /// A pod to hand the role to where nothing else is to be done.
    pub wish: Option<u8>,
    /// The followers that the operator knows detached, and whether for long enough.
    pub detached: ([Id; 3], bool),
}

/// Processes that are proven dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Proven {
    /// The one that served last.
    pub former: bool,
    /// The one to which a switchover hands the role.
    pub target: bool,
    /// Followers, by their place in the record, as bits.
    pub followers: u8,
}

/// What is decided on a look, and what is remembered of it.
#[derive(Clone, Debug)]
pub struct Said {
    outcome: Outcome,
    earlier: Option<Earlier>,
    /// The followers that were detached are still parked.
    detached: bool,
}

/// The operator's mind: the rules, and what they said before. They are pure, and are asked the same again and again.
pub struct Mind {
    pub rules: Rules,
    pub storage: Storage,
    /// Whether votes are taken. Without them rule 4b never applies, and there are far fewer states.
    pub votes: bool,
    pub quorum: bool,
    said: RefCell<ByDigest<Said>>,
}

impl Mind {
    pub fn new(rules: Rules, storage: Storage, votes: bool, quorum: bool) -> Self {
        Self { rules, storage, votes, quorum, said: RefCell::default() }
    }

    pub fn decide(&self, seen: &Seen) -> Said {
        let key = fingerprint(seen);
        if let Some(said) = self.said.borrow().get(&key) {
            return said.clone();
        }
        let outcome = self.ask(seen);
        self.said.borrow_mut().insert(key, outcome.clone());
        outcome
    }

    fn ask(&self, seen: &Seen) -> Said {
        let record = translate::record(&seen.record);
        let (proven, before, detached) = (seen.proven, seen.before, seen.detached);
        let around = Around { storage: self.storage, quorum: self.quorum, proven, before, detached };
        let look = |glimpses| {
            let look = translate::look(&record, &seen.record, glimpses, around);
            if self.rules.rewrites_are_seen { look } else { translate::rewrites_hidden(look) }
        };
        let now = look(&seen.now);
        let decision = match &seen.first {
            Some(first) => (self.rules.elect)(&record, &look(first), &now),
            None => (self.rules.decide)(&record, &now),
        };
        let target = seen.wish.map(|target| translate::pod(usize::from(target)));
        let goal = Goal { target: target.as_deref(), ..Goal::default() };
        let step = towards(&goal, decision, &record, &now);
        let earlier = votes::glimpse(&record, &now).filter(|_| self.votes).as_ref().map(translate::earlier);
        Said { outcome: outcome(step, seen, &now), earlier, detached: now.detached_for.is_some() }
    }
}

fn outcome(step: Step, seen: &Seen, look: &Snapshot) -> Outcome {
    // Without a connection the act fails, as in the product.
    let connected = seen.now.map(|glimpse| match glimpse {
        Glimpse::Answer { view, .. } => view.run,
        _ => 0,
    });
    let tell = |pod: &str, what: Told| {
        let member = translate::member(pod);
        Act::Tell { member: bits(member), run: connected[member], what }
    };
    let all = |pods: &[String], what: Told| pods.iter().map(|pod| tell(pod, what)).collect();
    let write = |record| Act::Write(translate::rec(record));
    // Who is about to serve demands no replica that is not there yet.
    let lowers = |pod: &str| leads_with(look, pod) == Some(0);
    let decision = match step {
        Step::Do(decision) => *decision,
        // No set is paused here, and no switchover waits for its time.
        Step::Leave | Step::SwitchLater { .. } => return Outcome::Rest,
        // The status has it by the next pass, which tells them.
        Step::Publish { losses, mut follow } => {
            follow.extend(losses.into_iter().map(|loss| loss.pod));
            Decision::Follow(follow)
        }
    };
    match decision {
        Decision::Rest => Outcome::Rest,
        Decision::Hold(hold) => Outcome::Hold(hold.reason),
        Decision::Detach(pods) => {
            let acts = |what| pods.iter().map(move |pod| (pod, what));
            let acts = acts(Told::Cut).chain(acts(Told::Detach));
            Outcome::Do(acts.map(|(pod, what)| tell(pod, what)).collect())
        }
        Decision::Demand { pod, min_replicas } => {
            Outcome::Do(vec![tell(&pod, Told::Demand(min_replicas > 0))])
        }
        Decision::Arm { record, pod } => Outcome::Do(vec![tell(&pod, Told::Demand(true)), write(&record)]),
        Decision::LookAgain => Outcome::LookAgain,
        // A link that never comes is not modelled, so no look calls a handover stuck.
        Decision::Await | Decision::TakeBack { .. } => Outcome::Await,
        Decision::Note(record) | Decision::Adopt(record) => Outcome::Do(vec![write(&record)]),
        Decision::Park(pods) => Outcome::Do(all(&pods, Told::Park)),
        Decision::Retire(pods) => {
            let served = seen.record.seen.map_or(0, |serving| serving.replid);
            Outcome::Do(all(&pods, Told::Retire(served)))
        }
        Decision::Promote { record, pod } => {
            let parked = |glimpse: &Glimpse| matches!(glimpse, Glimpse::Answer { view, .. } if view.role == Role::Parked);
            let parked = (0..MOST).filter(|m| parked(&seen.now[*m])).fold(0, |all, member| all | 1 << member);
            let promotion = Promotion { connected, parked, lowers: lowers(&pod) };
            Outcome::Do(vec![write(&record), tell(&pod, Told::Promote(promotion))])
        }
        Decision::Follow(pods) => match seen.record.primary {
            Some(primary) => Outcome::Do(all(&pods, Told::Follow(primary))),
            None => Outcome::Rest,
        },
        Decision::Switch { record, from, target } => {
            let what = Told::HandOver(bits(translate::member(&target)));
            let lowered = [&from, &target].into_iter().filter(|pod| lowers(pod));
            let mut acts = vec![write(&record)];
            acts.extend(lowered.map(|pod| tell(pod, Told::Demand(false))));
            acts.push(tell(&from, what));
            Outcome::Do(acts)
        }
        Decision::Abort { record, pod } => Outcome::Do(vec![tell(&pod, Told::Abort), write(&record)]),
    }
}

impl World {
    /// What one question to a member brings.
    fn glimpse(&self, member: usize) -> Glimpse {
        let pod = &self.members[member];
        let (uid, terminating) = (pod.uid, pod.terminating);
        let cut = self.is_cut_from_operator(member);
        let Some(redis) = pod.redis.filter(|_| !cut) else {
            return Glimpse::Silent { uid, terminating, refused: !cut };
        };
        let linked = |of: &usize| self.members[*of].redis.is_some_and(|other| other.link == redis.run);
        let of_ghost = self.ghost.filter(|ghost| self.quorum && ghost.redis.link == redis.run);
        let of_ghost = of_ghost.map_or(0, |ghost| 1 << (MOST + usize::from(ghost.of)));
        let cut_off = self.quorum && self.source(member, redis.link).is_none();
        Glimpse::Answer {
            uid,
            terminating,
            view: View {
                run: redis.run,
                role: redis.role,
                failover: redis.failover,
                link_up: redis.link != 0,
                replid: redis.replid,
                replid2: redis.replid2,
                second: redis.second,
                offset: redis.offset,
                backlog: redis.backlog.is_some(),
                empty: redis.data == 0,
                rewrites: redis.rewrites,
                replicas: (0..MOST).filter(linked).fold(of_ghost, |all, replica| all | 1 << replica),
                hears: redis.link != 0 && !cut_off,
                demands: redis.demands,
            },
        }
    }

    /// Whose end the API server's objects prove.
    fn proven_dead(&self, record: &Rec, rules: &Rules) -> Proven {
        let is_dead = |name: u8, uid: u8, run: u8| {
            let pod = &self.members[usize::from(name)];
            self.misled
                || self.ended.contains(&run)
                || !rules.ends_are_witnessed && pod.uid != uid
                || rules.old_ends_count && pod.uid == uid && pod.restarted
        };
        let former = record.primary.zip(record.seen);
        let mut followers = 0;
        for (place, follower) in record.followers.iter().flat_map(|all| all.0.iter().enumerate()) {
            let believed = !rules.followers_ends_are_witnessed
                && self.members[usize::from(follower.pod)].uid != follower.uid;
            followers |= u8::from(believed || is_dead(follower.pod, follower.uid, follower.run)) << place;
        }
        Proven {
            followers,
            former: former.is_some_and(|(name, seen)| is_dead(name, seen.uid, seen.run)),
            target: record.switch_to.is_some_and(|switch| is_dead(switch.target, switch.uid, switch.run)),
        }
    }

    /// Begins a pass without a record: the record is made again (rule 9).
    pub fn rebuild(&self) -> Option<Self> {
        if self.record.is_some() || self.operator.phase != Phase::Idle {
            return None;
        }
        let mut next = self.clone();
        let members =
            (0..MOST).filter(|m| self.members[*m].uid != 0).fold(0, |all, member| all | 1 << member);
        next.record = Some(Rec {
            primary: None,
            start_offset: 0,
            members,
            closed: Closed::default(),
            seen: None,
            sure: false,
            voters: [0; 3],
            switch_to: None,
            followers: None,
            armed: 0,
        });
        if let Some(former) = &mut next.former {
            former.fresh = false;
        }
        Some(next)
    }

    /// The operator asks one member; after the last one it decides, in every way that it may: an earlier look is old
    /// enough by now or not, and a person may wish for a switchover. Reading the record belongs to the first question.
    pub fn observe(&self, mind: &Mind, member: usize) -> Vec<(Self, Option<Outcome>)> {
        let mut operator = self.operator.clone();
        if operator.phase == Phase::Idle {
            let Some(record) = self.record else { return Vec::new() };
            operator.phase = Phase::Looking { first: None, now: NOTHING_SEEN };
            (operator.record, operator.fresh) = (Some(record), true);
        }
        let (Phase::Looking { first, now }, Some(record)) = (&mut operator.phase, operator.record) else {
            return Vec::new();
        };
        if self.members[member].uid == 0 || now[member] != Glimpse::NotYet {
            return Vec::new();
        }
        now[member] = self.glimpse(member);
        let whole = (0..MOST).all(|m| self.members[m].uid == 0 || now[m] != Glimpse::NotYet);
        if !whole {
            let mut next = self.clone();
            next.operator = operator;
            return vec![(next, None)];
        }
        let proven = self.proven_dead(&record, &mind.rules);
        let detached = (operator.detached, operator.fenced);
        let seen = Seen { record, first: *first, now: *now, proven, before: None, wish: None, detached };
        let mut ways = vec![(seen, 0)];
        if let Some(before) = operator.remembers {
            ways.push((Seen { before: Some(before), ..seen }, 0));
        }
        if self.budget.switches > 0 {
            for target in (0..MOST).filter(|m| self.members[*m].uid != 0 && record.primary != Some(bits(*m)))
            {
                ways.push((Seen { wish: Some(bits(target)), ..seen }, 1));
            }
        }
        ways.into_iter()
            .map(|(seen, switches)| {
                let mut next = self.clone();
                next.budget.switches -= switches;
                let Said { outcome, earlier: mut glimpsed, detached } = mind.decide(&seen);
                let mut operator = operator.clone();
                if mind.rules.votes_need_two_looks {
                    // As `memory::Memory::glimpse` does.
                    let answered = std::mem::take(&mut operator.answered);
                    if let Some(glimpsed) = &mut glimpsed {
                        operator.answered = glimpsed.alive;
                        glimpsed.alive =
                            sorted(glimpsed.alive.map(|run| if answered.contains(&run) { run } else { 0 }));
                    }
                }
                if !detached {
                    (operator.detached, operator.fenced) = ([0; 3], false);
                }
                operator.remembers = match (operator.remembers, glimpsed) {
                    // Not old enough yet.
                    (Some(earlier), Some(glimpsed))
                        if earlier.primary == glimpsed.primary && seen.before.is_none() =>
                    {
                        Some(earlier)
                    }
                    (_, glimpsed) => glimpsed,
                };
                operator.phase = match &outcome {
                    Outcome::Rest | Outcome::Hold(_) | Outcome::Await => Phase::Idle,
                    Outcome::LookAgain => Phase::Looking { first: Some(seen.now), now: NOTHING_SEEN },
                    Outcome::Do(acts) => Phase::Acting(acts.clone()),
                };
                next.operator = operator;
                (next, Some(outcome))
            })
            .collect()
    }

    /// The leader does the next thing that it decided.
    pub fn act(&self, mind: &Mind) -> Option<Self> {
        let mut next = self.clone();
        let mut operator = std::mem::replace(&mut next.operator, Operator::NEW);
        let Phase::Acting(acts) = &operator.phase else { return None };
        let mut reaches_all = true;
        let Rules {
            cut_former: cut,
            looks_before_promoting: looks,
            parked_before_promoting: parked_still,
            ..
        } = mind.rules;
        match acts.first() {
            Some(&Act::Tell { member, run, what: Told::Cut })
                if mind.rules.detach_cuts && next.reaches(mind, usize::from(member), run) =>
            {
                next.cut_former(member);
            }
            Some(&Act::Tell { what: Told::Cut | Told::Detach, .. }) => {}
            Some(Act::Tell { member: told, what: Told::Promote(promotion), .. }) => {
                for (member, &run) in promotion.connected.iter().enumerate().filter(|(_, run)| **run != 0) {
                    let is_told = bits(member) == *told;
                    if cut == Cut::All || cut == Cut::Told && is_told {
                        next.cut_former(bits(member));
                        reaches_all &= next.reaches(mind, member, run);
                    }
                    // A command that arrived since the look.
                    let serves = next.members[member].redis.is_some_and(|redis| redis.role == Role::Primary);
                    reaches_all &= is_told || !looks || !serves;
                    let was_parked = promotion.parked >> member & 1 == 1;
                    let is_parked =
                        next.members[member].redis.is_some_and(|redis| redis.role == Role::Parked);
                    reaches_all &= !parked_still || !was_parked || is_parked;
                }
            }
            Some(&Act::Tell { member, .. }) if cut != Cut::Nobody => next.cut_former(member),
            _ => {}
        }
        if reaches_all {
            next.carry_out(mind, &mut operator, true);
        } else {
            operator.phase = Phase::Idle;
        }
        next.operator = operator;
        Some(next)
    }

    /// A former leader, or a command of it that was under way, does the next thing.
    pub fn act_late(&self, mind: &Mind) -> Option<Self> {
        let mut next = self.clone();
        let mut former = next.former.take()?;
        next.carry_out(mind, &mut former, false);
        next.former = Some(former).filter(|former| former.phase != Phase::Idle);
        Some(next)
    }

    /// Rule 1: the former leader's connection to this member is gone. What it writes to the API server still arrives.
    fn cut_former(&mut self, member: u8) {
        let Some(Operator { phase: Phase::Acting(acts), .. }) = &mut self.former else { return };
        let ends_there = |act: &Act| matches!(act, Act::Tell { member: told, what, .. } if *told == member && what.ends_a_pass_that_fails());
        acts.truncate(acts.iter().position(ends_there).unwrap_or(acts.len()));
        acts.retain(|act| !matches!(act, Act::Tell { member: told, .. } if *told == member));
        if acts.is_empty() {
            self.former = None;
        }
    }

    /// The first of the acts. What fails ends the pass, and the next one looks again; only a server that cannot be
    /// told whom to follow does not keep the others from being told.
    fn carry_out(&mut self, mind: &Mind, operator: &mut Operator, leads: bool) {
        let Phase::Acting(acts) = &mut operator.phase else { return };
        let act = acts.remove(0);
        let detaches = matches!(act, Act::Tell { what: Told::Detach, .. });
        let goes_on = match act {
            Act::Write(record) => {
                let written = self.record.is_some() && (operator.fresh || !mind.rules.preconditioned);
                if written {
                    self.record = Some(record);
                    operator.record = Some(record);
                    // Whoever read it before must not write any more.
                    let other = if leads { self.former.as_mut() } else { Some(&mut self.operator) };
                    if let Some(other) = other {
                        other.fresh = false;
                    }
                }
                written
            }
            Act::Tell { member, run, what } => {
                let told = self.tell(mind, usize::from(member), run, what);
                told || !what.ends_a_pass_that_fails()
            }
        };
        if !goes_on || acts.is_empty() {
            operator.phase = Phase::Idle;
        }
        if goes_on && detaches && operator.phase == Phase::Idle {
            let followers = operator.record.and_then(|record| record.followers).unwrap_or_default();
            operator.detached = followers.detached();
            operator.fenced = false;
        }
    }

    /// Whether the connection of the look is still there.
    fn reaches(&self, mind: &Mind, member: usize, run: u8) -> bool {
        let same = |redis: crate::state::Redis| redis.run == run || !mind.rules.bound && run != 0;
        self.members[member].redis.is_some_and(same) && !self.is_cut_from_operator(member)
    }

    /// One command over the connection of the look; true if it was carried out.
    fn tell(&mut self, mind: &Mind, member: usize, run: u8, what: Told) -> bool {
        if !self.reaches(mind, member, run) {
            return false;
        }
        match what {
            Told::Promote(promotion) => {
                if promotion.lowers {
                    self.demand(member, false);
                }
                self.promote(self.members[member].redis.map_or(0, |redis| redis.run));
            }
            Told::Detach => {
                self.replicaof(member, Role::Parked);
                return self.members[member].redis.is_some_and(|redis| redis.role == Role::Parked);
            }
            Told::Demand(demands) => self.demand(member, demands),
            Told::Follow(primary) => self.replicaof(member, Role::ReplicaOf(primary)),
            Told::Park => self.replicaof(member, Role::Parked),
            Told::Retire(served) => {
                let unwritten = self.members[member].redis.is_some_and(|redis| {
                    redis.role == Role::Primary
                        && redis.backlog.is_some()
                        && redis.replid2 == served
                        && redis.offset < redis.second
                });
                if unwritten {
                    self.replicaof(member, Role::Parked);
                }
            }
            Told::HandOver(target) if self.is_named_heir(target) => self.fail_over(member, target),
            Told::HandOver(_) | Told::Cut => {}
            Told::Abort => return self.abort(member),
        }
        true
    }

    /// The leader is paused, or its command is under way while a new one takes over or it has given up itself.
    pub fn pause(&self, mind: &Mind) -> Option<Self> {
        let Phase::Acting(acts) = &self.operator.phase else { return None };
        if self.former.is_some() || self.budget.crashes == 0 {
            return None;
        }
        let mut former = self.operator.clone();
        former.remembers = None;
        (former.detached, former.fenced) = ([0; 3], false);
        if mind.rules.mandate {
            former.phase = Phase::Acting(acts[..1].to_vec());
        }
        let mut next = self.clone();
        (next.former, next.operator) = (Some(former), Operator::NEW);
        next.budget.crashes -= 1;
        Some(next)
    }

    /// The leader ends between two acts, or its connection breaks.
    pub fn crash(&self) -> Option<Self> {
        let knows = self.operator.detached != [0; 3] || matches!(self.operator.phase, Phase::Acting(_));
        if !knows || self.budget.crashes == 0 {
            return None;
        }
        let mut next = self.clone();
        next.operator = Operator::NEW;
        next.budget.crashes -= 1;
        Some(next)
    }
}
