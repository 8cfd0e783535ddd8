//! The operator: one observation or one act a step, with the shipped functions deciding in between.

use std::cell::RefCell;

use redis_operator::decide::{Decision, HoldReason};

use crate::{
    redis::{Storage, bits},
    rules::Rules,
    search::{ByDigest, fingerprint},
    state::{Act, Acts, Glimpse, Glimpses, MOST, NOTHING_SEEN, Operator, Phase, Rec, Role, Told, View, World},
    translate,
};

/// What the operator makes of a whole look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Rest,
    Hold(HoldReason),
    LookAgain,
    Do(Acts),
}

/// The operator's mind: the rules, and what they said before. They are pure, and are asked the same again and again.
pub struct Mind {
    pub rules: Rules,
    pub storage: Storage,
    said: RefCell<ByDigest<Outcome>>,
}

/// The member's histories as its `replid2` shows when there is none.
impl Mind {
    pub fn new(rules: Rules, storage: Storage) -> Self {
        Self { rules, storage, said: RefCell::default() }
    }

    pub fn decide(&self, record: &Rec, first: Option<&Glimpses>, now: &Glimpses, former_ended: bool) -> Outcome {
        let key = fingerprint(&(record, first, now, former_ended));
        if let Some(said) = self.said.borrow().get(&key) {
            return said.clone();
        }
        let outcome = self.ask(record, first, now, former_ended);
        self.said.borrow_mut().insert(key, outcome.clone());
        outcome
    }

    fn ask(&self, rec: &Rec, first: Option<&Glimpses>, now: &Glimpses, former_ended: bool) -> Outcome {
        let record = translate::record(rec);
        let look = |glimpses| translate::look(self.storage, &record, glimpses, former_ended);
        let now_seen = look(now);
        let decision = match first {
            Some(first) => (self.rules.elect)(&record, &look(first), &now_seen),
            None => (self.rules.decide)(&record, &now_seen),
        };
        let tell = |pods: Vec<String>, what: Told| {
            let to = |pod: String| {
                let member = translate::member(&pod);
                match now[member] {
                    Glimpse::Answer { view, .. } => Act::Tell { member: bits(member), run: view.run, what },
                    // No connection: the act fails, as in the product.
                    _ => Act::Tell { member: bits(member), run: 0, what },
                }
            };
            Outcome::Do(pods.into_iter().map(to).collect())
        };
        match decision {
            Decision::Rest => Outcome::Rest,
            Decision::Hold(hold) => Outcome::Hold(hold.reason),
            Decision::LookAgain => Outcome::LookAgain,
            Decision::Note(record) => Outcome::Do(vec![Act::Write(translate::rec(&record))]),
            // Nobody promotes by hand in the model: whoever is to be retired is parked.
            Decision::Park(pods) | Decision::Retire(pods) => tell(pods, Told::Park),
            Decision::Promote { record, pod } => {
                let Outcome::Do(told) = tell(vec![pod], Told::Promote) else { return Outcome::Rest };
                Outcome::Do([vec![Act::Write(translate::rec(&record))], told].concat())
            }
            Decision::Follow(pods) => match record.primary.as_deref() {
                Some(primary) => tell(pods, Told::Follow(bits(translate::member(primary)))),
                None => Outcome::Rest,
            },
        }
    }
}

impl World {
    /// What one question to a member brings.
    fn glimpse(&self, member: usize) -> Glimpse {
        let uid = self.members[member].uid;
        let Some(redis) = self.members[member].redis.filter(|_| !self.is_cut_from_operator(member)) else {
            return Glimpse::Silent { uid };
        };
        let linked = |of: &usize| self.members[*of].redis.is_some_and(|other| other.link == redis.run);
        Glimpse::Answer {
            uid,
            view: View {
                run: redis.run,
                role: redis.role,
                link_up: redis.link != 0,
                replid: redis.replid,
                replid2: redis.replid2,
                second: redis.second,
                offset: redis.offset,
                backlog: redis.backlog.is_some(),
                empty: redis.data == 0,
                replicas: (0..MOST).filter(linked).fold(0, |all, replica| all | 1 << replica),
            },
        }
    }

    fn former_ended(&self, record: &Rec, mind: &Mind) -> bool {
        !mind.rules.ends_are_witnessed
            || record.seen.is_some_and(|seen| seen.uid != 0 && self.ended.contains(&seen.uid))
    }

    /// Begins a pass without a record: the record is made anew (rule 9).
    pub fn rebuild(&self) -> Option<Self> {
        if self.record.is_some() || self.operator != Operator::IDLE {
            return None;
        }
        let mut next = self.clone();
        let members = (0..MOST).filter(|m| self.members[*m].uid != 0).fold(0, |all, member| all | 1 << member);
        let first = Rec {
            primary: None,
            start_offset: 0,
            members,
            closed: crate::state::Closed::default(),
            seen: None,
            sure: false,
        };
        next.record = Some(first);
        if let Some(former) = &mut next.former {
            former.fresh = false;
        }
        Some(next)
    }

    /// The operator asks one member; after the last one it decides. Reading the record belongs to the first question.
    pub fn observe(&self, mind: &Mind, member: usize) -> Option<(Self, Option<Outcome>)> {
        let mut operator = match &self.operator.phase {
            Phase::Idle => Operator {
                phase: Phase::Looking { first: None, now: NOTHING_SEEN },
                record: Some(self.record?),
                fresh: true,
            },
            Phase::Looking { .. } => self.operator.clone(),
            Phase::Acting(_) => return None,
        };
        let Phase::Looking { first, now } = &mut operator.phase else { return None };
        if self.members[member].uid == 0 || now[member] != Glimpse::NotYet {
            return None;
        }
        now[member] = self.glimpse(member);
        let whole = (0..MOST).all(|m| self.members[m].uid == 0 || now[m] != Glimpse::NotYet);
        let mut outcome = None;
        if whole {
            let record = operator.record.as_ref()?;
            let decided = mind.decide(record, first.as_ref(), now, self.former_ended(record, mind));
            operator.phase = match &decided {
                Outcome::Rest | Outcome::Hold(_) => Phase::Idle,
                Outcome::LookAgain => Phase::Looking { first: Some(*now), now: NOTHING_SEEN },
                Outcome::Do(acts) => Phase::Acting(acts.clone()),
            };
            outcome = Some(decided);
        }
        let mut next = self.clone();
        next.operator = operator;
        Some((next, outcome))
    }

    /// The leader does the next thing that it decided.
    pub fn act(&self, mind: &Mind) -> Option<Self> {
        let mut next = self.clone();
        let mut operator = std::mem::replace(&mut next.operator, Operator::IDLE);
        let Phase::Acting(acts) = &operator.phase else { return None };
        if mind.rules.cut_former
            && let Some(&Act::Tell { member, .. }) = acts.first()
        {
            next.cut_former(member);
        }
        next.carry_out(mind, &mut operator, true);
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

    /// Rule 1: the former leader's connection to this member is gone, and with it its pass.
    fn cut_former(&mut self, member: u8) {
        if let Some(Operator { phase: Phase::Acting(acts), .. }) = &self.former {
            let next = acts.iter().find_map(|act| match act {
                Act::Tell { member, .. } => Some(*member),
                Act::Write(_) => None,
            });
            if next == Some(member) {
                self.former = None;
            }
        }
    }

    /// The first of the acts. What fails ends the pass, and the next one looks again; only a server that cannot be
    /// told whom to follow does not keep the others from being told.
    fn carry_out(&mut self, mind: &Mind, operator: &mut Operator, leads: bool) {
        let Phase::Acting(acts) = &mut operator.phase else { return };
        let goes_on = match acts.remove(0) {
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
                told || what != Told::Promote
            }
        };
        if !goes_on || acts.is_empty() {
            operator.phase = Phase::Idle;
        }
    }

    fn tell(&mut self, mind: &Mind, member: usize, run: u8, what: Told) -> bool {
        let reached = self.members[member]
            .redis
            .is_some_and(|redis| redis.run == run || !mind.rules.bound && run != 0);
        if !reached || self.is_cut_from_operator(member) {
            return false;
        }
        match what {
            Told::Promote => self.promote(member),
            Told::Follow(primary) => self.replicaof(member, Role::ReplicaOf(primary)),
            Told::Park => self.replicaof(member, Role::Parked),
        }
        true
    }

    /// The leader is paused, or its command is under way while a new one takes over.
    pub fn pause(&self) -> Option<Self> {
        if !matches!(self.operator.phase, Phase::Acting(_)) || self.former.is_some() || self.budget.crashes == 0 {
            return None;
        }
        let mut next = self.clone();
        next.former = Some(std::mem::replace(&mut next.operator, Operator::IDLE));
        next.budget.crashes -= 1;
        Some(next)
    }

    /// The leader ends between two acts, or its connection breaks.
    pub fn crash(&self) -> Option<Self> {
        if !matches!(self.operator.phase, Phase::Acting(_)) || self.budget.crashes == 0 {
            return None;
        }
        let mut next = self.clone();
        next.operator = Operator::IDLE;
        next.budget.crashes -= 1;
        Some(next)
    }
}
