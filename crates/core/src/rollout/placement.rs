//! Where the primary belongs, and when it may go there.

use redis_node::record::Record;

use super::next_pod::Roll;
use crate::{
    api::{annotations::Home, status::InstanceState},
    election::{
        mending::can_write,
        snapshot::Snapshot,
        switchover::{astray, best_target, can_take_over, rewrites_aof},
    },
    names::SetName,
    observed::ObservedPod,
    topology::Verdict,
};

/// Whether the primary is to move.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Placement {
    /// It is where it belongs.
    Stay,
    /// To this pod.
    Move {
        /// The pod.
        target: String,
        /// Why, in plain words.
        why: &'static str,
    },
    /// It should, and cannot yet; what is waited for.
    Wait(String),
    /// Home, in this many seconds at the earliest.
    Later(u64),
}

/// A replica that has just come up may go again: the primary returns to one that has stayed up for this long.
const SETTLED_SECONDS: i64 = 30;

/// Whether the primary is to move now: away from a pod that is to be removed or replaced, or home. `revision` is that of the
/// present pod template, as far as it is known.
pub fn wish(
    set: &SetName,
    wanted: i32,
    home: Option<&Home>,
    record: &Record,
    look: &Snapshot,
    (roll, revision): (&Roll, Option<&str>),
) -> Placement {
    let primary = record.primary.as_deref().and_then(|pod| Some((pod, set.ordinal(pod)?)));
    let Some((primary, ordinal)) = primary else { return Placement::Stay };
    if look.topology.get(primary).is_none_or(|v| v.state != InstanceState::Primary) {
        return Placement::Stay;
    }
    let away = |why: &'static str, fits: &dyn Fn(&ObservedPod) -> bool| match best_target(look, fits) {
        Some(target) => Placement::Move { target: target.to_owned(), why },
        None if let Some(astray) = astray(look, fits) => {
            Placement::Wait(format!("{primary} is the primary and cannot hand over yet: {why}, and {astray}"))
        }
        None => Placement::Wait(format!(
            "{primary} is the primary and cannot hand over yet: {why}, and no replica that stays is in sync, \
             known by its present address everywhere (DNS caches), and done with rewriting its append-only file"
        )),
    };
    if ordinal >= wanted {
        return away("its pod is to be removed", &|pod| pod.ordinal < wanted);
    }
    if let Roll::MovePrimary { revision } = roll {
        return away("its pod is to be replaced", &|pod| {
            pod.ordinal < wanted && pod.revision.as_ref() == Some(revision)
        });
    }
    // A pod was just told to go; this look does not show it yet.
    if matches!(roll, Roll::Replace { .. }) {
        return Placement::Stay;
    }
    match home.filter(|home| home.pod != primary) {
        Some(home) => homewards(set, wanted, home, primary, look, (roll, revision)),
        None => Placement::Stay,
    }
}

/// Whether the primary is to move home now.
fn homewards(
    set: &SetName,
    wanted: i32,
    home: &Home,
    primary: &str,
    look: &Snapshot,
    (roll, revision): (&Roll, Option<&str>),
) -> Placement {
    let target = home.pod.clone();
    let Some(pod) = look.observed.pods.iter().find(|pod| pod.name == target && pod.ordinal < wanted) else {
        // The words first: what a person wrote may be long.
        let no_pod = || {
            Placement::Wait(format!(
                "there is no pod of this set to become the primary under the name {target:?}"
            ))
        };
        return if home.asked { no_pod() } else { Placement::Stay };
    };
    let is_current = |name: &str| {
        let pod = look.observed.pods.iter().find(|pod| pod.name == name);
        pod.is_some_and(|pod| pod.revision.as_deref() == revision)
    };
    // A roll has brought the primary this far; back on the pod that is to be replaced it would have to move once more.
    if home.asked && *roll != Roll::Done && is_current(primary) && !is_current(&target) {
        return Placement::Wait(format!(
            "{target} is to become the primary once the roll has replaced its pod"
        ));
    }
    let cannot_write = || {
        Placement::Wait(format!(
            "{target} is to become the primary, and would refuse writes: its last save, or its last write to the append-only \
             file, failed. The next one that succeeds ends this (its log says why it failed, most often a full volume)"
        ))
    };
    if home.asked && !can_write(look, pod) {
        return cannot_write();
    }
    if home.asked {
        return if can_take_over(look, pod) {
            Placement::Move { target, why: "a person asked for it" }
        } else if let Some(astray) = astray(look, |pod| pod.name == target) {
            Placement::Wait(format!("{target} is to become the primary, and cannot yet: {astray}"))
        } else {
            Placement::Wait(format!(
                "{target} is to become the primary once it is in sync, known by its present address everywhere (DNS \
                 caches), and done with rewriting its append-only file"
            ))
        };
    }
    let is_verified = |ordinal| look.topology.get(&set.pod(ordinal)).is_some_and(Verdict::is_verified);
    if *roll != Roll::Done || !(0..wanted).all(is_verified) || rewrites_aof(pod) {
        return Placement::Stay;
    }
    if !can_write(look, pod) {
        return cannot_write();
    }
    if let Some(astray) = &pod.astray {
        return Placement::Wait(format!(
            "{target} is where the primary belongs, and cannot be it yet: {astray}"
        ));
    }
    let uptime = pod.answer.as_ref().map_or(0, |answer| answer.info.server.uptime_seconds);
    match u64::try_from(SETTLED_SECONDS - uptime) {
        Ok(left @ 1..) => Placement::Later(left),
        _ => Placement::Move { target, why: "it is where the primary belongs" },
    }
}
