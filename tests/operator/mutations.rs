//! Each field of the spec, deleted, emptied, at and beyond each bound, and filled with garbage: the API server refuses it by name, or the
//! operator carries it out, to be seen in the children, or says in `SpecValid` why not. A killed primary is replaced in all three cases,
//! and the children are those of before once the spec is.

use std::collections::BTreeMap;

use k8s_openapi::api::networking::v1::NetworkPolicy;
use operator_core::{
    api::{
        failover::{Failover, Mode, Policy},
        spec::RedisReplicaSetSpec,
    },
    names::START_PARKED,
};

use super::*;

/// Until a spec is carried out, or said to be unusable. Members come and go one at a time.
const CARRIED_OUT_WITHIN: Duration = Duration::from_secs(90);

/// Fields of the spec, and where the `StatefulSet` shows them.
const SHOWN: [(&str, &str); 15] = [
    ("/replicas", "/replicas"),
    ("/image", "/template/spec/containers/0/image"),
    ("/imagePullPolicy", "/template/spec/containers/0/imagePullPolicy"),
    ("/imagePullSecrets", "/template/spec/imagePullSecrets"),
    ("/storage/retention", "/persistentVolumeClaimRetentionPolicy"),
    ("/resources", "/template/spec/containers/0/resources"),
    ("/nodeSelector", "/template/spec/nodeSelector"),
    ("/affinity", "/template/spec/affinity"),
    ("/tolerations", "/template/spec/tolerations"),
    ("/topologySpreadConstraints", "/template/spec/topologySpreadConstraints"),
    ("/priorityClassName", "/template/spec/priorityClassName"),
    ("/podLabels", "/template/metadata/labels"),
    ("/podAnnotations", "/template/metadata/annotations"),
    ("/terminationGracePeriodSeconds", "/template/spec/terminationGracePeriodSeconds"),
    ("/startupTimeoutSeconds", "/template/spec/containers/0/startupProbe/failureThreshold"),
];

/// How the pods start Redis where the mode is Quorum.
const START: &str = "/template/spec/containers/0/command";

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

/// A bound of a schema. Those of numbers are written with a fraction.
fn bound_of(schema: &Value, bound: &str) -> Option<i64> {
    format!("{:.0}", schema[bound].as_f64()?).parse().ok()
}

/// Values to try for a field with this schema.
fn values(schema: &Value) -> Vec<Value> {
    let mut values =
        vec![Value::Null, json!({"garbage": ["\u{7f}"]}), json!("garbage"), json!(-1), json!([])];
    match schema["type"].as_str() {
        Some("integer") => {
            for (bound, beyond) in [("minimum", -1), ("maximum", 1)] {
                if let Some(bound) = bound_of(schema, bound) {
                    values.extend([json!(bound), json!(bound + beyond)]);
                }
            }
            values.push(json!(i64::MAX));
        }
        Some("string") => {
            values.push(json!(""));
            if let Some(longest) = bound_of(schema, "maxLength") {
                let text = |length: i64| json!("x".repeat(usize::try_from(length).unwrap()));
                values.extend([text(longest), text(longest + 1)]);
            }
            values.extend(schema["enum"].as_array().into_iter().flatten().cloned());
        }
        Some("boolean") => values.extend([json!(true), json!(false)]),
        Some("object") => {
            values.extend([json!({}), json!({"x": "y"}), json!({"": ""}), json!({"x": null})]);
            if let Some(most) = bound_of(schema, "maxProperties") {
                let of = |count| (0..count).map(|number| (format!("x{number}"), json!("1"))).collect();
                values.extend([of(most), of(most + 1)]);
            }
        }
        Some("array") => {
            values.extend([json!([{}]), json!(["x"]), json!([null])]);
            if let Some(most) = bound_of(schema, "maxItems") {
                let of = |count| (0..count).map(|number| json!({"name": format!("x{number}")})).collect();
                values.extend([of(1), of(most), of(most + 1)]);
            }
        }
        _ => values.extend([json!("1Gi"), json!("2Gi"), json!("-1Gi"), json!(0)]),
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

/// What of all there are is tried: 300, evenly spread, or as many as the environment says; from the one on that it says.
fn chosen() -> Vec<Mutation> {
    let definition = serde_json::to_value(crd::definition()).unwrap();
    let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    let all = mutations(&[], schema);
    let set = |name: &str| std::env::var(name).ok().and_then(|number| number.parse().ok());
    let (count, first) = (set("MUTATIONS").unwrap_or(300), set("FIRST_MUTATION").unwrap_or(0));
    let step = (all.len() / count).max(1);
    println!("{} mutations, each {step}th is tried", all.len());
    all.into_iter().step_by(step).skip(first).collect()
}

/// Whether all that is wanted stands in what is there. Where nothing is wanted, Kubernetes' own defaults may stand.
fn stands_in(wanted: &Value, there: &Value) -> bool {
    match (wanted, there) {
        (Value::Null, _) => true,
        (Value::Object(wanted), there) => wanted.iter().all(|(key, value)| stands_in(value, &there[key])),
        (Value::Array(wanted), Value::Array(there)) => {
            wanted.len() == there.len() && wanted.iter().zip(there).all(|(one, other)| stands_in(one, other))
        }
        (Value::Array(wanted), _) => wanted.is_empty(),
        (wanted, there) => wanted == there,
    }
}

/// What the operator made for the set `redis`, as far as a spec can change it.
async fn children(lab: &Lab) -> Value {
    let stateful_set = lab.api::<StatefulSet>().get("redis").await.unwrap().spec;
    let config = lab.api::<ConfigMap>().get("redis-config").await.unwrap().data;
    let budget = lab.api::<PodDisruptionBudget>().get_opt("redis").await.unwrap();
    let policy = lab.api::<NetworkPolicy>().get_opt("redis").await.unwrap().and_then(|policy| policy.spec);
    json!({
        "statefulSet": stateful_set, "config": config, "budget": budget.map(|budget| budget.spec), "policy": policy,
    })
}

fn wanted_network(spec: &RedisReplicaSetSpec) -> Value {
    serde_json::to_value(&spec.network_policy).unwrap()
}

/// The first part of this spec that the children do not show.
fn missing(spec: &RedisReplicaSetSpec, children: &Value) -> Option<String> {
    let (wanted, there) = (serde_json::to_value(spec).unwrap(), &children["statefulSet"]);
    for (field, place) in SHOWN {
        let of = |value: &Value, path: &str| value.pointer(path).cloned().unwrap_or_default();
        let (wanted, there) = (of(&wanted, field), of(there, place));
        if !stands_in(&wanted, &there) {
            return Some(format!("spec{field} {wanted}, at {place} {there}"));
        }
    }
    let from = &children["policy"]["ingress"][0]["from"];
    let wanted =
        spec.network_policy.clients.iter().flatten().map(|client| serde_json::to_value(client).unwrap());
    let mut clients = wanted.filter(|_| spec.network_policy.enabled);
    let is_there =
        |client: Value| from.as_array().is_some_and(|from| from.iter().any(|peer| stands_in(&client, peer)));
    if spec.network_policy.enabled == children["policy"].is_null() || !clients.all(is_there) {
        return Some(format!(
            "spec.networkPolicy {}, in the policy {}",
            wanted_network(spec),
            children["policy"]
        ));
    }
    // A mode that does not choose how Redis starts restarts no pod.
    let policy = Policy::of(spec);
    let start = there.pointer(START).map(Value::to_string).unwrap_or_default();
    if policy.chooses_start() && (policy.mode == Mode::Quorum) != start.contains(START_PARKED) {
        return Some(format!("spec.failover.mode {:?}, at {START} {start}", policy.mode));
    }
    let lines = children["config"]["redis.conf"].as_str().unwrap_or_default();
    spec.config
        .iter()
        .find(|(name, value)| !lines.lines().any(|line| line == format!("{name} {value}")))
        .map(|(name, _)| format!("spec.config.{name}: {lines}"))
}

/// What became of a mutation that the API server took: what it led to, or what is missing yet.
async fn became(lab: &Lab, generation: Option<i64>, field: &str, what: &str) -> &'static str {
    let begun = Instant::now();
    loop {
        let set = lab.sets.get("redis").await.unwrap();
        let status = set.status.unwrap_or_default();
        let valid = status.conditions.iter().find(|c| c.type_ == "SpecValid").unwrap();
        let is_seen = status.observed_generation >= generation;
        if is_seen && valid.status == "False" {
            assert!(valid.message.contains(field), "{what}: {}", valid.message);
            return "said in SpecValid";
        }
        let missing = missing(&set.spec, &children(lab).await);
        if is_seen && missing.is_none() {
            return "carried out";
        }
        let waited = begun.elapsed();
        assert!(waited < CARRIED_OUT_WITHIN, "{what}: neither carried out nor said: {valid:?} {missing:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Where the spec itself lets nobody take over, or asks for other pods than those that vote.
fn lets_take_over(spec: &RedisReplicaSetSpec) -> bool {
    spec.replicas == 3 && !spec.paused && Policy::of(spec).mode != Mode::Manual
}

async fn kill_and_replace(lab: &Lab, what: &str) {
    until(&format!("{what}: votes"), PATIENCE, async || {
        let conditions = conditions_of(&lab.sets, "redis").await;
        let says = |wanted: &str| conditions.iter().any(|condition| condition.contains(wanted));
        // Where the API server refuses a pod with this spec, the other replica alone has a vote.
        let voters = if says("PodRefused") { 1 } else { 2 };
        ((says("Replicated=True AllInSync") || voters == 1) && lab.voters().await == voters).then_some(())
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

/// Writes this spec, and again where the operator wrote in between. The generation that it is.
async fn put(lab: &Lab, spec: &RedisReplicaSetSpec, what: &str) -> Option<i64> {
    until(&format!("{what}: put back"), PATIENCE, async || {
        let mut set = lab.sets.get("redis").await.unwrap();
        set.spec = spec.clone();
        let written = lab.sets.replace("redis", &PostParams::default(), &set).await.ok()?;
        Some(written.metadata.generation)
    })
    .await
}

/// Tries one mutation, and puts the spec back. What became of it, and whether a primary was killed meanwhile.
async fn try_it(lab: &Lab, mutation: &Mutation, before: &Before, killed: &mut BTreeSet<Class>) -> Class {
    let (what, field) = (mutation.words(), mutation.path.last().unwrap());
    let patch = Patch::Merge(json!({"spec": mutation.patch()}));
    let outcome = match lab.sets.patch("redis", &PatchParams::default(), &patch).await {
        Err(kube::Error::Api(refusal)) => {
            let said = &refusal.message;
            assert!(said.contains(field), "{what}: refused without its name: {said}");
            "refused by the API server"
        }
        Err(error) => panic!("{what}: {error}"),
        Ok(set) if set.spec == before.spec => "is what was there",
        Ok(set) => became(lab, set.metadata.generation, field, &what).await,
    };
    let class = (mutation.path[0].clone(), outcome);
    let spec = lab.sets.get("redis").await.unwrap().spec;
    let kills = lets_take_over(&spec) && killed.insert(class.clone());
    if kills {
        kill_and_replace(lab, &what).await;
    }
    if Policy::of(&spec).chooses_start() {
        // Pods keep how they start Redis until the spec names the other mode, or until their next roll.
        let named = Some(Failover { mode: Some(Mode::Quorum), ..Failover::default() });
        let generation =
            put(lab, &RedisReplicaSetSpec { failover: named, ..before.spec.clone() }, &what).await;
        became(lab, generation, field, &what).await;
    }
    put(lab, &before.spec, &what).await;
    if spec != before.spec || kills {
        until(&format!("{what}: as before"), CARRIED_OUT_WITHIN, async || {
            let set = lab.sets.get("redis").await.unwrap();
            let status = set.status.unwrap_or_default();
            let is_ready = status.is_ready() && status.observed_generation == set.metadata.generation;
            (is_ready && status.replicas == 3 && children(lab).await == before.children).then_some(())
        })
        .await;
    }
    class
}

/// What there is while nothing is mutated.
struct Before {
    spec: RedisReplicaSetSpec,
    children: Value,
}

/// The outermost field, and what became of its mutation: of each class the primary is killed once.
type Class = (String, &'static str);

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes half an hour: cargo test --test operator mutations -- --ignored --nocapture"]
async fn no_field_stops_the_operator() {
    let lab = Lab::new("mutations").await;
    lab.up("redis", json!({"replicas": 3, "primary": {"failback": false}})).await;
    lab.provide_volumes().await;
    lab.write(0..3, "before", 2).await;
    wait_for(&lab.sets, "redis", "Progressing=False UpToDate").await;
    let spec = lab.sets.get("redis").await.unwrap().spec;
    let before = Before { spec, children: children(&lab).await };
    let (mut outcomes, mut killed) = (BTreeMap::<&str, usize>::new(), BTreeSet::new());
    for (number, mutation) in chosen().into_iter().enumerate() {
        let begun = Instant::now();
        let (_, outcome) = try_it(&lab, &mutation, &before, &mut killed).await;
        *outcomes.entry(outcome).or_default() += 1;
        println!("{number} {}: {outcome}, {:.1?}", mutation.words(), begun.elapsed());
    }
    lab.assert_keys(3, 3, "before").await;
    println!("{outcomes:?}; the primary was killed {} times: {killed:?}", killed.len());
}
