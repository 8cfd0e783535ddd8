//! What the operator may do, what it says of itself, and that no password is in it.

use k8s_openapi::api::networking::v1::NetworkPolicy;

use super::*;

/// What the life of a set in the first test does not need: the second one does.
const USED_ELSEWHERE: [&str; 1] = ["get /nodes"];

/// A life in which everything occurs that needs a right, or that a metric counts.
#[tokio::test(flavor = "multi_thread")]
async fn every_right_is_used_every_metric_documented_and_no_password_told() {
    let lab = Lab::new("rights").await;
    // Makes a Secret.
    apply(&lab.sets, "other", json!({"replicas": 2, "storage": {"ephemeral": {}}})).await;
    let secrets = lab.api::<Secret>();
    let other = until("a Secret", PATIENCE, async || secrets.get_opt("other-auth").await.unwrap()).await;
    let random = String::from_utf8(other.data.unwrap()["password"].0.clone()).unwrap();
    lab.up("redis", json!({"replicas": 3})).await;
    let (sets, pods) = (&lab.sets, lab.api::<Pod>());
    // Deletes a budget.
    let budgets = lab.api::<PodDisruptionBudget>();
    until("a budget for two pods", PATIENCE, async || budgets.get_opt("other").await.unwrap()).await;
    apply(sets, "other", json!({"replicas": 1, "storage": {"ephemeral": {}}})).await;
    until("one pod needs no budget", PATIENCE, async || {
        budgets.get_opt("other").await.unwrap().is_none().then_some(())
    })
    .await;
    // Deletes a policy.
    let policies = lab.api::<NetworkPolicy>();
    until("a policy", PATIENCE, async || policies.get_opt("other").await.unwrap()).await;
    let open = json!({"replicas": 1, "storage": {"ephemeral": {}}, "networkPolicy": {"enabled": false}});
    apply(sets, "other", open).await;
    until("no policy is wanted", PATIENCE, async || {
        policies.get_opt("other").await.unwrap().is_none().then_some(())
    })
    .await;
    sets.delete("other", &DeleteParams::default()).await.unwrap();
    // Moves labels; deletes pods.
    lab.kubelet.kill_redis("redis-0");
    until("another epoch", PATIENCE, async || (lab.epoch("redis").await == 2).then_some(())).await;
    wait_for(sets, "redis", "Ready=True Verified").await;
    let before = uids(&pods).await;
    apply(sets, "redis", json!({"replicas": 3, "podAnnotations": {"example.com/restarted": "1"}})).await;
    until("every pod is another one", Duration::from_secs(60), async || {
        let now = uids(&pods).await;
        (now.len() == 3 && now.is_disjoint(&before)).then_some(())
    })
    .await;
    wait_for(sets, "redis", "Ready=True Verified").await;
    // Lists Events.
    lab.refuse_pods().await;
    pods.delete("redis-2", &DeleteParams::default()).await.unwrap();
    wait_for(sets, "redis", "Degraded=True PodRefused").await;
    lab.take_pods("redis").await;
    wait_for(sets, "redis", "Ready=True Verified").await;
    // The second Event of the same words counts up the first.
    for look in ["again", "twice"] {
        let secret = secrets.get("redis-auth").await.unwrap();
        secrets.delete("redis-auth", &DeleteParams::default()).await.unwrap();
        let patch = json!({"metadata": {"labels": {"look": look}}});
        sets.patch("redis", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
        wait_for(sets, "redis", "Degraded=True SecretMissing").await;
        let back = json!({"metadata": {"name": "redis-auth"}, "data": secret.data});
        secrets.create(&PostParams::default(), &serde_json::from_value(back).unwrap()).await.unwrap();
        wait_for(sets, "redis", "Ready=True Verified").await;
    }

    // Writes the operator's own Secret: another password, which is a former one from then on.
    let other = Patch::Merge(json!({"stringData": {"password": "another"}}));
    secrets.patch("redis-auth", &PatchParams::default(), &other).await.unwrap();
    let patch = json!({"metadata": {"labels": {"look": "changed"}}});
    sets.patch("redis", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    wait_for(sets, "redis", "CredentialsCurrent=False Rotating").await;

    // The figures of a pass come after its status.
    let (mut seen, mut expected) = (BTreeSet::new(), BTreeSet::new());
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        (seen, expected) = metrics_seen_and_documented(&lab.operator);
        if seen == expected {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(seen, expected);
    let (log, events) = (lab.operator.log(), lab.api::<Event>().list(&ListParams::default()).await.unwrap());
    for password in [PASSWORD, random.as_str()] {
        assert!(!log.contains(password), "the log holds a password");
        for event in events.iter() {
            assert!(!event.note.as_deref().unwrap_or_default().contains(password));
        }
    }
    assert_secrets_were_read_by_name(&lab);
    assert_nothing_was_forbidden(lab.plane, &lab.user);
    assert_granted_is_used(lab.plane, &lab.user);
}

/// Each Secret that the operator asked for is that of a set, by its name.
fn assert_secrets_were_read_by_name(lab: &Lab) {
    let audit = lab.plane.audit();
    let asked: BTreeSet<String> = audit
        .iter()
        .filter(|entry| entry["user"]["username"] == lab.user.as_str())
        .filter(|entry| entry["objectRef"]["resource"] == "secrets" && entry["verb"] != "create")
        .map(|entry| format!("{} {}", entry["verb"], entry["objectRef"]["name"]).replace('"', ""))
        .collect();
    let expected = [
        "get other-auth",
        "get other-internal",
        "get redis-auth",
        "get redis-internal",
        "update redis-internal",
    ];
    assert_eq!(asked, BTreeSet::from(expected.map(str::to_owned)));
}

/// The families of samples that are there, each of which `docs/use/metrics.md` names, and those that it says are there.
fn metrics_seen_and_documented(operator: &Operator) -> (BTreeSet<String>, BTreeSet<String>) {
    let (code, text) = operator.get("/metrics").unwrap();
    assert_eq!(code, 200);
    // A body in chunks carries their lengths; samples have no line that is one word.
    assert!(text.contains("# EOF"), "{text}");
    let page = fs::read_to_string(rig::repository("docs/use/metrics.md")).unwrap();
    let documented: BTreeSet<&str> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split(['`', '{']).next())
        .filter(|name| name.starts_with("redis_operator_"))
        .collect();
    let mut seen = BTreeSet::new();
    for line in text.lines().filter(|line| line.starts_with("redis_operator_")) {
        let (sample, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no sample: {line}"));
        assert!(value.parse::<f64>().is_ok(), "no number: {line}");
        let name = sample.split('{').next().unwrap();
        let family =
            ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
        assert!(documented.contains(family), "docs/use/metrics.md does not name {family}");
        seen.insert(family.to_owned());
    }
    // No pass of a good life ends early.
    let expected: BTreeSet<String> = documented
        .iter()
        .filter(|name| **name != "redis_operator_errors_total")
        .map(|&name| name.to_owned())
        .collect();
    seen.remove("redis_operator_errors_total");
    (seen, expected)
}

/// The pod that served is gone, and no operator saw its end: its node is asked for.
#[tokio::test(flavor = "multi_thread")]
async fn the_right_on_nodes_is_used_where_nobody_saw_the_primary_end() {
    let mut lab = Lab::new("rights-nodes").await;
    lab.up("redis", json!({"replicas": 2, "storage": {"ephemeral": {}}})).await;
    lab.operator.kill();
    let pods = lab.api::<Pod>();
    let before = pods.get("redis-0").await.unwrap().uid();
    pods.delete("redis-0", &DeleteParams::default().grace_period(0)).await.unwrap();
    until("another pod is there", PATIENCE, async || {
        let pod = pods.get_opt("redis-0").await.unwrap()?;
        (pod.uid() != before).then_some(())
    })
    .await;
    lab.operator = Operator::start(lab.plane, &lab.user, lab.namespace, "next");
    let used = || -> BTreeSet<String> {
        requests(lab.plane, &lab.user).into_iter().map(|(verb, of, _)| format!("{verb} {of}")).collect()
    };
    for right in USED_ELSEWHERE {
        until(right, PATIENCE, async || used().contains(right).then_some(())).await;
    }
    assert_nothing_was_forbidden(lab.plane, &lab.user);
}

/// Every right that the roles grant was used, or is in [`USED_ELSEWHERE`].
fn assert_granted_is_used(plane: &ControlPlane, user: &str) {
    let mut exercised: BTreeSet<String> = BTreeSet::new();
    for (verb, resource, code) in requests(plane, user) {
        // An apply that creates needs the right to create too.
        if verb == "patch" && code == 201 {
            exercised.insert(format!("create {resource}"));
        }
        exercised.insert(format!("{verb} {resource}"));
    }
    let mut granted = BTreeSet::new();
    for path in ["config/rbac/role.yaml", "config/rbac/lease_role.yaml"] {
        let text = fs::read_to_string(rig::repository(path)).unwrap();
        let documents: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
        let words = |value: &Value| -> Vec<String> {
            value.as_array().unwrap().iter().map(|word| word.as_str().unwrap().to_owned()).collect()
        };
        for rule in documents.iter().filter_map(|object| object["rules"].as_array()).flatten() {
            for group in words(&rule["apiGroups"]) {
                for resource in words(&rule["resources"]) {
                    granted.extend(
                        words(&rule["verbs"]).iter().map(|verb| format!("{verb} {group}/{resource}")),
                    );
                }
            }
        }
    }
    let excused: BTreeSet<String> = USED_ELSEWHERE.map(str::to_owned).into();
    let idle: BTreeSet<String> = granted.difference(&exercised).cloned().collect();
    assert_eq!(idle, excused, "rights that are granted and not used, against those that another test uses");
}
