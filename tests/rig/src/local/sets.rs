//! A kube-apiserver that knows our kind, and sets applied to it as a user would.

use std::{sync::Once, time::Duration};

use k8s_openapi::{
    api::core::v1::Namespace, apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client, ResourceExt,
    api::{Patch, PatchParams, PostParams},
    runtime::{conditions, wait},
};
use operator_core::{api::RedisReplicaSet, crd};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(30);

/// Chooses how this process does TLS.
pub fn rustls_provider() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| rustls::crypto::ring::default_provider().install_default().unwrap());
}

/// Installs our definition and waits until the API server serves it.
pub async fn install_crd(client: &Client) {
    let definitions = Api::<CustomResourceDefinition>::all(client.clone());
    let definition = crd::definition();
    let name = definition.name_any();
    let params = PatchParams::apply("test").force();
    definitions.patch(&name, &params, &Patch::Apply(&definition)).await.unwrap();
    let established = wait::await_condition(definitions, &name, conditions::is_crd_established());
    tokio::time::timeout(PATIENCE, established).await.unwrap().unwrap();
}

/// Makes a namespace that admits only pods of the Pod Security Standard `restricted`.
pub async fn create_namespace(client: &Client, name: &str) {
    let labels = json!({"pod-security.kubernetes.io/enforce": "restricted"});
    let object = json!({"metadata": {"name": name, "labels": labels}});
    let object: Namespace = serde_json::from_value(object).unwrap();
    Api::<Namespace>::all(client.clone()).create(&PostParams::default(), &object).await.unwrap();
}

/// Applies a set with this spec.
pub async fn apply(sets: &Api<RedisReplicaSet>, name: &str, spec: Value) {
    apply_with(sets, name, json!({}), spec).await;
}

/// Applies a set with these annotations and this spec.
pub async fn apply_with(sets: &Api<RedisReplicaSet>, name: &str, annotations: Value, spec: Value) {
    let manifest = json!({
        "apiVersion": "replication.redis/v1alpha1", "kind": "RedisReplicaSet",
        "metadata": {"name": name, "annotations": annotations}, "spec": spec,
    });
    sets.patch(name, &PatchParams::apply("user").force(), &Patch::Apply(&manifest)).await.unwrap();
}

/// `Ready=True`, or every condition as `type=status reason`.
pub async fn conditions_of(sets: &Api<RedisReplicaSet>, name: &str) -> Vec<String> {
    let status = sets.get(name).await.unwrap().status.unwrap_or_default();
    status.conditions.iter().map(|c| format!("{}={} {}", c.type_, c.status, c.reason)).collect()
}
