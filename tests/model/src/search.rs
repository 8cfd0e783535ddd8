//! Breadth-first search over explicit states, with the shortest trace to a violation.
//!
//! Own code rather than the crate `stateright`: see the crate's documentation.

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    fmt,
    hash::{BuildHasherDefault, Hash, Hasher},
};

use sha2::{Digest, Sha256};

/// What is searched.
pub trait Model {
    type State: Clone + Hash + fmt::Display;
    type Step: Copy + fmt::Debug;

    fn first(&self) -> Vec<Self::State>;
    /// All steps that may happen next.
    fn next(&self, state: &Self::State) -> Vec<(Self::Step, Self::State)>;
    /// What is wrong with a state.
    fn wrong(&self, state: &Self::State) -> Option<String>;
}

/// What a search found.
#[derive(Debug)]
pub struct Report {
    pub states: usize,
    pub steps: usize,
    pub depth: usize,
    /// Everything within the bounds was seen.
    pub complete: bool,
    /// The shortest way to what must not be.
    pub trace: Option<String>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { states, steps, depth, .. } = self;
        let all = if self.complete { "all" } else { "the first" };
        write!(f, "{all} {states} states, {steps} steps, depth {depth}")
    }
}

/// Collects what a value hashes: 128 bits of a digest of it stand for the state, so no two states are ever mixed up.
#[derive(Default)]
struct Bytes(Vec<u8>);

impl Hasher for Bytes {
    fn finish(&self) -> u64 {
        0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }
}

/// The digest of a value.
pub fn fingerprint(value: &impl Hash) -> u128 {
    let mut bytes = Bytes(Vec::with_capacity(512));
    value.hash(&mut bytes);
    let digest = Sha256::digest(&bytes.0);
    u128::from_le_bytes(digest[..16].try_into().expect("a digest has 32 bytes"))
}

/// Keys are digests already.
#[derive(Default)]
pub struct Digested(u64);

impl Hasher for Digested {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes.iter().take(8) {
            self.0 = self.0 << 8 | u64::from(*byte);
        }
    }
}

/// A map from digests.
pub type ByDigest<V> = HashMap<u128, V, BuildHasherDefault<Digested>>;

/// Explores everything, or the first `most` states.
pub fn explore<M: Model>(model: &M, most: usize) -> Report {
    // To each state the one it was reached from.
    let mut seen: ByDigest<u128> = ByDigest::default();
    let mut queue = VecDeque::new();
    let mut report = Report { states: 0, steps: 0, depth: 0, complete: true, trace: None };
    for state in model.first() {
        let key = fingerprint(&state);
        seen.insert(key, key);
        queue.push_back((state, key, 0));
    }
    while let Some((state, key, depth)) = queue.pop_front() {
        report.states += 1;
        report.depth = report.depth.max(depth);
        if let Some(wrong) = model.wrong(&state) {
            report.trace = Some(format!("{wrong}\n{}", trace(model, &seen, key)));
            return report;
        }
        if report.states >= most {
            report.complete = false;
            return report;
        }
        for (_, next) in model.next(&state) {
            report.steps += 1;
            let reached = fingerprint(&next);
            if let Entry::Vacant(entry) = seen.entry(reached) {
                entry.insert(key);
                queue.push_back((next, reached, depth + 1));
            }
        }
    }
    report
}

/// The way to a state, found again step by step.
fn trace<M: Model>(model: &M, seen: &ByDigest<u128>, last: u128) -> String {
    let mut keys = vec![last];
    while let Some(&before) =
        keys.last().and_then(|key| seen.get(key)).filter(|before| keys.last() != Some(before))
    {
        keys.push(before);
    }
    keys.reverse();
    let mut lines = Vec::new();
    let Some(mut state) = model.first().into_iter().find(|state| fingerprint(state) == keys[0]) else {
        return String::new();
    };
    lines.push(state.to_string());
    for key in &keys[1..] {
        let Some((step, next)) = model.next(&state).into_iter().find(|(_, next)| fingerprint(next) == *key)
        else {
            break;
        };
        lines.push(format!("  {step:?}"));
        let shown = next.to_string();
        if shown != state.to_string() {
            lines.push(shown);
        }
        state = next;
    }
    lines.join("\n")
}
