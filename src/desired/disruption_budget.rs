//! The `PodDisruptionBudget`.

use k8s_openapi::{
    api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec},
    apimachinery::pkg::util::intstr::IntOrString,
};

use super::{labels, metadata};
use crate::plan::Plan;

/// One pod at a time may be drained.
pub(super) fn disruption_budget(plan: &Plan) -> PodDisruptionBudget {
    PodDisruptionBudget {
        metadata: metadata(plan, plan.set.disruption_budget()),
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(IntOrString::Int(1)),
            selector: Some(labels::selector(&plan.set)),
            ..PodDisruptionBudgetSpec::default()
        }),
        status: None,
    }
}
