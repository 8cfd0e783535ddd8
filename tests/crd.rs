//! The committed definition is what the types say, fits, and explains every field.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "test code")]

use std::{fs, path::Path};

use operator_core::crd;
use serde_json::Value;

const COMMITTED: &str = "crds/redisreplicasets.replication.redis.yaml";
const CHART_COPY: &str = "charts/redis-operator/files/crd.yaml";
/// `kubectl apply` keeps a second copy in an annotation, which may have 256 KiB.
const MAX_BYTES: usize = 140_000;

fn schema() -> Value {
    let crd = serde_json::to_value(crd::definition()).unwrap();
    crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone()
}

/// Every property below a schema, with its path.
fn properties(schema: &Value, path: &str, found: &mut Vec<(String, Value)>) {
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        properties(property, &path, found);
        found.push((path, property.clone()));
    }
    for element in [&schema["items"], &schema["additionalProperties"]] {
        if element.is_object() {
            properties(element, &format!("{path}[]"), found);
        }
    }
}

fn all_properties() -> Vec<(String, Value)> {
    let mut found = Vec::new();
    properties(&schema(), "", &mut found);
    assert!(found.len() > 100, "{}", found.len());
    found
}

/// `make crds` writes it, and the chart's copy with it.
#[test]
fn the_committed_definition_is_current() {
    let current = crd::yaml().unwrap();
    for copy in [COMMITTED, CHART_COPY] {
        let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join(copy);
        assert!(fs::read_to_string(committed).unwrap() == current, "{copy} is stale: run make crds");
    }
}

#[test]
fn the_definition_is_small() {
    let bytes = crd::yaml().unwrap().len();
    println!("{bytes} bytes, {} properties", all_properties().len());
    assert!(bytes < MAX_BYTES, "{bytes} bytes");
}

#[test]
fn yaml_reads_back_as_the_same_definition() {
    let read: Value = serde_saphyr::from_str(&crd::yaml().unwrap()).unwrap();
    assert_eq!(read, serde_json::to_value(crd::definition()).unwrap());
}

#[test]
fn every_field_is_described() {
    let bare: Vec<String> = all_properties()
        .into_iter()
        .filter(|(_, property)| property["description"].as_str().is_none_or(|text| text.trim().is_empty()))
        .map(|(path, _)| path)
        .collect();
    assert_eq!(bare, Vec::<String>::new());
    assert!(schema()["description"].as_str().is_some_and(|text| text.contains("Replicated Redis")));
}

#[test]
fn the_api_server_knows_every_format_and_prunes_nulls() {
    for (path, property) in all_properties() {
        let format = property["format"].as_str();
        assert!(matches!(format, None | Some("int32" | "int64" | "date-time")), "{path}: {format:?}");
        assert_eq!(property["nullable"], Value::Null, "{path}");
    }
}

/// What would make a rule over it too expensive for the API server, or a resource too large.
#[test]
fn maps_lists_and_texts_of_the_users_are_bounded() {
    for (path, property) in all_properties() {
        let ours =
            path.starts_with(".spec.") && !path.contains(".affinity") && path.matches('.').count() == 2;
        let bounded = match property["type"].as_str() {
            Some("array") => property["maxItems"].is_u64(),
            Some("string") => property["maxLength"].is_u64() || property["enum"].is_array(),
            Some("object") => {
                !property["additionalProperties"].is_object() || property["maxProperties"].is_u64()
            }
            _ => true,
        };
        assert!(!ours || bounded, "{path}: {property}");
    }
}
