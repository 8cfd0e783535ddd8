//! Labels by which children and pods are known. Pure.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use crate::names::SetName;

/// Annotation of the pod template: the hash of what only a start brings about. Its change makes a new revision.
pub const CONFIG_HASH: &str = "replication.redis/config-hash";
/// Annotation of the `ConfigMap` with the directives: those that a server called immutable, with commas between them.
pub const START_ONLY: &str = "replication.redis/start-only";
/// Annotation of the `ConfigMap` with the directives: generation of the spec that took a directive away last.
pub const RESTART: &str = "replication.redis/restart";
/// Annotation of the `StatefulSet`: the agent's image in its template, as the operator applied it.
pub const AGENT_IMAGE: &str = "replication.redis/agent-image";
/// Label of a pod by which the Services choose: `primary` or `replica`. A pod without it is behind neither.
pub const ROLE: &str = "replication.redis/role";
/// Annotation of a pod that was the primary until this moment (RFC 3339), until its clients were cut a second time.
pub const DEMOTED_AT: &str = "replication.redis/demoted-at";
/// Annotation of every child: the hash of what was applied last. It tells a field that is no longer desired.
pub const APPLIED_HASH: &str = "replication.redis/applied-hash";
/// Value of `app.kubernetes.io/managed-by`.
pub const MANAGED_BY: &str = "redis-operator";

/// Labels of every child and every pod of a set. They never change: the `StatefulSet`'s selector is made of them.
pub fn labels(set: &SetName) -> BTreeMap<String, String> {
    [("name", "redis"), ("instance", &set.name), ("component", "server"), ("managed-by", MANAGED_BY)]
        .map(|(key, value)| (format!("app.kubernetes.io/{key}"), value.to_owned()))
        .into()
}

/// Labels by which the operator's own pods are known, however it was installed.
pub fn of_operator() -> BTreeMap<String, String> {
    [("name", MANAGED_BY), ("component", "operator")]
        .map(|(key, value)| (format!("app.kubernetes.io/{key}"), value.to_owned()))
        .into()
}

/// Whether these labels are those of a child of this set.
pub fn are_of(set: &SetName, found: Option<&BTreeMap<String, String>>) -> bool {
    labels(set).iter().all(|(label, value)| found.and_then(|found| found.get(label)) == Some(value))
}

/// Labels of the pods of a set that have this role now.
pub fn of_role(set: &SetName, role: Role) -> BTreeMap<String, String> {
    let mut labels = labels(set);
    labels.insert(ROLE.to_owned(), role.as_str().to_owned());
    labels
}

/// Selects the pods of a set.
pub fn selector(set: &SetName) -> LabelSelector {
    LabelSelector { match_labels: Some(labels(set)), match_expressions: None }
}

/// The same in the form of a query and of `status.selector`: `a=b,c=d`.
pub fn selector_text(set: &SetName) -> String {
    labels(set).into_iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_text() {
        assert_eq!(
            selector_text(&SetName::new("lab", "cache")),
            "app.kubernetes.io/component=server,app.kubernetes.io/instance=cache,\
             app.kubernetes.io/managed-by=redis-operator,app.kubernetes.io/name=redis"
        );
    }
}

/// Value of the label `replication.redis/role`: which Service leads to the pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Service `<name>`.
    Primary,
    /// Service `<name>-replicas`.
    Replica,
}

impl Role {
    /// The label's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Replica => "replica",
        }
    }

    /// The role of a label's value.
    pub fn of(value: &str) -> Option<Self> {
        [Self::Primary, Self::Replica].into_iter().find(|role| role.as_str() == value)
    }
}
