//! What a resource holds lands in the children's field that it is for, as it was written, and nowhere else.

use operator_core::{
    api::RedisReplicaSet,
    desired::{Stage, desired},
    plan::plan,
    settings::Settings,
    subject::Subject,
};
use serde_json::{Value, json};

use super::*;

/// Stands before what was written into a field, so that it is found again.
fn mark(field: &str) -> String {
    format!("zq{field}zq")
}

/// Each text that is written, by its field, and the end of the paths at which it may be found.
const FIELDS: [(&str, &str); 14] = [
    ("image", "/stateful_set/spec/template/spec/containers/0/image"),
    ("pullSecret", "/stateful_set/spec/template/spec/imagePullSecrets/0/name"),
    ("selectorKey", "/stateful_set/spec/template/spec/nodeSelector"),
    ("selectorValue", "/stateful_set/spec/template/spec/nodeSelector/"),
    ("priority", "/stateful_set/spec/template/spec/priorityClassName"),
    ("tolerationKey", "/stateful_set/spec/template/spec/tolerations/0/key"),
    ("tolerationValue", "/stateful_set/spec/template/spec/tolerations/0/value"),
    ("class", "/stateful_set/spec/volumeClaimTemplates/0/spec/storageClassName"),
    ("request", "/stateful_set/spec/template/spec/containers/0/resources/requests"),
    ("podAnnotation", "/stateful_set/spec/template/metadata/annotations/"),
    ("podLabel", "/stateful_set/spec/template/metadata/labels/"),
    // Of the resource itself: no child has them.
    ("annotation", "nowhere"),
    ("label", "nowhere"),
    ("switchover", "nowhere"),
];

fn resource(texts: &BTreeMap<&str, String>) -> RedisReplicaSet {
    let text = |field: &str| json!(texts[field]);
    serde_json::from_value(json!({
        "apiVersion": "replication.redis/v1alpha1", "kind": "RedisReplicaSet",
        "metadata": {
            "name": "redis", "namespace": "lab", "uid": "u-1",
            "labels": {"app": text("label")},
            "annotations": {
                "example.com/note": text("annotation"),
                "replication.redis/switchover-to": text("switchover"),
                "replication.redis/accept-data-loss": format!("{}@7", texts["switchover"]),
            },
        },
        "spec": {
            "image": text("image"), "imagePullSecrets": [{"name": text("pullSecret")}],
            "nodeSelector": {&texts["selectorKey"]: text("selectorValue")},
            "priorityClassName": text("priority"),
            "tolerations": [{"key": text("tolerationKey"), "value": text("tolerationValue")}],
            "storage": {"size": "1Gi", "storageClassName": text("class")},
            "resources": {"requests": {&texts["request"]: "1"}},
            "podAnnotations": {"example.com/a": text("podAnnotation")},
            "podLabels": {"example.com/a": text("podLabel")},
        },
    }))
    .unwrap()
}

/// Every text of a document, keys too, with its path.
fn texts_of(value: &Value, path: &str, found: &mut Vec<(String, String)>) {
    match value {
        Value::String(text) => found.push((path.to_owned(), text.clone())),
        Value::Array(items) => {
            items
                .iter()
                .enumerate()
                .for_each(|(index, item)| texts_of(item, &format!("{path}/{index}"), found));
        }
        Value::Object(entries) => {
            for (key, value) in entries {
                found.push((path.to_owned(), key.clone()));
                texts_of(value, &format!("{path}/{key}"), found);
            }
        }
        _ => {}
    }
}

#[test]
fn what_is_written_lands_in_its_field_and_nowhere_else() {
    // Each has so many values as there are fields.
    const SETS: u32 = CASES / 10;
    let settings = Settings {
        cluster_domain: "cluster.local".into(),
        agent_image: "operator:1".into(),
        operator_namespace: "ops".into(),
    };
    let planned = Cell::new(0_u32);
    let hostile = proptest::collection::vec(text(), FIELDS.len());
    // Of the label only what is one gets any further; of the image, what has no blank.
    holds(SETS, (hostile, any::<bool>()), |(hostile, tame)| {
        let mut texts: BTreeMap<&str, String> = FIELDS
            .iter()
            .zip(hostile)
            .map(|((field, _), hostile)| (*field, format!("{}{hostile}", mark(field))))
            .collect();
        if tame {
            texts.insert("podLabel", mark("podLabel"));
            texts.get_mut("image").unwrap().retain(|c| !c.is_whitespace());
        }
        let resource = resource(&texts);
        let subject = Subject::of(&resource, &settings).unwrap();
        prop_assert_eq!(subject.fqdn(0), "redis-0.redis-headless.lab.svc.cluster.local");
        let Ok(plan) = plan(&resource, &settings) else {
            prop_assert!(!tame, "refused");
            return Ok(());
        };
        planned.set(planned.get() + 1);
        let desired = desired(&plan, Stage { pods: 1, disruptions: 1 });
        let children = json!({
            "headless": desired.headless, "primary": desired.primary, "replicas": desired.replicas,
            "config_map": desired.config_map, "stateful_set": desired.stateful_set,
            "disruption_budget": desired.disruption_budget,
        });
        prop_assert_eq!(&serde_json::from_str::<Value>(&children.to_string()).unwrap(), &children);
        let mut found = Vec::new();
        texts_of(&children, "", &mut found);
        for (field, place) in FIELDS {
            let mark = mark(field);
            let places: Vec<_> = found.iter().filter(|(_, text)| text.contains(&mark)).collect();
            prop_assert_eq!(places.len(), usize::from(place != "nowhere"), "{}: {:?}", field, places);
            for (path, text) in places {
                prop_assert!(path.starts_with(place), "{} at {}", field, path);
                prop_assert_eq!(text, &texts[field]);
            }
        }
        Ok(())
    });
    assert!(planned.get() > SETS / 3, "too few get as far: {}", planned.get());
}
