//! Every directive that a server knows has a verdict, and both guards carry it out.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a step that fails is the test's failure")]

use std::{collections::BTreeMap, fs, path::Path};

use kube_core::CustomResourceExt as _;
use operator_core::api::{
    RedisReplicaSet,
    directives::{self, Verdict},
};

/// Names by list.
fn lists() -> BTreeMap<String, Vec<String>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/directives");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let lists = files.filter(|path| path.extension().is_some_and(|end| end == "txt"));
    let read = |path: std::path::PathBuf| {
        let names = fs::read_to_string(&path).unwrap().lines().map(str::to_owned).collect();
        (path.file_stem().unwrap().to_string_lossy().into_owned(), names)
    };
    lists.map(read).collect()
}

#[test]
fn every_directive_has_a_verdict() {
    let lists = lists();
    assert!(lists.len() >= 8 && lists["redis-7.0.15"].len() > 190, "{:?}", lists.keys());
    for (list, names) in &lists {
        let undecided: Vec<_> = names.iter().filter(|name| directives::verdict(name).is_none()).collect();
        assert!(undecided.is_empty(), "{list}: decide in api/directives/verdicts.rs on {undecided:?}");
    }
}

#[test]
fn every_row_is_of_a_directive_that_a_server_knows() {
    let known: Vec<String> = lists().into_values().flatten().collect();
    for verdict in lists().values().flatten().filter_map(|name| directives::verdict(name)) {
        for name in directives::names(verdict) {
            assert!(known.iter().any(|of_server| of_server == name), "no server knows {name}");
        }
    }
}

#[test]
fn the_plan_carries_the_verdicts_out() {
    for name in lists().values().flatten() {
        let said = directives::check(&[(name.clone(), "!".to_owned())].into());
        match directives::verdict(name).unwrap() {
            Verdict::Free => assert_eq!(said, Ok(()), "{name}"),
            Verdict::Bounded(bound) => assert_eq!(said, Err(bound.why().to_owned()), "{name}"),
            Verdict::Refused(group) => assert!(said.unwrap_err().contains(group.why()), "{name}"),
            Verdict::Spelling => assert!(said.unwrap_err().contains("lower-case letters"), "{name}"),
        }
    }
}

/// The rules of the CRD are written down one by one (`api::spec`): none is forgotten.
#[test]
fn the_crd_has_a_rule_for_each_verdict() {
    let crd = serde_json::to_value(RedisReplicaSet::crd()).unwrap();
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    let rules = schema["properties"]["spec"]["properties"]["config"]["x-kubernetes-validations"].to_string();
    for name in lists().values().flatten() {
        match directives::verdict(name).unwrap() {
            Verdict::Free | Verdict::Spelling => {}
            Verdict::Bounded(bound) => {
                assert!(rules.contains(&format!("'{name}'")) && rules.contains(bound.why()), "{name}");
            }
            Verdict::Refused(group) => assert!(rules.contains(&group.why().replace('\'', r"\'")), "{name}"),
        }
    }
}

/// What a server comes with is within the bounds: nobody is refused who writes down what holds anyway.
#[test]
fn defaults_are_within_the_bounds() {
    for (name, value) in [
        ("appendonly", "no"),
        ("availability-zone", ""),
        ("busy-reply-threshold", "5000"),
        ("client-output-buffer-limit", "normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60"),
        ("client-output-buffer-limit", "replica 256mb 64mb 60"),
        ("client-output-buffer-limit", "pubsub 32mb 8mb 60"),
        ("client-query-buffer-limit", "1073741824"),
        ("databases", "16"),
        ("loading-process-events-interval-bytes", "2097152"),
        ("lua-time-limit", "5000"),
        ("maxclients", "10000"),
        ("maxmemory", "0"),
        ("maxmemory-clients", "0"),
        ("maxmemory-clients", "5%"),
        ("min-replicas-to-write", "0"),
        ("min-slaves-to-write", "0"),
        ("propagation-error-behavior", "ignore"),
        ("repl-backlog-size", "1048576"),
        ("repl-backlog-size", "10mb"),
        ("repl-diskless-load", "disabled"),
        ("repl-diskless-sync-delay", "5"),
        ("repl-ping-replica-period", "10"),
        ("repl-timeout", "60"),
        ("replica-ignore-maxmemory", "yes"),
        ("shutdown-on-sigint", "default"),
        ("shutdown-on-sigterm", "default"),
        ("shutdown-timeout", "10"),
        ("tcp-backlog", "511"),
        ("timeout", "0"),
    ] {
        assert_eq!(
            directives::check(&[(name.to_owned(), value.to_owned())].into()),
            Ok(()),
            "{name} {value}"
        );
    }
}

#[test]
fn what_shuts_somebody_out_is_refused() {
    for (name, value) in [
        ("maxclients", "3"),
        ("maxclients", "63"),
        ("maxmemory-clients", "1mb"),
        ("maxmemory-clients", "1%"),
        ("maxmemory-clients", "101%"),
        ("client-output-buffer-limit", "replica 1kb 1kb 1"),
        ("client-output-buffer-limit", "slave 256mb 1kb 1"),
        ("client-output-buffer-limit", "normal 1mb 0 0"),
        ("client-output-buffer-limit", "replica 256mb 64mb 60 normal 1kb 0 0"),
        ("client-output-buffer-limit", "pubsub 1kb 1kb 1 Replica 15mb 0 0"),
        ("client-output-buffer-limit", "replica 256mb 64mb 60normal 0 0 0"),
        ("timeout", "1"),
        ("repl-timeout", "10"),
        ("repl-timeout", "86400"),
        ("maxmemory", "1mb"),
        ("maxmemory", "\"1\""),
        ("tcp-backlog", "1"),
        ("repl-diskless-sync-delay", "86400"),
        ("lua-time-limit", "0"),
        ("busy-reply-threshold", "60000"),
        ("min-replicas-to-write", "9"),
        ("shutdown-on-sigterm", "nosave"),
        ("shutdown-on-sigterm", "save force"),
        ("shutdown-timeout", "0"),
        ("databases", "100000"),
        ("availability-zone", r#""x\nrole:master""#),
        ("key-load-delay", "1000000"),
        ("unixsocketgroup", "redis"),
    ] {
        assert!(
            directives::check(&[(name.to_owned(), value.to_owned())].into()).is_err(),
            "{name} {value} is let through"
        );
    }
}

#[test]
fn the_documentation_names_every_bound() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/use/config.md");
    let page = fs::read_to_string(page).unwrap();
    let names: Vec<String> = lists().into_values().flatten().collect();
    let is_bounded = |name: &&String| matches!(directives::verdict(name), Some(Verdict::Bounded(_)));
    for name in names.iter().filter(is_bounded).filter(|name| !name.contains("slave")) {
        assert!(page.contains(&format!("`{name}`")), "docs/use/config.md does not name {name}");
    }
}
