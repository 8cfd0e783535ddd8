//! Who serves, asked of all members without pause: where the clients write to, and whether anybody serves who has
//! lost its keys.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use redis::{Connection, Value};

use rig::clock::{millis, now};
use rig::node::{Target, redis_client::connect};

/// Between two questions to one server.
const INTERVAL: Duration = Duration::from_millis(20);
/// An answer that is older says nothing about now, in milliseconds.
const FRESH_MILLIS: i64 = 100;

/// One that served so lately still does, unless it said otherwise, in milliseconds.
const COVERED_MILLIS: i64 = 1_000;

/// The last answers of all members.
#[derive(Clone, Default)]
pub struct Serving(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    members: BTreeMap<String, Member>,
    /// The most keys that a serving primary had.
    most_keys: i64,
    /// Servers that served with less than half of that while nobody else served with more, in words.
    wiped: BTreeMap<String, String>,
}

struct Member {
    target: Target,
    /// When it said last that it serves as primary, and with how many keys; none if its last answer was another, or none came.
    served: Option<(Timestamp, i64)>,
}

impl Serving {
    /// Begins to ask this server in place of an earlier one with its name.
    pub fn ask(&self, target: Target) {
        let member = Member { target: target.clone(), served: None };
        self.state().members.insert(target.pod.clone(), member);
        let serving = self.clone();
        std::thread::spawn(move || serving.follow(&target));
    }

    /// Servers that say now that they serve as primary, those that said so last first.
    pub fn primaries(&self) -> Vec<Target> {
        let (state, now) = (self.state(), now());
        let mut found: Vec<_> = state
            .members
            .values()
            .filter_map(|member| Some((member.served?.0, member.target.clone())))
            .filter(|(at, _)| millis(*at, now) <= FRESH_MILLIS)
            .collect();
        found.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
        found.into_iter().map(|(_, target)| target).collect()
    }

    /// What served without its keys at any moment, in words.
    pub fn wiped(&self) -> Vec<String> {
        self.state().wiped.values().cloned().collect()
    }

    /// The most keys that a serving primary has had.
    pub fn most_keys(&self) -> i64 {
        self.state().most_keys
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn follow(&self, target: &Target) {
        loop {
            let mut connection = connect(target).ok();
            while let Some(open) = &mut connection {
                let answer = ask(open);
                if !self.put(target, answer.as_ref().ok().copied()) {
                    return;
                }
                if answer.is_err() {
                    connection = None;
                }
                std::thread::sleep(INTERVAL);
            }
            if !self.put(target, None) {
                return;
            }
            std::thread::sleep(INTERVAL);
        }
    }

    /// Keeps an answer; false once another server has this one's name.
    fn put(&self, target: &Target, answer: Option<(bool, i64)>) -> bool {
        let mut state = self.state();
        let Some(member) = state.members.get_mut(&target.pod).filter(|m| m.target == *target) else {
            return false;
        };
        let serves = answer.filter(|(serves, _)| *serves);
        let at = now();
        member.served = serves.map(|(_, keys)| (at, keys));
        if let Some((_, keys)) = serves {
            state.most_keys = state.most_keys.max(keys);
            let most = state.most_keys;
            // A primary that was cut off comes back with what it had, beside the one that took over.
            let is_covered = state
                .members
                .values()
                .filter_map(|member| member.served)
                .any(|(last, keys)| keys >= most / 2 && millis(last, at) <= COVERED_MILLIS);
            if keys < most / 2 && !is_covered {
                let words = format!("{} served with {keys} keys where {most} had been", target.pod);
                state.wiped.entry(target.pod.clone()).or_insert(words);
            }
        }
        true
    }
}

/// Whether it serves as primary, and how many keys it has.
fn ask(connection: &mut Connection) -> redis::RedisResult<(bool, i64)> {
    let (role, keys): (Vec<Value>, i64) = redis::pipe().cmd("ROLE").cmd("DBSIZE").query(connection)?;
    let role: String = role.first().map(redis::from_redis_value_ref).transpose()?.unwrap_or_default();
    Ok((role == "master", keys))
}
