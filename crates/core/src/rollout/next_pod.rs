//! Which pod to replace next, so that it runs the current template.
//!
//! Pure. The `StatefulSet` is `OnDelete`: it never replaces a running pod, and it never frees a pod that cannot start
//! (kubernetes/kubernetes issue 67250), so both are decided here.

use crate::{
    api::status::InstanceState,
    election::{snapshot::Snapshot, switchover::rewrites_aof},
    names::SetName,
    observed::ObservedPod,
    rollout::compatibility,
    topology::Verdict,
};
use redis_node::record::Record;

/// What the roll needs next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Roll {
    /// Every pod runs the current template.
    Done,
    /// Delete this pod; the `StatefulSet` makes it again from the current template.
    Replace {
        /// Name of the pod.
        pod: String,
        /// Its UID, as the delete's precondition.
        uid: String,
        /// Why, in plain words.
        why: String,
    },
    /// Only the primary's pod is outdated. The primary moves to a pod of the current template first.
    MovePrimary {
        /// The current template.
        revision: String,
    },
    /// The `StatefulSet` controller has not seen the latest change yet, so nobody knows which pods are outdated.
    Unknown,
    /// Pods of an older template remain; the message says what is waited for.
    Wait(String),
}

/// What the `StatefulSet` controller says of its template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    /// `status.updateRevision`, once the controller has seen the current template.
    pub revision: Option<String>,
    /// `spec.replicas`.
    pub replicas: i32,
    /// The image of its Redis.
    pub image: String,
    /// Data lives only in the pods.
    pub ephemeral: bool,
}

/// Replicas from the highest ordinal down, each verified before the next; then the primary moves, and its pod is
/// replaced as a replica's. A pod that cannot start is replaced at once.
pub fn roll(set: &SetName, template: &Template, record: &Record, look: &Snapshot) -> Roll {
    let Some(revision) = &template.revision else {
        return Roll::Unknown;
    };
    let mut outdated: Vec<&ObservedPod> = look
        .observed
        .pods
        .iter()
        .filter(|p| p.ordinal < template.replicas && p.revision.as_ref() != Some(revision))
        .collect();
    outdated.sort_by_key(|p| std::cmp::Reverse(p.ordinal));
    let is_primary = |p: &&ObservedPod| record.primary.as_deref() == Some(p.name.as_str());
    if outdated.is_empty() {
        let altered = altered(template, look).filter(|p| !(template.ephemeral && is_primary(p)));
        return altered.map_or(Roll::Done, free);
    }
    // An image whose name did not tell its version: the replica that was replaced with it tells.
    let primary = record.primary.as_deref().unwrap_or_default();
    if let Some(why) = compatibility::overtaken(look, primary, revision) {
        return Roll::Wait(why);
    }
    let stuck = outdated.iter().copied().find(|p| cannot_start(p)).or_else(|| altered(template, look));
    if let Some(stuck) = stuck {
        return replace_stuck(stuck, template, record, look);
    }
    // Verified by its servers' answers, and by the kubelet too: the disruption budget counts what the kubelet says.
    let is_verified = |pod: &str| {
        look.topology.get(pod).is_some_and(Verdict::is_verified)
            // A copy that is not on its volume yet is none to rely on.
            && look.observed.pods.iter().any(|p| p.name == pod && p.ready && !rewrites_aof(p))
    };
    let mut unverified =
        (0..template.replicas).map(|ordinal| set.pod(ordinal)).filter(|pod| !is_verified(pod)).peekable();
    // A replica of the old template that does not become verified is what the new template is to mend.
    let is_hopeless =
        |pod: &String| outdated.iter().any(|p| p.name == *pod && !p.terminating && !is_primary(p));
    let next = match unverified.peek().cloned() {
        Some(pod) if !unverified.all(|pod| is_hopeless(&pod)) => {
            let rewrites = look.observed.pods.iter().any(|p| p.name == pod && rewrites_aof(p));
            let what = if rewrites { "be done with rewriting its append-only file" } else { "be verified" };
            return Roll::Wait(format!("{pod} must {what} before the next pod is replaced"));
        }
        Some(_) => outdated.iter().find(|p| !is_verified(&p.name)),
        None => outdated.iter().find(|p| !is_primary(p)).or(outdated.first()),
    };
    let Some(next) = next else { return Roll::Done };
    let serves = look.topology.get(&next.name).is_some_and(|v| v.state == InstanceState::Primary);
    if is_primary(next) && serves && template.replicas > 1 {
        return Roll::MovePrimary { revision: revision.clone() };
    }
    if template.ephemeral && template.replicas == 1 {
        return Roll::Wait(format!(
            "{} holds the only copy of the data, in memory; set spec.replicas to 2 or more first",
            next.name
        ));
    }
    Roll::Replace {
        pod: next.name.clone(),
        uid: next.uid.clone(),
        why: "its template was changed".to_owned(),
    }
}

/// Replaces a pod that cannot start, unless it may hold the only copy of the data.
fn replace_stuck(stuck: &ObservedPod, template: &Template, record: &Record, look: &Snapshot) -> Roll {
    let is_primary = record.primary.as_deref() == Some(stuck.name.as_str());
    // Where nobody serves, any of them may have what nobody else has; unless nobody ever served.
    let has_served = record.primary.is_some() || !record.sure;
    if template.ephemeral && has_served && !look.primary_serves(record) && !is_primary {
        return Roll::Wait(format!(
            "{} cannot start, and no server serves: its pod may hold the only copy of the data. Delete the pod yourself \
             to accept its loss",
            stuck.name
        ));
    }
    if template.ephemeral && is_primary {
        return Roll::Wait(format!(
            "{} cannot start, and was the primary with its data in the pod: replacing it would lose what nobody \
             else has. Delete the pod yourself to accept that",
            stuck.name
        ));
    }
    free(stuck)
}

fn free(stuck: &ObservedPod) -> Roll {
    Roll::Replace {
        pod: stuck.name.clone(),
        uid: stuck.uid.clone(),
        why: format!("it cannot start with the image {}, and its template is another one", stuck.image),
    }
}

fn cannot_start(pod: &ObservedPod) -> bool {
    !pod.terminating && pod.answer.is_err() && pod.stuck.is_some()
}

/// A pod that cannot start with the image that somebody gave to it: made again it has the template's. Where no pod has
/// that one, the API server's admission gives them another, and would again.
fn altered<'a>(template: &Template, look: &'a Snapshot) -> Option<&'a ObservedPod> {
    let mut mine = look.observed.pods.iter().filter(|pod| pod.ordinal < template.replicas);
    mine.clone().find(|pod| pod.image == template.image)?;
    mine.find(|pod| pod.image != template.image && cannot_start(pod))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::status::InstanceState::{InSync, LinkDown, Pending, Primary},
        topology::Verdict,
    };

    fn set() -> SetName {
        SetName::new("lab", "redis")
    }

    fn template(replicas: i32) -> Template {
        Template { revision: Some("new".into()), replicas, image: "redis:7".into(), ephemeral: false }
    }

    fn record(primary: i32) -> Record {
        Record { epoch: 1, primary: Some(set().pod(primary)), ..Record::first(Vec::new(), true) }
    }

    /// Pods by ordinal, with their state and template.
    fn look(pods: &[(InstanceState, &str)]) -> Snapshot {
        let mut look = Snapshot::default();
        for ((state, revision), ordinal) in pods.iter().zip(0..) {
            look.observed.pods.push(ObservedPod {
                revision: Some((*revision).to_owned()),
                ..ObservedPod::running(ordinal)
            });
            look.topology.instances.push(Verdict {
                pod: set().pod(ordinal),
                ordinal,
                state: *state,
                serves: *state == Primary,
                faults: Vec::new(),
            });
        }
        look
    }

    fn replaced(roll: &Roll) -> &str {
        match roll {
            Roll::Replace { pod, uid, .. } => {
                assert_eq!(uid.trim_start_matches("uid-"), pod.trim_start_matches("redis-"));
                pod
            }
            other => panic!("{other:?}"),
        }
    }

    fn waits(roll: &Roll) -> &str {
        match roll {
            Roll::Wait(what) => what,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn from_the_highest_ordinal_down_and_the_primary_moves_before_its_pod() {
        for (primary, order) in [(0, ["redis-2", "redis-1"]), (1, ["redis-2", "redis-0"])] {
            let mut pods = [(InSync, "old"); 3];
            let at = usize::try_from(primary).unwrap();
            pods[at].0 = Primary;
            for next in order {
                let roll = roll(&set(), &template(3), &record(primary), &look(&pods));
                assert_eq!(replaced(&roll), next);
                let ordinal = usize::try_from(set().ordinal(next).unwrap()).unwrap();
                pods[ordinal].1 = "new";
            }
            let moves = roll(&set(), &template(3), &record(primary), &look(&pods));
            assert_eq!(moves, Roll::MovePrimary { revision: "new".into() });
            // It handed over: what is left is a replica's pod.
            (pods[at].0, pods[2].0) = (InSync, Primary);
            let rest = roll(&set(), &template(3), &record(2), &look(&pods));
            assert_eq!(replaced(&rest), set().pod(primary));
            pods[at].1 = "new";
            assert_eq!(roll(&set(), &template(3), &record(2), &look(&pods)), Roll::Done);
        }
    }

    #[test]
    fn waits_until_everybody_is_verified() {
        let unlinked = look(&[(Primary, "old"), (InSync, "old"), (LinkDown, "new")]);
        let next = roll(&set(), &template(3), &record(0), &unlinked);
        assert_eq!(waits(&next), "redis-2 must be verified before the next pod is replaced");
        // The replaced pod is not there again yet.
        let missing = look(&[(Primary, "old"), (InSync, "old")]);
        assert_eq!(roll(&set(), &template(3), &record(0), &missing), next);
        // A pod that is about to be removed holds up nobody, and is not replaced.
        let leaving = look(&[(Primary, "new"), (InSync, "old"), (LinkDown, "old")]);
        assert_eq!(replaced(&roll(&set(), &template(2), &record(0), &leaving)), "redis-1");
    }

    #[test]
    fn a_pod_that_cannot_start_comes_first_and_waits_for_nobody() {
        let mut look = look(&[(Primary, "old"), (LinkDown, "old"), (Pending, "old")]);
        look.observed.pods[1].stuck = Some("ImagePullBackOff: no".into());
        assert_eq!(replaced(&roll(&set(), &template(3), &record(0), &look)), "redis-1");

        look.observed.pods[1].terminating = true;
        let next = roll(&set(), &template(3), &record(0), &look);
        assert!(waits(&next).starts_with("redis-1"), "it goes already");

        // Made from the current template: deleting it would change nothing.
        look.observed.pods[1].terminating = false;
        look.observed.pods[1].revision = Some("new".into());
        assert!(waits(&roll(&set(), &template(3), &record(0), &look)).starts_with("redis-1"));
    }

    #[test]
    fn a_pod_that_cannot_start_with_an_image_that_was_given_by_hand_is_made_anew() {
        let mut look = look(&[(Primary, "new"), (Pending, "new")]);
        for pod in &mut look.observed.pods {
            pod.image = "redis:7".into();
        }
        look.observed.pods[1].stuck = Some("ErrImagePull: no".into());
        let next = |look: &Snapshot, primary, ephemeral| {
            roll(&set(), &Template { ephemeral, ..template(2) }, &record(primary), look)
        };
        assert_eq!(next(&look, 0, false), Roll::Done, "it has the template's, and would have it again");
        look.observed.pods[1].image = "redis:none".into();
        let freed = next(&look, 0, false);
        assert_eq!(replaced(&freed), "redis-1");
        assert!(
            matches!(freed, Roll::Replace { uid, why, .. } if uid == "uid-1" && why.contains("redis:none"))
        );
        assert_eq!(replaced(&next(&look, 0, true)), "redis-1");
        assert_eq!(replaced(&next(&look, 1, false)), "redis-1", "its volume keeps the data");
        assert_eq!(next(&look, 1, true), Roll::Done, "what nobody else has may be in it");
        // Nobody has the template's: the API server gives each another one.
        let template_only = Template { image: "redis:mirrored".into(), ..template(2) };
        assert_eq!(roll(&set(), &template_only, &record(0), &look), Roll::Done);
        look.observed.pods[1].stuck = None;
        assert_eq!(next(&look, 0, false), Roll::Done, "it starts, or will");
    }

    /// Regression: a new set in memory waited for ever for the pod of its bad first image.
    #[test]
    fn a_new_set_in_memory_replaces_a_pod_that_cannot_start() {
        let mut look = look(&[(Pending, "old")]);
        look.observed.pods[0].stuck = Some("ImagePullBackOff".into());
        let new = Record::first(vec!["redis-0".into()], true);
        let ephemeral = Template { ephemeral: true, ..template(1) };
        assert_eq!(replaced(&roll(&set(), &ephemeral, &new, &look)), "redis-0");
        let rebuilt = Record { sure: false, ..new };
        assert!(waits(&roll(&set(), &ephemeral, &rebuilt, &look)).contains("only copy"));
    }

    /// Regression: the primary's pod was replaced, and is empty; the other one cannot load what it has.
    #[test]
    fn a_copy_in_memory_is_kept_while_nobody_serves() {
        let with = |primary, ephemeral| {
            let mut look = look(&[(primary, "old"), (Pending, "old")]);
            look.observed.pods[1].stuck = Some("CrashLoopBackOff: back-off 20s".into());
            roll(&set(), &Template { ephemeral, ..template(2) }, &record(0), &look)
        };
        assert!(
            waits(&with(InstanceState::Parked, true)).contains("redis-1 cannot start, and no server serves")
        );
        assert_eq!(replaced(&with(InstanceState::Parked, false)), "redis-1", "its volume keeps the data");
        assert_eq!(replaced(&with(Primary, true)), "redis-1", "the primary has it all");
    }

    #[test]
    fn the_only_copy_in_memory_is_kept() {
        let one = look(&[(Primary, "old")]);
        let ephemeral = Template { ephemeral: true, ..template(1) };
        let why = roll(&set(), &ephemeral, &record(0), &one);
        assert!(
            waits(&why).contains("redis-0 holds the only copy") && waits(&why).contains("spec.replicas to 2")
        );
        assert_eq!(
            replaced(&roll(&set(), &template(1), &record(0), &one)),
            "redis-0",
            "its volume keeps the data"
        );
        let two = look(&[(Primary, "old"), (InSync, "old")]);
        let ephemeral = Template { ephemeral: true, ..template(2) };
        assert_eq!(replaced(&roll(&set(), &ephemeral, &record(0), &two)), "redis-1");
    }

    #[test]
    fn an_older_replica_stops_the_roll() {
        let pods = |second| {
            crate::rollout::compatibility::tests::look(&[
                ("8.0.6", Primary, "old"),
                ("8.0.6", InSync, second),
                ("7.0.15", LinkDown, "new"),
            ])
        };
        let stopped = roll(&set(), &template(3), &record(0), &pods("old"));
        assert!(waits(&stopped).starts_with("redis-2 runs Redis 7.0.15"), "{stopped:?}");
        // The template was set back: the replica is mended.
        let back = Template { revision: Some("old".into()), ..template(3) };
        assert_eq!(replaced(&roll(&set(), &back, &record(0), &pods("old"))), "redis-2");
    }

    #[test]
    fn nothing_is_known_before_the_controller_has_seen_the_template() {
        let unseen = Template { revision: None, ..template(3) };
        let pods = look(&[(Primary, "old"), (InSync, "old"), (InSync, "old")]);
        assert_eq!(roll(&set(), &unseen, &record(0), &pods), Roll::Unknown);
    }
}
