//! The `CustomResourceDefinition` as it is installed.
//!
//! kube derives it from the Rust types; what Kubernetes would misread, and what only costs space, is taken out.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube_core::CustomResourceExt;

use crate::api::RedisReplicaSet;

/// The definition.
pub fn definition() -> CustomResourceDefinition {
    let mut crd = RedisReplicaSet::crd();
    for version in &mut crd.spec.versions {
        if let Some(schema) = version.schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut()) {
            tidy(schema);
        }
    }
    crd
}

/// The definition as YAML, as `kubectl apply --server-side -f` takes it.
pub fn yaml() -> Result<String, serde_saphyr::ser::Error> {
    serde_saphyr::to_string(&definition())
}

/// Takes out, at every level:
/// - `nullable`: without it a null gets the field's default, or is refused where there is none. With it,
///   `has(self.size)` would be true for `size: null`;
/// - formats that the API server does not know (`uint32`);
/// - descriptions of list items and map values: the list or map has its own.
fn tidy(schema: &mut JSONSchemaProps) {
    schema.nullable = None;
    if schema.format.as_deref().is_some_and(|format| format.starts_with("uint")) {
        schema.format = None;
    }
    for property in schema.properties.iter_mut().flat_map(|properties| properties.values_mut()) {
        tidy(property);
    }
    match schema.items.as_mut() {
        Some(JSONSchemaPropsOrArray::Schema(item)) => tidy_element(item),
        Some(JSONSchemaPropsOrArray::Schemas(items)) => items.iter_mut().for_each(tidy_element),
        None => {}
    }
    if let Some(JSONSchemaPropsOrBool::Schema(value)) = schema.additional_properties.as_mut() {
        tidy_element(value);
    }
}

fn tidy_element(schema: &mut JSONSchemaProps) {
    schema.description = None;
    tidy(schema);
}
