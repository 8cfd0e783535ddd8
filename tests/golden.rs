//! Every sample becomes exactly the committed objects.
#![allow(clippy::unwrap_used, reason = "test code")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use operator_core::{
    api::{Reason, RedisReplicaSet},
    desired::{Desired, Stage, desired},
    plan::plan,
    settings::Settings,
};
use serde::Serialize;
use serde_json::Value;
use strum::VariantArray;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn samples() -> Vec<PathBuf> {
    let directory = fs::read_dir(root().join("config/samples")).unwrap();
    let mut samples: Vec<_> = directory
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .filter(|path| fs::read_to_string(path).unwrap().contains("kind: RedisReplicaSet"))
        .collect();
    samples.sort();
    samples
}

fn read(sample: &Path) -> RedisReplicaSet {
    let mut resource: RedisReplicaSet = serde_saphyr::from_str(&fs::read_to_string(sample).unwrap()).unwrap();
    resource.metadata.namespace = Some("lab".into());
    resource.metadata.uid = Some("11111111-2222-3333-4444-555555555555".into());
    resource
}

fn render(resource: &RedisReplicaSet) -> String {
    let settings = Settings {
        cluster_domain: "cluster.local".into(),
        agent_image: "localhost/redis-operator:test".into(),
        operator_namespace: "redis-operator-system".into(),
    };
    let plan = plan(resource, &settings).unwrap();
    let Desired { headless, primary, replicas, config_map, stateful_set, disruption_budget, network_policy } =
        desired(&plan, Stage { pods: plan.replicas, disruptions: 1 });
    [
        yaml(&headless),
        yaml(&primary),
        yaml(&replicas),
        yaml(&config_map),
        yaml(&stateful_set),
        disruption_budget.as_ref().map(yaml).unwrap_or_default(),
        network_policy.as_ref().map(yaml).unwrap_or_default(),
    ]
    .join("---\n")
}

fn yaml(object: &impl Serialize) -> String {
    // By way of a Value: fields come in one order whatever the crates' structs say.
    serde_saphyr::to_string(&serde_json::to_value(object).unwrap()).unwrap()
}

/// `UPDATE_GOLDEN=1 cargo test --test golden` writes them.
#[test]
fn samples_become_the_committed_objects() {
    let samples = samples();
    assert!(samples.len() >= 3, "{samples:?}");
    for sample in samples {
        let golden = root().join("tests/golden").join(sample.file_name().unwrap());
        let current = render(&read(&sample));
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&golden, &current).unwrap();
        }
        let committed = fs::read_to_string(&golden).unwrap_or_default();
        assert!(
            committed == current,
            "{} differs from {}: if the change is meant, run UPDATE_GOLDEN=1 cargo test --test golden",
            golden.display(),
            sample.display()
        );
    }
}

/// `UPDATE_GOLDEN=1 cargo test --test golden` writes it.
#[test]
fn the_documentation_lists_the_reasons() {
    let page = root().join("docs/use/status.md");
    let committed = fs::read_to_string(&page).unwrap();
    let (before, rest) = committed.split_once("<!-- reasons: begin -->\n").unwrap();
    let (_, after) = rest.split_once("<!-- reasons: end -->").unwrap();
    let reasons: Vec<String> = Reason::VARIANTS.iter().map(|reason| section(*reason)).collect();
    let current =
        format!("{before}<!-- reasons: begin -->\n{}<!-- reasons: end -->{after}", reasons.concat());
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&page, &current).unwrap();
    }
    let committed = fs::read_to_string(&page).unwrap();
    assert!(committed == current, "docs/use/status.md: run UPDATE_GOLDEN=1 cargo test --test golden");
}

/// A reason as docs/use/status.md has it.
fn section(reason: Reason) -> String {
    let stands_in: Vec<String> = reason
        .stands_in()
        .split(' ')
        .map(|place| place.replace('=', " is ").replace("Any is", "each condition that was not judged is"))
        .collect();
    let mut meaning = reason.meaning().replace("What to do:", "**What to do:**");
    for page in ["config", "holds", "storage"] {
        meaning = meaning.replace(&format!("docs/use/{page}.md"), &format!("[{page}]({page}.md)"));
    }
    format!("### `{}`\n\n*{}.* {meaning}\n\n", reason.as_str(), stands_in.join(", "))
}

/// `UPDATE_GOLDEN=1 cargo test --test golden` writes it.
#[test]
fn the_documentation_lists_every_field() {
    let crd = serde_json::to_value(operator_core::crd::definition()).unwrap();
    let schema = crd.pointer("/spec/versions/0/schema/openAPIV3Schema/properties").unwrap();
    let mut current = "# Every field\n\nWritten from the CRD; `kubectl explain redisreplicasets.spec` says the same. Do not edit.\n"
        .to_owned();
    for part in ["spec", "status"] {
        current += "\n## `";
        current += part;
        current += "`\n\n| field | type | default | meaning |\n|---|---|---|---|\n";
        rows(&schema[part], part, &mut current);
    }
    let page = root().join("docs/use/fields.md");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&page, &current).unwrap();
    }
    let committed = fs::read_to_string(&page).unwrap_or_default();
    assert!(committed == current, "docs/use/fields.md: run UPDATE_GOLDEN=1 cargo test --test golden");
}

/// A row for each field below this one. What Kubernetes itself defines (affinity, tolerations, conditions) is not taken apart.
fn rows(schema: &Value, path: &str, page: &mut String) {
    const OF_KUBERNETES: [&str; 4] = ["affinity", "tolerations", "topologySpreadConstraints", "conditions"];
    let fields = [schema, &schema["items"]].into_iter().find_map(|schema| schema["properties"].as_object());
    for (name, field) in fields.into_iter().flatten() {
        let list = if field["type"] == "array" { "[]" } else { "" };
        let path = format!("{path}.{name}{list}");
        let type_ = match field["enum"].as_array() {
            Some(values) => {
                let words: Vec<&str> = values.iter().filter_map(Value::as_str).collect();
                words.join(", ")
            }
            None => field["type"].as_str().unwrap_or("integer or string").to_owned(),
        };
        let default = match &field["default"] {
            Value::Null => String::new(),
            value => format!("`{value}`"),
        };
        let meaning =
            field["description"].as_str().unwrap_or_default().replace('\n', " ").replace('|', "\\|");
        let row = format!("| `{path}` | {type_} | {default} | {meaning} |\n");
        page.push_str(&row);
        if !OF_KUBERNETES.contains(&name.as_str()) {
            rows(field, &path, page);
        }
    }
}

/// `make drawing` draws it again.
#[test]
fn the_drawing_is_of_its_source() {
    let read = |name: &str| fs::read_to_string(root().join("docs/design").join(name)).unwrap();
    let (source, drawn) = (read("flow.dot"), read("flow.svg"));
    let labels = source.split("label=\"").skip(1).filter_map(|rest| rest.split('"').next());
    let words: Vec<&str> = labels.flat_map(|label| label.split("\\n")).collect();
    assert!(words.len() > 15, "{words:?}");
    for word in words {
        let word = word.replace('<', "&lt;").replace('>', "&gt;").replace('-', "&#45;");
        assert!(drawn.contains(&word), "docs/design/flow.svg lacks {word}: run make drawing");
    }
}

/// The lab's names: a reader of any tutorial on headless Services finds them again.
#[test]
fn the_first_sample_bears_the_names_of_the_lab() {
    let rendered = render(&read(&root().join("config/samples/redis.yaml")));
    assert!(rendered.contains("--domain=redis-headless.lab.svc.cluster.local"), "{rendered}");
    assert!(rendered.contains("serviceName: redis-headless"), "{rendered}");
}

/// A field of the spec that no sample shows would be one that nobody finds.
#[test]
fn the_full_sample_shows_every_field() {
    let full = serde_json::to_value(&read(&root().join("config/samples/redis-full.yaml")).spec).unwrap();
    let crd = serde_json::to_value(operator_core::crd::definition()).unwrap();
    let schema = crd.pointer("/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties").unwrap();
    for field in schema.as_object().unwrap().keys() {
        assert!(full.get(field).is_some(), "{field}");
    }
}
