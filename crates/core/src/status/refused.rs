//! What the conditions say of pods that the API server refuses.

use crate::{
    api::{ConditionStatus, Reason},
    refusal::Refused,
    status::{finding::Finding, outcome::Outcome},
};

/// Pods that the API server refuses, in its words.
pub(super) fn cause(outcome: &Outcome) -> Option<Finding> {
    let each =
        |refused: &Refused| format!("the API server refuses the pod {}: {}", refused.pod, refused.words);
    let all: Vec<String> = outcome.refused.iter().map(each).collect();
    let told = format!(
        "{}. Raise the quota, change the policy, or change the spec to what they allow; the StatefulSet controller then makes \
         the pod, within 17 minutes",
        all.join("; ")
    );
    (!all.is_empty()).then(|| Finding::yes(Reason::PodRefused, told))
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
