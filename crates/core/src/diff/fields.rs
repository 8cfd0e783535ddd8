//! Does a live object still say what was applied?
//!
//! Pure. The API server adds defaults, drops empty values and spells quantities its own way; none of that is a
//! difference. Neither is what others added: server-side apply would leave it alone too.

use serde_json::{Map, Value};

use crate::quantity;

/// What the API server takes or leaves as one value: a part that somebody added changes what the whole of it means.
const WHOLE: [&str; 3] = ["ingress", "podSelector", "selector"];

/// Path of the first field in which `live` does not say what `desired` says; `None` where an apply of `desired`
/// would change nothing. A field that was applied earlier and is no longer desired cannot be seen this way.
pub fn difference(desired: &Value, live: &Value) -> Option<String> {
    differ(desired, Some(live), &mut Vec::new())
}

fn differ(desired: &Value, live: Option<&Value>, path: &mut Vec<String>) -> Option<String> {
    match (desired, live) {
        (wanted, Some(found)) if path.last().is_some_and(|field| WHOLE.contains(&field.as_str())) => {
            (wanted != found).then(|| path.join("."))
        }
        (Value::Object(wanted), Some(Value::Object(found))) => differ_in_fields(wanted, found, path),
        (Value::Array(wanted), Some(Value::Array(found))) => differ_in_items(wanted, found, path),
        (wanted, None) if is_zero(wanted) => None,
        (wanted, Some(found)) if wanted == found => None,
        (Value::String(wanted), Some(Value::String(found)))
            if is_quantity(path)
                && quantity::nanos(wanted).is_some_and(|worth| Some(worth) == quantity::nanos(found)) =>
        {
            None
        }
        _ => Some(path.join(".")),
    }
}

fn differ_in_fields(
    wanted: &Map<String, Value>,
    found: &Map<String, Value>,
    path: &mut Vec<String>,
) -> Option<String> {
    wanted.iter().find_map(|(name, value)| {
        path.push(name.clone());
        let difference = differ(value, found.get(name), path);
        path.pop();
        difference
    })
}

/// Lists that are merged by key may hold items of others; all other lists are one value.
fn differ_in_items(wanted: &[Value], found: &[Value], path: &mut Vec<String>) -> Option<String> {
    let keys = path.last().map(|list| merge_keys(list)).unwrap_or_default();
    if keys.is_empty() && wanted.len() != found.len() {
        return Some(path.join("."));
    }
    wanted.iter().enumerate().find_map(|(index, item)| {
        let twin = if keys.is_empty() {
            found.get(index)
        } else {
            found.iter().find(|candidate| keys.iter().all(|key| candidate.get(key) == item.get(key)))
        };
        path.push(index.to_string());
        let difference =
            if twin.is_none() && !keys.is_empty() { Some(path.join(".")) } else { differ(item, twin, path) };
        path.pop();
        difference
    })
}

/// Keys by which the API server merges a list of our children (`x-kubernetes-list-map-keys`).
fn merge_keys(list: &str) -> &'static [&'static str] {
    match list {
        "containers" | "initContainers" | "env" | "volumes" | "imagePullSecrets" => &["name"],
        "volumeMounts" => &["mountPath"],
        "ports" => &["port", "containerPort", "protocol"],
        "ownerReferences" => &["uid"],
        "topologySpreadConstraints" => &["topologyKey", "whenUnsatisfiable"],
        _ => &[],
    }
}

/// The places of our children that hold quantities.
fn is_quantity(path: &[String]) -> bool {
    let mut upwards = path.iter().rev();
    let (field, parent) = (upwards.next(), upwards.next());
    field.is_some_and(|field| field == "sizeLimit")
        || parent.is_some_and(|parent| parent == "requests" || parent == "limits")
}

/// What Go's `omitempty` leaves out, and the API server therefore forgets.
fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(on) => !on,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.values().all(is_zero),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_the_server_adds_is_no_difference() {
        for (desired, live) in [
            (json!({"a": 1}), json!({"a": 1, "b": 2})),
            (json!({"a": {"x": "", "y": [], "z": {}, "n": null}}), json!({})),
            (json!({"limits": {"cpu": "1000m"}}), json!({"limits": {"cpu": "1"}})),
            (json!({"sizeLimit": "1024Mi"}), json!({"sizeLimit": "1Gi"})),
            (
                json!({"containers": [{"name": "redis", "image": "x"}]}),
                json!({"containers": [{"name": "mesh"}, {"name": "redis", "image": "x", "terminationMessagePath": "/dev"}]}),
            ),
            (
                json!({"tolerations": [{"key": "a"}]}),
                json!({"tolerations": [{"key": "a", "operator": "Exists"}]}),
            ),
            (
                json!({"ports": [{"port": 1, "protocol": "TCP"}]}),
                json!({"ports": [{"port": 2, "protocol": "TCP"}, {"port": 1, "protocol": "TCP"}]}),
            ),
        ] {
            assert_eq!(difference(&desired, &live), None, "{desired} {live}");
        }
    }

    #[test]
    fn a_difference_is_named_by_its_path() {
        for (desired, live, path) in [
            (json!({"a": {"b": 1}}), json!({"a": {"b": 2}}), "a.b"),
            (json!({"a": {"b": 1}}), json!({"a": {}}), "a.b"),
            (json!({"a": {"b": 1}}), json!({}), "a"),
            (json!({"a": false}), json!({"a": true}), "a"),
            (json!({"limits": {"cpu": "1"}}), json!({"limits": {"cpu": "2"}}), "limits.cpu"),
            (json!({"text": "1000m"}), json!({"text": "1"}), "text"),
            (json!({"args": ["a", "b"]}), json!({"args": ["b", "a"]}), "args.0"),
            (json!({"args": ["a"]}), json!({"args": ["a", "b"]}), "args"),
            (
                json!({"tolerations": [{"key": "a"}]}),
                json!({"tolerations": [{"key": "a"}, {"key": "b"}]}),
                "tolerations",
            ),
            // Regression: a label more in a Service's selector, and it leads nowhere.
            (
                json!({"selector": {"role": "primary"}}),
                json!({"selector": {"role": "primary", "other": "x"}}),
                "selector",
            ),
            (
                json!({"ingress": [{"ports": [{"port": 1}]}]}),
                json!({"ingress": [{"ports": [{"port": 1}, {"port": 2}]}]}),
                "ingress",
            ),
            (
                json!({"ingress": [{"ports": [{"port": 1}]}]}),
                json!({"ingress": [{"ports": [{"port": 1}], "from": []}]}),
                "ingress",
            ),
            (
                json!({"containers": [{"name": "redis", "image": "x"}]}),
                json!({"containers": [{"name": "redis", "image": "y"}]}),
                "containers.0.image",
            ),
            (
                json!({"containers": [{"name": "redis"}]}),
                json!({"containers": [{"name": "mesh"}]}),
                "containers.0",
            ),
        ] {
            assert_eq!(difference(&desired, &live).as_deref(), Some(path), "{desired} {live}");
        }
    }
}
