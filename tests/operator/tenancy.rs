//! What a person with rights on `RedisReplicaSets` alone, in one namespace, can and cannot cause (`docs/use/tenancy.md`).

use k8s_openapi::api::{
    coordination::v1::Lease, core::v1::Node, networking::v1::NetworkPolicy, rbac::v1::RoleBinding,
};

use super::*;

/// Grants a user all that there is on `RedisReplicaSets` in a namespace, and no more.
async fn grant_sets(client: &Client, user: &str, namespace: &str) {
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "sets"},
        "rules": [{"apiGroups": ["replication.redis"], "resources": ["redisreplicasets", "redisreplicasets/scale"], "verbs": ["*"]}],
    });
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "sets"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "sets"},
        "subjects": [{"kind": "User", "name": user, "apiGroup": "rbac.authorization.k8s.io"}],
    });
    let params = PostParams::default();
    let roles = Api::<k8s_openapi::api::rbac::v1::Role>::namespaced(client.clone(), namespace);
    roles.create(&params, &serde_json::from_value(role).unwrap()).await.unwrap();
    let bindings = Api::<RoleBinding>::namespaced(client.clone(), namespace);
    bindings.create(&params, &serde_json::from_value(binding).unwrap()).await.unwrap();
}

fn is_forbidden<T>(answer: &Result<T, kube::Error>) -> bool {
    matches!(answer, Err(kube::Error::Api(status)) if status.is_forbidden())
}

/// The operator makes for a tenant what the tenant may not make, read or change.
#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_gets_a_redis_and_no_other_right() {
    let lab = Lab::new("tenant").await;
    let tenant = lab.plane.user();
    grant_sets(&lab.client, &tenant, "tenant").await;
    let client = Client::try_from(lab.plane.config_of(&tenant).await).unwrap();
    // His own set, by his own hand.
    let sets = Api::<RedisReplicaSet>::namespaced(client.clone(), "tenant");
    let secret = json!({"metadata": {"name": "redis-auth"}, "stringData": {"password": PASSWORD}});
    let secret = serde_json::from_value(secret).unwrap();
    lab.api::<Secret>().create(&PostParams::default(), &secret).await.unwrap();
    until("his rights are known", PATIENCE, async || {
        sets.list(&ListParams::default()).await.ok().map(|_| ())
    })
    .await;
    apply(&sets, "redis", json!({"replicas": 2, "storage": {"ephemeral": {}}})).await;
    wait_for(&sets, "redis", "Ready=True Verified").await;

    let (list, delete) = (ListParams::default(), DeleteParams::default());
    assert!(is_forbidden(&Api::<Secret>::namespaced(client.clone(), "tenant").get("redis-auth").await));
    assert!(is_forbidden(&Api::<Secret>::namespaced(client.clone(), "tenant").list(&list).await));
    assert!(is_forbidden(&Api::<Pod>::namespaced(client.clone(), "tenant").list(&list).await));
    assert!(is_forbidden(&Api::<Pod>::namespaced(client.clone(), "tenant").delete("redis-0", &delete).await));
    assert!(is_forbidden(&Api::<ConfigMap>::namespaced(client.clone(), "tenant").get("redis-record").await));
    assert!(is_forbidden(
        &Api::<NetworkPolicy>::namespaced(client.clone(), "tenant").delete("redis", &delete).await
    ));
    // Nor can he say of his set what is not so.
    let lie = Patch::Merge(json!({"status": {"readyReplicas": 9}}));
    assert!(is_forbidden(&sets.patch_status("redis", &PatchParams::default(), &lie).await));
    for elsewhere in ["default", "kube-system"] {
        let sets = Api::<RedisReplicaSet>::namespaced(client.clone(), elsewhere);
        assert!(is_forbidden(&sets.list(&list).await), "{elsewhere}");
    }
    assert!(is_forbidden(&Api::<RedisReplicaSet>::all(client.clone()).list(&list).await));
    assert_nothing_was_forbidden(lab.plane, &lab.user);
}

/// What a cluster's administrator can bound: the number of sets, as of any kind.
#[tokio::test(flavor = "multi_thread")]
async fn a_quota_bounds_the_number_of_sets() {
    rustls_provider();
    let plane = ControlPlane::shared();
    let client = plane.client().await;
    install_crd(&client).await;
    create_namespace(&client, "quota").await;
    let (kind, one) = ("count/redisreplicasets.replication.redis", json!("1"));
    let quotas = Api::<ResourceQuota>::namespaced(client.clone(), "quota");
    let quota = json!({"metadata": {"name": "sets"}, "spec": {"hard": {kind: one}}});
    quotas.create(&PostParams::default(), &serde_json::from_value(quota).unwrap()).await.unwrap();
    // What the quota controller does, which does not run here.
    let counted = json!({"status": {"hard": {kind: one}, "used": {kind: "0"}}});
    quotas.patch_status("sets", &PatchParams::default(), &Patch::Merge(&counted)).await.unwrap();
    let sets = Api::<RedisReplicaSet>::namespaced(client.clone(), "quota");
    let create = async |name: &str| {
        let set = json!({
            "apiVersion": "replication.redis/v1alpha1", "kind": "RedisReplicaSet",
            "metadata": {"name": name}, "spec": {},
        });
        sets.create(&PostParams::default(), &serde_json::from_value(set).unwrap()).await
    };
    create("first").await.unwrap();
    let refused = create("second").await;
    assert!(is_forbidden(&refused), "{refused:?}");
}

/// An operator for all namespaces, on a control plane of its own: it would serve the sets of the other tests.
#[tokio::test(flavor = "multi_thread")]
async fn a_set_reaches_nothing_outside_of_its_namespace() {
    rustls_provider();
    let plane = ControlPlane::start();
    let client = plane.client().await;
    install_crd(&client).await;
    for namespace in ["operators", "tenant-a", "tenant-b"] {
        create_namespace(&client, namespace).await;
    }
    let user = plane.user();
    grant(&client, &user, "operators").await;
    let operator = Operator::start_everywhere(&plane, &user, "operators", "only");
    until("it leads", PATIENCE, async || operator.leads().then_some(())).await;
    let (mine, theirs) =
        (Api::namespaced(client.clone(), "tenant-a"), Api::namespaced(client.clone(), "tenant-b"));
    let has_children = async |namespace: &str, name: &str| {
        let stateful_sets = Api::<StatefulSet>::namespaced(client.clone(), namespace);
        until("its children", PATIENCE, async || stateful_sets.get_opt(name).await.unwrap()).await
    };
    apply(&theirs, "redis", json!({"storage": {"ephemeral": {}}})).await;
    has_children("tenant-b", "redis").await;
    let of = |entry: &Value, field: &str| entry["objectRef"][field].as_str().unwrap_or_default().to_owned();
    let is_write = |entry: &Value| {
        ["create", "update", "patch", "delete"].contains(&entry["verb"].as_str().unwrap_or_default())
    };
    let written = || {
        let audit = plane.audit();
        let by_operator = audit.into_iter().filter(|entry| entry["user"]["username"] == user.as_str());
        by_operator
            .filter(|entry| is_write(entry) && of(entry, "resource") != "leases")
            .collect::<Vec<Value>>()
    };
    // Its own writes end first.
    wait_for(&theirs, "redis", "Ready=False Bootstrapping").await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let before = written().len();

    // The names of the other's set and objects, wherever a name can be given.
    let own = json!({
        "replicas": 3, "storage": {"ephemeral": {}}, "priorityClassName": "redis",
        "imagePullSecrets": [{"name": "redis-auth"}], "podLabels": {"tenant": "tenant-b"},
        "podAnnotations": {"example.com/namespace": "tenant-b"},
        "networkPolicy": {"clients": [{"namespaceSelector": {}}]},
        "affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
            {"topologyKey": "kubernetes.io/hostname", "namespaces": ["tenant-b"], "labelSelector": {}},
        ]}},
    });
    let annotations = json!({
        "replication.redis/switchover-to": "redis-1.redis-headless.tenant-b",
        "replication.redis/accept-data-loss": "redis-1@1",
    });
    for (name, spec) in [
        ("redis", own.clone()),
        ("redis", json!({"replicas": 1, "storage": {"ephemeral": {}}})),
        ("tenant-b", own),
    ] {
        rig::local::sets::apply_with(&mine, name, annotations.clone(), spec).await;
        has_children("tenant-a", name).await;
        wait_for(&mine, name, "Ready=False Bootstrapping").await;
    }
    for name in ["redis", "tenant-b"] {
        mine.delete(name, &DeleteParams::default()).await.unwrap();
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    let after = written().split_off(before);
    assert!(after.len() > 15, "{after:?}");
    let elsewhere: Vec<&Value> = after.iter().filter(|entry| of(entry, "namespace") != "tenant-a").collect();
    assert!(elsewhere.is_empty(), "written for sets of tenant-a: {elsewhere:?}");

    // What it asked for of Secrets: each by its name, in a namespace that has a set.
    for entry in plane.audit().iter().filter(|entry| of(entry, "resource") == "secrets") {
        if entry["user"]["username"] == user.as_str() && entry["verb"] == "get" {
            assert!(
                ["-auth", "-internal"].iter().any(|end| of(entry, "name").ends_with(end))
                    && of(entry, "namespace").starts_with("tenant-")
            );
        }
    }
    assert_nothing_was_forbidden(&plane, &user);
}

/// The rules of the one role that the chart renders for `scope: namespace`; `tests/chart.rs` compares them with these.
async fn grant_one_namespace(client: &Client, user: &str, namespace: &str) {
    let text = fs::read_to_string(rig::repository("config/rbac/role.yaml")).unwrap();
    let documents: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
    let mut role = documents.into_iter().find(|object| object["kind"] == "ClusterRole").unwrap();
    role["kind"] = json!("Role");
    // Nodes belong to no namespace.
    let rules = role["rules"].as_array_mut().unwrap();
    let all = rules.len();
    rules.retain(|rule| rule["resources"] != json!(["nodes"]));
    assert_eq!(rules.len(), all - 1);
    let api = Api::<k8s_openapi::api::rbac::v1::Role>::namespaced(client.clone(), namespace);
    api.create(&PostParams::default(), &serde_json::from_value(role).unwrap()).await.unwrap();
    let binding = json!({
        "metadata": {"name": "redis-operator"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "redis-operator"},
        "subjects": [{"kind": "User", "name": user, "apiGroup": "rbac.authorization.k8s.io"}],
    });
    let bindings = Api::<RoleBinding>::namespaced(client.clone(), namespace);
    bindings.create(&PostParams::default(), &serde_json::from_value(binding).unwrap()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_namespace_needs_no_right_outside_of_it() {
    rustls_provider();
    let plane = ControlPlane::shared();
    let client = plane.client().await;
    install_crd(&client).await;
    create_namespace(&client, "one-namespace").await;
    let user = plane.user();
    grant(&client, &user, "one-namespace").await;
    // All that is cluster-wide is taken back.
    let bindings = Api::<k8s_openapi::api::rbac::v1::ClusterRoleBinding>::all(client.clone());
    bindings.delete(&user, &DeleteParams::default()).await.unwrap();
    grant_one_namespace(&client, &user, "one-namespace").await;
    let own = Client::try_from(plane.config_of(&user).await).unwrap();
    until("nothing outside is left to it", PATIENCE, async || {
        is_forbidden(&Api::<Node>::all(own.clone()).get_opt("node-0").await).then_some(())
    })
    .await;
    assert!(is_forbidden(&Api::<Secret>::namespaced(own.clone(), "default").get_opt("x").await));
    assert!(is_forbidden(
        &Api::<Lease>::namespaced(own.clone(), "default").list(&ListParams::default()).await
    ));
    let probes = requests(plane, &user).iter().filter(|(.., code)| *code == 403).count();

    controllers(plane);
    let kubelet = Kubelet::start(client.clone(), "one-namespace", PASSWORD);
    let operator = Operator::start_asking(plane, &user, "one-namespace", "only", &kubelet.hosts());
    until("it leads", PATIENCE, async || operator.leads().then_some(())).await;
    let sets = Api::namespaced(client.clone(), "one-namespace");
    let secret = json!({"metadata": {"name": "redis-auth"}, "stringData": {"password": PASSWORD}});
    let secrets = Api::<Secret>::namespaced(client.clone(), "one-namespace");
    secrets.create(&PostParams::default(), &serde_json::from_value(secret).unwrap()).await.unwrap();
    apply(&sets, "redis", json!({"replicas": 3, "storage": {"ephemeral": {}}})).await;
    wait_for(&sets, "redis", "Ready=True Verified").await;
    kubelet.kill_redis("redis-0");
    until("another primary", PATIENCE, async || {
        let status = sets.get("redis").await.unwrap().status?;
        (status.primary?.epoch == 2).then_some(())
    })
    .await;
    wait_for(&sets, "redis", "Ready=True Verified").await;
    let refused = requests(plane, &user).into_iter().filter(|(.., code)| *code == 403).count();
    assert_eq!(refused, probes, "the operator asked for something that it may not have");
}
