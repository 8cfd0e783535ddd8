//! Which pod to replace next, so that it runs the current template.
//!
//! Pure. The `StatefulSet` is `OnDelete`: it never replaces a running pod, and it never frees a pod that cannot start
//! (kubernetes/kubernetes issue 67250), so both are decided here.

use crate::{decide::look::Look, names::SetName, observed::ObservedPod, record::Record};

/// What the roll needs next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Roll {
    /// Every pod runs the current template.
    Done,
    /// Delete this pod; the `StatefulSet` makes it anew from the current template.
    Replace {
        /// Name of the pod.
        pod: String,
        /// Its UID, as the delete's precondition.
        uid: String,
        /// Why, in plain words.
        why: String,
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
    /// Data lives only in the pods.
    pub ephemeral: bool,
}

/// Replicas from the highest ordinal down, each verified before the next, the primary last; a pod that cannot start
/// is replaced at once.
pub fn roll(set: &SetName, template: &Template, record: &Record, look: &Look) -> Roll {
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
    if outdated.is_empty() {
        return Roll::Done;
    }
    if let Some(stuck) = outdated.iter().find(|p| !p.terminating && p.answer.is_err() && p.stuck.is_some()) {
        return Roll::Replace {
            pod: stuck.name.clone(),
            uid: stuck.uid.clone(),
            why: "it cannot start, and its template was changed since".to_owned(),
        };
    }
    let missing = (0..template.replicas)
        .map(|ordinal| set.pod(ordinal))
        .find(|pod| !look.topology.instances.iter().any(|v| v.pod == *pod && v.is_verified()));
    if let Some(pod) = missing {
        return Roll::Wait(format!("{pod} must be verified before the next pod is replaced"));
    }
    let is_primary = |p: &&ObservedPod| record.primary.as_deref() == Some(p.name.as_str());
    let Some(next) = outdated.iter().find(|p| !is_primary(p)).or(outdated.first()) else { return Roll::Done };
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
