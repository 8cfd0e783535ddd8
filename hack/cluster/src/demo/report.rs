//! What a person sees at the end.

use std::fmt::Write as _;

use serde_json::Value;

use super::files::Files;
use super::kube::NAMESPACE;
use super::set::text;

const COLUMNS: [(&str, &str); 5] =
    [("POD", "pod"), ("ROLE", "role"), ("STATE", "state"), ("MASTER HOST", "masterHost"), ("LINK", "link")];

/// `kubectl get`, and what each server answered.
pub fn set(summary: &str, set: &Value) -> String {
    format!(
        "$ kubectl get rrs\n{}\nWhat each Redis answered (.status.instances):\n{}\n",
        summary,
        table(set.pointer("/status/instances").and_then(Value::as_array).map_or(&[], Vec::as_slice))
    )
}

/// What to type next.
pub fn next(files: &Files, kubectl: &str, lab: bool) -> String {
    let info = "REDISCLI_AUTH=$(cat /etc/redis-operator/internal/agent-password) redis-cli --user redis-operator-agent info replication";
    let mut lines = vec![
        format!("export KUBECONFIG={}", files.kubeconfig().display()),
        format!("{kubectl} get rrs,pods -o wide"),
        format!("{kubectl} describe rrs redis"),
        format!("{kubectl} exec redis-1 -c redis -- sh -c '{info}'"),
        format!("{kubectl} scale rrs redis --replicas 4 && {kubectl} get rrs redis --watch"),
        format!("{kubectl} delete pod redis-0 --wait=false && {kubectl} get rrs redis --watch"),
        format!("{kubectl} explain rrs.spec"),
    ];
    if lab {
        let name = format!("redis-headless.{NAMESPACE}.svc.cluster.local");
        lines.push(format!("{kubectl} exec daemonset/multitool -- dig +short {name}"));
    }
    lines.push("make demo-down".to_owned());
    let mut text = "Next:\n\n".to_owned();
    for line in lines {
        // Writing into a String cannot fail.
        let _ = writeln!(text, "  {line}");
    }
    if lab {
        text.push_str("\nThe lab, step by step: docs/lab/README.md\n");
    }
    text
}

/// A table of the instances, each column as wide as its longest word.
fn table(instances: &[Value]) -> String {
    let cell = |instance: &Value, field: &str| match text(instance, field) {
        "" => "-".to_owned(),
        word => word.to_owned(),
    };
    let columns = COLUMNS.map(|(title, field)| {
        let mut cells = vec![title.to_owned()];
        cells.extend(instances.iter().map(|instance| cell(instance, field)));
        let width = cells.iter().map(|cell| cell.chars().count()).max().unwrap_or_default();
        (width, cells)
    });
    let mut text = String::new();
    for row in 0..=instances.len() {
        let words = columns.iter().filter_map(|(width, cells)| Some(format!("{:<width$}", cells.get(row)?)));
        text.push_str(words.collect::<Vec<_>>().join("   ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_table_shows_what_is_there_and_a_dash_where_nothing_is() {
        let instances = [
            json!({"pod": "redis-0", "role": "primary", "state": "Primary"}),
            json!({"pod": "redis-1", "role": "replica", "state": "InSync", "masterHost": "redis-0.x", "link": "up"}),
        ];
        let wanted = "\
POD       ROLE      STATE     MASTER HOST   LINK
redis-0   primary   Primary   -             -
redis-1   replica   InSync    redis-0.x     up
";
        assert_eq!(table(&instances), wanted);
    }
}
