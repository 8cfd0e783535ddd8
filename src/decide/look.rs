//! One look at a set: what was answered, and what it adds up to.

use crate::{api::status::InstanceState, decide::rank::Candidate, observed::Observed, topology::Topology};

/// One look.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// What was answered.
    pub observed: Observed,
    /// What it adds up to.
    pub topology: Topology,
    /// The kubelet reported the end of the pod that served last.
    pub former_ended: bool,
}

impl Look {
    /// The pods whose own Redis answered. A pod that is being deleted counts as silent: what it says now says
    /// nothing about the process that follows it.
    pub fn members(&self) -> Vec<Candidate<'_>> {
        self.observed
            .pods
            .iter()
            .filter(|pod| {
                let verdict = self.topology.get(&pod.name);
                verdict
                    .is_some_and(|v| !matches!(v.state, InstanceState::Foreign | InstanceState::Terminating))
            })
            .filter_map(|pod| {
                let answer = pod.answer.as_ref().ok()?;
                Some(Candidate {
                    pod: &pod.name,
                    uid: &pod.uid,
                    node: &pod.node,
                    ordinal: pod.ordinal,
                    answer,
                })
            })
            .collect()
    }

    /// One of [`Self::members`].
    pub fn member(&self, pod: &str) -> Option<Candidate<'_>> {
        self.members().into_iter().find(|candidate| candidate.pod == pod)
    }
}
