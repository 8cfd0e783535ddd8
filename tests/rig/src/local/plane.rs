//! The shared control plane of a test binary, and what its audit log says of the operator.

use std::{sync::OnceLock, time::Duration};

use kube::{Api, Client};
use operator_core::api::RedisReplicaSet;

use crate::{
    local::control_plane::{ControlPlane, Controllers},
    local::operator::{grant, until},
    local::sets::{conditions_of, create_namespace, install_crd, rustls_provider},
};

/// How long anything may take before a test gives up on it.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The shared control plane with the definition, and a namespace in which a user is granted the operator's rights.
pub async fn plane(namespace: &str) -> (&'static ControlPlane, Client, String) {
    rustls_provider();
    let plane = ControlPlane::shared();
    let client = plane.client().await;
    install_crd(&client).await;
    create_namespace(&client, namespace).await;
    let user = plane.user();
    grant(&client, &user, namespace).await;
    (plane, client, user)
}

/// The controllers that make and end pods and volumes, on the shared control plane, from the first call on.
pub fn controllers(plane: &'static ControlPlane) {
    static SHARED: OnceLock<Controllers> = OnceLock::new();
    SHARED.get_or_init(|| {
        plane.controllers(
            "statefulset-controller,garbage-collector-controller,persistentvolumeclaim-protection-controller",
        )
    });
}

/// Waits until the status has this condition.
pub async fn wait_for(sets: &Api<RedisReplicaSet>, name: &str, condition: &str) {
    until(&format!("{name} {condition}"), PATIENCE, async || {
        let found = conditions_of(sets, name).await;
        found.iter().any(|found| found == condition).then_some(())
    })
    .await;
}

/// Requests of a user in the audit log, as `verb group/resource`, with the answer's code.
pub fn requests(plane: &ControlPlane, user: &str) -> Vec<(String, String, i64)> {
    plane
        .audit()
        .iter()
        .filter(|event| event["user"]["username"] == user)
        .filter_map(|event| {
            let object = &event["objectRef"];
            let subresource =
                object["subresource"].as_str().map(|name| format!("/{name}")).unwrap_or_default();
            let resource = format!(
                "{}/{}{subresource}",
                object["apiGroup"].as_str().unwrap_or_default(),
                object["resource"].as_str()?
            );
            Some((event["verb"].as_str()?.to_owned(), resource, event["responseStatus"]["code"].as_i64()?))
        })
        .collect()
}

/// Writes other than those of the Lease.
pub fn writes(plane: &ControlPlane, user: &str) -> Vec<String> {
    requests(plane, user)
        .into_iter()
        .filter(|(verb, resource, _)| {
            ["create", "update", "patch", "delete"].contains(&verb.as_str()) && !resource.ends_with("/leases")
        })
        .map(|(verb, resource, code)| format!("{verb} {resource} {code}"))
        .collect()
}

/// The roles of `config/rbac` are enough.
pub fn assert_nothing_was_forbidden(plane: &ControlPlane, user: &str) {
    let refused: Vec<_> = requests(plane, user).into_iter().filter(|(.., code)| *code == 403).collect();
    assert!(refused.is_empty(), "the roles in config/rbac lack: {refused:?}");
}
