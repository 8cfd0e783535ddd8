//! The sample: applied, and waited for until the operator has verified it.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use super::Ready;
use super::files::Files;
use super::kube::NAMESPACE;
use super::steps::Steps;
use crate::layout::{make_dir, write};

const SAMPLE: &str = "config/samples/redis.yaml";
/// The sample's name.
pub const NAME: &str = "redis";
/// Images may have to be pulled.
const LIMIT: Duration = Duration::from_mins(5);

/// Applies the sample, waits until it is verified, and gives it with its status.
pub fn up(ready: &Ready, files: &Files, steps: &mut Steps) -> Result<Value> {
    let kube = &ready.kube;
    let object = format!("redisreplicaset/{NAME}");
    steps.step(&format!("{SAMPLE}: apply, and wait until every server is verified"), |step| {
        overlay(&files.sample(), ready.redis_image.as_deref())?;
        if let Some(image) = &ready.redis_image {
            step.say(&format!("with image {image}, which the nodes have, in place of the sample's"));
        }
        let sample = files.sample();
        step.command(kube.kubectl(["-n", NAMESPACE, "apply", "-k"]).arg(&sample))?;
        step.until(LIMIT, || verified(kube.read(&object)?)).inspect_err(|_| {
            for args in [["describe", &object], ["describe", "pods"], ["get", "events"]] {
                step.record(kube.kubectl(["-n", NAMESPACE]).args(args));
            }
        })
    })
}

/// A kustomization of the sample, with another image where one is given. The sample is copied: kustomize reads no
/// file outside of its directory.
fn overlay(dir: &Path, image: Option<&str>) -> Result<()> {
    make_dir(dir)?;
    let sample = std::fs::read(SAMPLE).with_context(|| format!("cannot read {SAMPLE}"))?;
    write(&dir.join("redis.yaml"), sample)?;
    // JSON is YAML.
    write(&dir.join("kustomization.yaml"), format!("{:#}\n", kustomization(image)))
}

fn kustomization(image: Option<&str>) -> Value {
    let patches: Vec<Value> = image
        .into_iter()
        .map(|image| {
            let operation = json!([{"op": "add", "path": "/spec/image", "value": image}]);
            json!({"target": {"kind": "RedisReplicaSet", "name": NAME}, "patch": operation.to_string()})
        })
        .collect();
    json!({
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": ["redis.yaml"],
        "patches": patches,
    })
}

/// The set once its status says, of its present spec, that it is Ready; what it says otherwise as an error.
fn verified(set: Value) -> Result<Value> {
    let status = set.get("status").context("the operator has not looked at it yet")?;
    let generation = set.pointer("/metadata/generation");
    if generation.is_none() || status.get("observedGeneration") != generation {
        bail!("the operator has not seen the last change yet");
    }
    let conditions = status.get("conditions").and_then(Value::as_array);
    let ready = conditions
        .and_then(|all| all.iter().find(|condition| text(condition, "type") == "Ready"))
        .context("there is no condition Ready yet")?;
    if text(ready, "status") != "True" {
        bail!("{}: {}", text(ready, "reason"), text(ready, "message"));
    }
    Ok(set)
}

/// A field that is a string; empty where it is not there.
pub fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object.get(field).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(generation: u8, ready: &str) -> Value {
        json!({
            "metadata": {"generation": 2},
            "status": {
                "observedGeneration": generation,
                "conditions": [
                    {"type": "Available", "status": "True"},
                    {"type": "Ready", "status": ready, "reason": "Bootstrapping", "message": "redis-1 starts"},
                ],
            },
        })
    }

    #[test]
    fn only_ready_true_of_the_present_spec_is_verified() {
        assert!(verified(set(2, "True")).is_ok());
        for not_yet in [set(1, "True"), set(2, "Unknown"), json!({"metadata": {"generation": 2}}), json!({})]
        {
            assert!(verified(not_yet.clone()).is_err(), "{not_yet}");
        }
        let reason = verified(set(2, "False")).unwrap_err().to_string();
        assert_eq!(reason, "Bootstrapping: redis-1 starts");
    }

    #[test]
    fn an_image_is_patched_in_only_where_one_is_given() {
        assert_eq!(kustomization(None).get("patches"), Some(&json!([])));
        let patched = kustomization(Some("localhost/redis:7")).to_string();
        assert!(patched.contains("localhost/redis:7") && patched.contains("/spec/image"), "{patched}");
    }
}
