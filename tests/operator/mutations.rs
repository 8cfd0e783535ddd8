//! Each field of the spec, deleted, emptied, at and beyond each bound, and filled with garbage: the API server refuses it by name, or the
//! operator carries it out or says in `SpecValid` why not; and a killed primary is replaced in all three cases.

use std::collections::BTreeMap;

use super::*;

/// One change of a spec: the path of the field, and what is put there.
struct Mutation {
    path: Vec<String>,
    value: Value,
}

impl Mutation {
    fn patch(&self) -> Value {
        self.path.iter().rev().fold(self.value.clone(), |inner, field| json!({field: inner}))
    }

    fn words(&self) -> String {
        let value = self.value.to_string();
        format!("spec.{} = {}", self.path.join("."), value.chars().take(60).collect::<String>())
    }
}

/// Values to try for a field with this schema.
fn values(schema: &Value) -> Vec<Value> {
    let mut values =
        vec![Value::Null, json!({"garbage": ["\u{7f}"]}), json!("garbage"), json!(-1), json!([])];
    match schema["type"].as_str() {
        Some("integer") => {
            for (bound, beyond) in [("minimum", -1), ("maximum", 1)] {
                if let Some(bound) = schema[bound].as_i64() {
                    values.extend([json!(bound), json!(bound + beyond)]);
                }
            }
            values.push(json!(i64::MAX));
        }
        Some("string") => {
            values.push(json!(""));
            if let Some(longest) = schema["maxLength"].as_u64() {
                let text = |length: u64| json!("x".repeat(usize::try_from(length).unwrap()));
                values.extend([text(longest), text(longest + 1)]);
            }
            values.extend(schema["enum"].as_array().into_iter().flatten().cloned());
        }
        Some("boolean") => values.extend([json!(true), json!(false)]),
        Some("object") => values.extend([json!({}), json!({"x": "y"}), json!({"": ""}), json!({"x": null})]),
        Some("array") => values.extend([json!([{}]), json!(["x"]), json!([null])]),
        _ => values.extend([json!("1Gi"), json!("-1Gi"), json!(0)]),
    }
    values
}

/// Every field below this schema, and what to put there.
fn mutations(path: &[String], schema: &Value) -> Vec<Mutation> {
    let mut found = Vec::new();
    if !path.is_empty() {
        found.extend(values(schema).into_iter().map(|value| Mutation { path: path.to_vec(), value }));
    }
    // What Kubernetes itself defines is not gone into: its own checks are not what is tried here.
    if path.len() < 3 {
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            let path = [path, std::slice::from_ref(name)].concat();
            found.extend(mutations(&path, field));
        }
    }
    found
}

/// What of all there are is tried: 300, evenly spread, or as many as the environment says.
fn chosen() -> Vec<Mutation> {
    let definition = serde_json::to_value(crd::definition()).unwrap();
    let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    let all = mutations(&[], schema);
    let count = std::env::var("MUTATIONS").ok().and_then(|count| count.parse().ok()).unwrap_or(300);
    let step = (all.len() / count).max(1);
    println!("{} mutations, each {step}th is tried", all.len());
    all.into_iter().step_by(step).collect()
}

async fn kill_and_replace(lab: &Lab, what: &str) {
    until(&format!("{what}: votes"), PATIENCE, async || {
        let synced =
            conditions_of(&lab.sets, "redis").await.contains(&"Replicated=True AllInSync".to_owned());
        (synced && lab.has_votes().await).then_some(())
    })
    .await;
    let (epoch, primary) = lab.primary().await;
    lab.kubelet.kill_redis(&primary);
    until(&format!("{what}: another primary"), Duration::from_secs(15), async || {
        let (now, pod) = lab.primary().await;
        let available =
            conditions_of(&lab.sets, "redis").await.contains(&"Available=True PrimaryServes".to_owned());
        (now > epoch && pod != primary && available).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes half an hour: cargo test --test operator mutations -- --ignored --nocapture"]
async fn no_field_stops_the_operator() {
    let lab = Lab::new("mutations").await;
    lab.up("redis", json!({"replicas": 3, "storage": {"ephemeral": {}}})).await;
    lab.write(0..3, "before", 2).await;
    let spec = lab.sets.get("redis").await.unwrap().spec;
    let mut outcomes: BTreeMap<&str, usize> = BTreeMap::new();
    for (number, mutation) in chosen().into_iter().enumerate() {
        let (what, field) = (mutation.words(), mutation.path.last().unwrap().clone());
        let patch = Patch::Merge(json!({"spec": mutation.patch()}));
        let outcome = match lab.sets.patch("redis", &PatchParams::default(), &patch).await {
            Err(kube::Error::Api(refusal)) => {
                assert!(
                    refusal.message.contains(&field),
                    "{what}: refused without its name: {}",
                    refusal.message
                );
                "refused by the API server"
            }
            Err(error) => panic!("{what}: {error}"),
            Ok(set) => {
                let generation = set.metadata.generation;
                let said = until(&format!("{what}: seen"), PATIENCE, async || {
                    let status = lab.sets.get("redis").await.unwrap().status.unwrap();
                    let valid = status.conditions.iter().find(|c| c.type_ == "SpecValid").unwrap().clone();
                    (status.observed_generation >= generation).then_some(valid)
                })
                .await;
                if said.status == "False" {
                    assert!(said.message.contains(&field), "{what}: {}", said.message);
                    "said in SpecValid"
                } else {
                    "carried out"
                }
            }
        };
        *outcomes.entry(outcome).or_default() += 1;
        println!("{number} {what}: {outcome}");
        let size: i32 = lab.sets.get("redis").await.unwrap().spec.replicas;
        if number % 10 == 0 && size == 3 {
            kill_and_replace(&lab, &what).await;
        }
        // Where the operator wrote in between, again.
        until(&format!("{what}: put back"), PATIENCE, async || {
            let mut set = lab.sets.get("redis").await.unwrap();
            set.spec = spec.clone();
            lab.sets.replace("redis", &PostParams::default(), &set).await.ok()
        })
        .await;
        if outcome != "refused by the API server" || number % 10 == 0 {
            until(&format!("{what}: as before"), Duration::from_secs(90), async || {
                let set = lab.sets.get("redis").await.unwrap();
                let status = set.status.unwrap_or_default();
                let is_ready = status.is_ready() && status.observed_generation == set.metadata.generation;
                (is_ready && status.replicas == 3).then_some(())
            })
            .await;
        }
    }
    lab.assert_keys(3, 3, "before").await;
    println!("{outcomes:?}");
}
