//! What the conditions say of pods that the API server refuses.

use crate::{
    api::{ConditionStatus, Reason},
    refusal::Refused,
    status::{finding::Finding, outcome::Outcome},
};

/// What a pod that is missing makes of a set: the refusal is the cause, and says more.
const SYMPTOMS: [Reason; 3] = [Reason::AsExpected, Reason::MemberUnreachable, Reason::PodStuck];

/// Whether something needs a person's eyes, with what the API server refuses. Something else that is wrong stays beside it.
pub(super) fn degraded(found: Finding, outcome: &Outcome) -> Finding {
    if outcome.refused.is_empty() {
        return found;
    }
    let each =
        |refused: &Refused| format!("the API server refuses the pod {}: {}", refused.pod, refused.words);
    let all: Vec<String> = outcome.refused.iter().map(each).collect();
    let told = format!(
        "{}. Raise the quota, change the policy, or change the spec to what they allow; the StatefulSet controller then makes \
         the pod, within 17 minutes",
        all.join("; ")
    );
    let is_symptom = SYMPTOMS.contains(&found.reason);
    match found.status {
        ConditionStatus::True if is_symptom => {
            Finding::yes(Reason::PodRefused, format!("{told}; {}", found.message))
        }
        ConditionStatus::True => Finding::yes(found.reason, format!("{}; {told}", found.message)),
        ConditionStatus::False | ConditionStatus::Unknown => Finding::yes(Reason::PodRefused, told),
    }
}

/// Whether the operator is on its way, and that it gets no further.
pub(super) fn progressing(mut found: Finding, outcome: &Outcome) -> Finding {
    let pods: Vec<&str> = outcome.refused.iter().map(|refused| refused.pod.as_str()).collect();
    if found.is(ConditionStatus::True) && !pods.is_empty() {
        found.message =
            format!("{}; waiting for {}, which the API server refuses", found.message, pods.join(", "));
    }
    found
}
