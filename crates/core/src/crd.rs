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
            let fields = schema.properties.iter_mut().filter_map(|fields| fields.get_mut("spec"));
            let fields = fields.filter_map(|spec| spec.properties.as_mut()).flatten();
            fields
                .filter(|(name, _)| OF_KUBERNETES.contains(&name.as_str()))
                .for_each(|(_, field)| shorten(field));
        }
    }
    crd
}

/// Fields of a pod that Kubernetes explains at length under `kubectl explain pod.spec`; here each part gets a sentence. They
/// would be half of the definition otherwise.
const OF_KUBERNETES: [&str; 2] = ["affinity", "topologySpreadConstraints"];

/// Leaves the first sentence of the description of each part.
fn shorten(schema: &mut JSONSchemaProps) {
    for part in schema.properties.iter_mut().flat_map(|properties| properties.values_mut()) {
        if let Some(text) = part.description.as_mut() {
            // "Required." is no sentence, nor does one end after "e.g.".
            let ends = |(at, _): &(usize, &str)| {
                let (sentence, rest) = text.split_at(*at);
                sentence.contains(' ') && rest.chars().nth(2).is_some_and(char::is_uppercase)
            };
            let end = text.match_indices('.').find(ends).map(|(at, _)| at);
            text.truncate(end.map_or(text.len(), |end| end + 1));
        }
        shorten(part);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(item)) = schema.items.as_mut() {
        shorten(item);
    }
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
