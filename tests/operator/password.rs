//! The application's password: a person's is used and left alone, a missing one is made, its loss is told, and a changed one reaches
//! every server while writes go on. The operator's own: made, put back, changed, and given to sets of earlier versions.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use operator_core::names::CHILDREN_MANAGER;
use redis_node::login::{AGENT_USER, OPERATOR_USER, REPLICA_USER};

use super::*;

const PODS: [&str; 3] = ["redis-0", "redis-1", "redis-2"];

async fn change(lab: &Lab, secret: &str, data: Value) {
    let patch = Patch::Merge(json!({"stringData": data}));
    lab.api::<Secret>().patch(secret, &PatchParams::default(), &patch).await.unwrap();
}

/// Lets the operator read the Secrets now, and not within a minute.
async fn look_again(lab: &Lab, label: &str) {
    let patch = json!({"metadata": {"labels": {"look": label}}});
    lab.sets.patch("redis", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
}

fn takes(lab: &Lab, pod: &str, user: &str, password: &str) -> bool {
    lab.kubelet.login(pod, user, password).is_ok()
}

/// `run_id` of each server, and how many full copies each has given.
fn processes(lab: &Lab) -> Vec<(String, String)> {
    let info = |pod: &str, section: &str, field: &str| {
        let text: String = lab.kubelet.command(pod, &["INFO", section]).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("{field}:")).map(str::to_owned));
        line.unwrap()
    };
    PODS.map(|pod| (info(pod, "server", "run_id"), info(pod, "stats", "sync_full"))).to_vec()
}

/// Writes that a replica acknowledged, over one connection that is never opened again; and what went wrong.
fn write_on(lab: &Lab, pod: &str, stop: &Arc<AtomicBool>) -> thread::JoinHandle<Result<u32, String>> {
    let (mut client, stop) = (lab.kubelet.client(pod).unwrap(), Arc::clone(stop));
    thread::spawn(move || {
        let mut written = 0;
        while !stop.load(Ordering::Relaxed) {
            let mut told = redis::pipe();
            told.cmd("SET").arg("n").arg(written).ignore().cmd("WAIT").arg(1).arg(2000);
            let (acknowledged,): (u32,) = told.query(&mut client).map_err(|error| error.to_string())?;
            if acknowledged == 0 {
                return Err(format!("write {written} reached no replica"));
            }
            written += 1;
        }
        Ok(written)
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_password_reaches_every_server_while_writes_go_on() {
    let lab = Lab::new("rotated").await;
    lab.up("redis", json!({"auth": {"grace": 1}})).await;
    wait_for(&lab.sets, "redis", "CredentialsCurrent=True AsInSecrets").await;
    let before = processes(&lab);
    let stop = Arc::new(AtomicBool::new(false));
    let writer = write_on(&lab, "redis-0", &stop);
    let mut former = PASSWORD.to_owned();
    let (mut reached, mut over) = (Vec::new(), Vec::new());
    for round in 0..20 {
        let next = format!("the next one {round}");
        change(&lab, "redis-auth", json!({"password": next})).await;
        let began = Instant::now();
        look_again(&lab, &format!("round-{round}")).await;
        until("every server takes the new password", PATIENCE, async || {
            PODS.iter().all(|pod| takes(&lab, pod, "default", &next)).then_some(())
        })
        .await;
        reached.push(began.elapsed());
        wait_for(&lab.sets, "redis", "CredentialsCurrent=False Rotating").await;
        wait_for(&lab.sets, "redis", "CredentialsCurrent=True AsInSecrets").await;
        over.push(began.elapsed());
        assert!(PODS.iter().all(|pod| !takes(&lab, pod, "default", &former)), "the former one is over");
        lab.kubelet.use_password(&next);
        former = next;
    }
    stop.store(true, Ordering::Relaxed);
    let written = writer.join().unwrap().expect("no write fails");
    assert_eq!(processes(&lab), before, "no restart and no full copy");
    let said = conditions_of(&lab.sets, "redis").await;
    assert!(said.contains(&"Ready=True Verified".to_owned()), "{said:?}");
    reached.sort();
    over.sort();
    println!(
        "20 changes: every server takes the new one after {:.2?} (p50), {:.2?} (longest); the former one is over after {:.2?}, \
         {:.2?}; {written} acknowledged writes meanwhile, none failed",
        reached[10], reached[19], over[10], over[19]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_is_killed_while_a_password_changes_is_replaced_as_ever() {
    let lab = Lab::new("rotated-killed").await;
    lab.up("redis", json!({"auth": {"grace": 1}})).await;
    lab.write(0..10, "a", 2).await;
    change(&lab, "redis-auth", json!({"password": "b"})).await;
    look_again(&lab, "changed").await;
    let (epoch, primary) = lab.primary().await;
    lab.kubelet.kill_redis(&primary);
    let killed = Instant::now();
    until("another is the primary", PATIENCE, async || (lab.primary().await.0 > epoch).then_some(())).await;
    println!("replaced after {:.2?}", killed.elapsed());
    wait_for(&lab.sets, "redis", "Ready=True Verified").await;
    wait_for(&lab.sets, "redis", "CredentialsCurrent=True AsInSecrets").await;
    assert!(
        PODS.iter().all(|pod| takes(&lab, pod, "default", "b") && !takes(&lab, pod, "default", PASSWORD))
    );
    lab.kubelet.use_password("b");
    lab.assert_keys(3, 10, "a").await;
}

/// On a schedule; here a person has put the date of the last change back.
#[tokio::test(flavor = "multi_thread")]
async fn own_passwords_are_changed_without_a_restart() {
    let lab = Lab::new("own-rotated").await;
    lab.up("redis", json!({"auth": {"internalRotationDays": 1}})).await;
    wait_for(&lab.sets, "redis", "CredentialsCurrent=True AsInSecrets").await;
    let own = async |key: &str| {
        let secret = lab.api::<Secret>().get("redis-internal").await.unwrap();
        String::from_utf8(secret.data.unwrap()[key].0.clone()).unwrap()
    };
    let keys = [
        ("operator-password", OPERATOR_USER),
        ("replica-password", REPLICA_USER),
        ("agent-password", AGENT_USER),
    ];
    let mut former = Vec::new();
    for (key, user) in keys {
        former.push((user, own(key).await));
    }
    let before = processes(&lab);
    let stop = Arc::new(AtomicBool::new(false));
    let writer = write_on(&lab, "redis-0", &stop);
    let mut changes: Value = serde_json::from_str(&own("changes.json").await).unwrap();
    changes["since"] = json!("2020-01-01T00:00:00Z");
    change(&lab, "redis-internal", json!({"changes.json": changes.to_string()})).await;
    look_again(&lab, "due").await;
    wait_for(&lab.sets, "redis", "CredentialsCurrent=False Rotating").await;
    for (key, user) in keys {
        let current = own(key).await;
        let before = &former.iter().find(|(of, _)| *of == user).unwrap().1;
        assert_ne!(current, *before);
        until("both are taken", PATIENCE, async || {
            PODS.iter()
                .all(|pod| takes(&lab, pod, user, &current) && takes(&lab, pod, user, before))
                .then_some(())
        })
        .await;
    }
    // A replica logs in with the new one when it has to.
    let () = lab.kubelet.command("redis-0", &["CLIENT", "KILL", "TYPE", "replica"]).unwrap();
    wait_for(&lab.sets, "redis", "Ready=True Verified").await;
    until("its end is told", PATIENCE, async || {
        lab.message("CredentialsCurrent").await.contains("are taken until").then_some(())
    })
    .await;
    stop.store(true, Ordering::Relaxed);
    writer.join().unwrap().expect("no write fails");
    assert_eq!(processes(&lab), before, "no restart and no full copy");
}

/// A set as an earlier version left it: the servers know the application's password alone. Nothing is restarted for the operator's
/// own users; the next change of the pods brings them the Secret.
#[tokio::test(flavor = "multi_thread")]
async fn a_set_of_an_earlier_version_is_taken_over_without_a_restart() {
    let mut lab = Lab::new("earlier").await;
    lab.up("redis", json!({})).await;
    lab.write(0..10, "a", 2).await;
    lab.operator.kill();
    let sets = lab.api::<StatefulSet>();
    let mut former = sets.get("redis").await.unwrap();
    let pod = former.spec.as_mut().unwrap().template.spec.as_mut().unwrap();
    let volume = pod.volumes.as_mut().unwrap().iter_mut().find(|v| v.name == "internal").unwrap();
    *volume = serde_json::from_value(json!({
        "name": "auth",
        "secret": {"secretName": "redis-auth", "defaultMode": 0o440, "items": [{"key": "password", "path": "password"}]},
    }))
    .unwrap();
    let mounts = pod.containers[0].volume_mounts.as_mut().unwrap();
    let mount = mounts.iter_mut().find(|mount| mount.name == "internal").unwrap();
    *mount = serde_json::from_value(
        json!({"name": "auth", "mountPath": "/etc/redis-operator/auth", "readOnly": true}),
    )
    .unwrap();
    // As the earlier version applied it.
    let ObjectMeta { name, labels, annotations, .. } = former.metadata;
    former.metadata = ObjectMeta { name, labels, annotations, ..ObjectMeta::default() };
    former.status = None;
    let as_operator = PatchParams::apply(CHILDREN_MANAGER).force();
    sets.patch("redis", &as_operator, &Patch::Apply(&former)).await.unwrap();
    lab.api::<Secret>().delete("redis-internal", &DeleteParams::default()).await.unwrap();
    for pod in PODS {
        lab.api::<Pod>().delete(pod, &DeleteParams::default()).await.unwrap();
    }
    until("all start as before", PATIENCE, async || {
        PODS.iter()
            .all(|pod| takes(&lab, pod, "default", PASSWORD) && !takes(&lab, pod, OPERATOR_USER, "x"))
            .then_some(())
    })
    .await;
    let users: Vec<String> = lab.kubelet.command("redis-0", &["ACL", "USERS"]).unwrap();
    assert_eq!(users, ["default"]);
    lab.operator = Operator::start(lab.plane, &lab.user, lab.namespace, "next");
    for pod in PODS {
        until("it has the users", PATIENCE, async || {
            let users: Vec<String> = lab.kubelet.command(pod, &["ACL", "USERS"]).unwrap_or_default();
            (users == ["default", OPERATOR_USER, AGENT_USER, REPLICA_USER]).then_some(())
        })
        .await;
    }
    wait_for(&lab.sets, "redis", "Ready=True Verified").await;
    wait_for(&lab.sets, "redis", "CredentialsCurrent=True AsInSecrets").await;
    let before = processes(&lab);
    for pod in PODS {
        let clients: String = lab.kubelet.command(pod, &["CLIENT", "LIST"]).unwrap();
        assert!(
            clients.lines().any(|client| client.contains(&format!(" user={OPERATOR_USER} "))),
            "{clients}"
        );
    }
    // One that restarts in place knows the application's password alone again.
    lab.kubelet.kill_redis("redis-2");
    wait_for(&lab.sets, "redis", "Replicated=True AllInSync").await;
    until("it has the users", PATIENCE, async || {
        let users: Vec<String> = lab.kubelet.command("redis-2", &["ACL", "USERS"]).unwrap_or_default();
        (users.len() == 4).then_some(())
    })
    .await;
    assert_eq!(processes(&lab)[..2], before[..2]);
    let mounted = async || {
        let set = sets.get("redis").await.unwrap().spec.unwrap().template.spec.unwrap();
        set.volumes.unwrap().into_iter().filter_map(|v| v.secret?.secret_name).collect::<Vec<String>>()
    };
    assert_eq!(mounted().await, ["redis-auth"]);
    let generation = lab.generation("redis").await;
    apply(&lab.sets, "redis", json!({"podLabels": {"a": "b"}})).await;
    lab.ready("redis", generation).await;
    assert_eq!(mounted().await, ["redis-internal"]);
    lab.assert_keys(3, 10, "a").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_secret_of_the_spec_is_used_waited_for_and_can_be_done_without() {
    let lab = Lab::new("named").await;
    apply(&lab.sets, "redis", json!({"auth": {"secretName": "mine", "grace": 0}})).await;
    // Nobody can log in but the operator, and everything else goes on.
    wait_for(&lab.sets, "redis", "Degraded=True SecretMissing").await;
    wait_for(&lab.sets, "redis", "Replicated=True AllInSync").await;
    assert!(lab.api::<Secret>().get_opt("redis-auth").await.unwrap().is_none());
    assert!(PODS.iter().all(|pod| !takes(&lab, pod, "default", "") && !takes(&lab, pod, "default", "a")));
    let mine = json!({"metadata": {"name": "mine"}, "stringData": {"password": "a"}});
    lab.api::<Secret>().create(&PostParams::default(), &serde_json::from_value(mine).unwrap()).await.unwrap();
    look_again(&lab, "there").await;
    wait_for(&lab.sets, "redis", "CredentialsCurrent=True AsInSecrets").await;
    wait_for(&lab.sets, "redis", "Ready=True Verified").await;
    assert!(PODS.iter().all(|pod| takes(&lab, pod, "default", "a")));
    let open = Patch::Merge(json!({"spec": {"auth": {"secretName": null, "disabled": true}}}));
    lab.sets.patch("redis", &PatchParams::default(), &open).await.unwrap();
    wait_for(&lab.sets, "redis", "CredentialsCurrent=True AuthDisabled").await;
    assert!(PODS.iter().all(|pod| takes(&lab, pod, "default", "whatever")));
    let closed = Patch::Merge(json!({"spec": {"auth": {"secretName": "mine", "disabled": null}}}));
    lab.sets.patch("redis", &PatchParams::default(), &closed).await.unwrap();
    wait_for(&lab.sets, "redis", "CredentialsCurrent=True AsInSecrets").await;
    assert!(
        PODS.iter().all(|pod| takes(&lab, pod, "default", "a") && !takes(&lab, pod, "default", "whatever"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn users_that_somebody_changes_are_set_back() {
    let lab = Lab::new("user-drift").await;
    lab.up("redis", json!({})).await;
    wait_for(&lab.sets, "redis", "CredentialsCurrent=True AsInSecrets").await;
    let () = lab.kubelet.command("redis-1", &["CONFIG", "SET", "requirepass", "by hand"]).unwrap();
    let () = lab.kubelet.command("redis-2", &["ACL", "SETUSER", REPLICA_USER, "-psync"]).unwrap();
    look_again(&lab, "drift").await;
    until("both are set back", PATIENCE, async || {
        let is_back =
            takes(&lab, "redis-1", "default", PASSWORD) && !takes(&lab, "redis-1", "default", "by hand");
        let rules: Vec<String> = lab.kubelet.command("redis-2", &["ACL", "LIST"]).unwrap_or_default();
        (is_back && rules.iter().any(|rule| rule.contains(REPLICA_USER) && rule.contains("+psync")))
            .then_some(())
    })
    .await;
    let events = async || {
        let events = lab.api::<Event>().list(&ListParams::default()).await.unwrap();
        let drift = events.items.into_iter().filter(|event| event.reason.as_deref() == Some("UserDrift"));
        drift.filter_map(|event| event.note).collect::<Vec<String>>()
    };
    until("an Event for each", PATIENCE, async || (events().await.len() >= 2).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_is_there_is_used_and_never_written() {
    let lab = Lab::new("secret").await;
    let secrets = lab.api::<Secret>();
    let own = json!({"metadata": {"name": "redis-auth", "labels": {"mine": "yes"}}, "stringData": {"password": PASSWORD}});
    let own = secrets.create(&PostParams::default(), &serde_json::from_value(own).unwrap()).await.unwrap();
    lab.up("redis", json!({"replicas": 2})).await;
    let untouched = secrets.get("redis-auth").await.unwrap();
    assert_eq!(untouched.resource_version(), own.resource_version());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_secret_is_made_with_a_random_password() {
    let lab = Lab::new("random").await;
    apply(&lab.sets, "other", json!({"replicas": 2, "storage": {"ephemeral": {}}})).await;
    let secrets = lab.api::<Secret>();
    let made = until("a Secret", PATIENCE, async || secrets.get_opt("other-auth").await.unwrap()).await;
    let random = String::from_utf8(made.data.clone().unwrap()["password"].0.clone()).unwrap();
    let hexadecimal = random.chars().all(|c| c.is_ascii_hexdigit());
    assert!(random.len() >= 32 && hexadecimal, "{} characters", random.len());
    assert_eq!(made.owner_references().len(), 1);
    assert!(!lab.operator.log().contains(&random), "the log holds the password");
}

/// The servers still take its value, and the operator goes on with that, and says what is missing.
#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_vanishes_is_told() {
    let lab = Lab::new("vanishes").await;
    lab.up("redis", json!({"replicas": 2})).await;
    let secrets = lab.api::<Secret>();
    secrets.delete("redis-auth", &DeleteParams::default()).await.unwrap();
    let patch = json!({"metadata": {"labels": {"look": "again"}}});
    lab.sets.patch("redis", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    wait_for(&lab.sets, "redis", "Ready=False SecretMissing").await;
    wait_for(&lab.sets, "redis", "Available=True PrimaryServes").await;
    let events = async || {
        let events = lab.api::<Event>().list(&ListParams::default()).await.unwrap();
        events.items.into_iter().filter_map(|event| event.reason).collect::<BTreeSet<String>>()
    };
    until("an Event", PATIENCE, async || events().await.contains("SecretMissing").then_some(())).await;
    let back = json!({"metadata": {"name": "redis-auth"}, "stringData": {"password": PASSWORD}});
    secrets.create(&PostParams::default(), &serde_json::from_value(back).unwrap()).await.unwrap();
    wait_for(&lab.sets, "redis", "Ready=True Verified").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn users_of_the_spec_come_change_and_go_while_redis_runs() {
    let lab = Lab::new("acl-users").await;
    let secret = |name: &str, password: &str| {
        serde_json::from_value(json!({"metadata": {"name": name}, "stringData": {"password": password}}))
            .unwrap()
    };
    let secrets = lab.api::<Secret>();
    secrets.create(&PostParams::default(), &secret("reports", "r")).await.unwrap();
    lab.up("redis", json!({"auth": {"grace": 0}})).await;
    lab.write(0..3, "a", 2).await;
    let before = processes(&lab);
    let patch = async |users: Value| {
        let spec = Patch::Merge(json!({"spec": {"users": users}}));
        lab.sets.patch("redis", &PatchParams::default(), &spec).await.unwrap();
    };
    let can = |pod: &str, password: &str, command: &[&str]| -> Result<String, String> {
        let mut connection = lab.kubelet.connection(pod, "reports", password).map_err(|e| e.to_string())?;
        let told = redis::cmd(command[0]).arg(&command[1..]).query(&mut connection);
        told.map_err(|error: redis::RedisError| error.code().unwrap_or_default().to_owned())
    };
    let reads = json!({"name": "reports", "secretName": "reports", "rules": ["+@read", "~key-*"]});
    patch(json!([reads])).await;
    wait_for(&lab.sets, "redis", "CredentialsCurrent=True AsInSecrets").await;
    until("the user is there", PATIENCE, async || {
        PODS.iter().all(|pod| can(pod, "r", &["GET", "key-1"]) == Ok("a".to_owned())).then_some(())
    })
    .await;
    assert_eq!(can("redis-0", "r", &["SET", "key-1", "b"]), Err("NOPERM".to_owned()));
    assert_eq!(can("redis-0", "r", &["GET", "last"]), Err("NOPERM".to_owned()));
    // What servers start with has it too.
    let line = async || {
        let data = secrets.get("redis-internal").await.unwrap().data.unwrap();
        String::from_utf8(data["users.acl"].0.clone()).unwrap()
    };
    until("the Secret has it", PATIENCE, async || line().await.contains("user reports").then_some(())).await;

    // A rule that Redis refuses names itself, and nothing else changes; nor can a password be among them.
    patch(json!([{"name": "reports", "secretName": "reports", "rules": ["+@read", "~key-*", "+nosuchcommand"]}])).await;
    wait_for(&lab.sets, "redis", "CredentialsCurrent=False UserRefused").await;
    assert!(lab.message("CredentialsCurrent").await.contains("nosuchcommand"));
    wait_for(&lab.sets, "redis", "Ready=True Verified").await;
    assert_eq!(can("redis-1", "r", &["GET", "key-1"]), Ok("a".to_owned()));
    assert!(!line().await.contains("nosuchcommand"));
    let refused =
        Patch::Merge(json!({"spec": {"users": [{"name": "x", "secretName": "reports", "rules": [">p"]}]}}));
    assert!(lab.sets.patch("redis", &PatchParams::default(), &refused).await.is_err());
    let refused =
        Patch::Merge(json!({"spec": {"users": [{"name": "redis-operator", "secretName": "reports"}]}}));
    assert!(lab.sets.patch("redis", &PatchParams::default(), &refused).await.is_err());

    // Limited, with default limited as well; a changed password; then off; then gone.
    patch(json!([reads, {"name": "default", "rules": ["+@all", "-randomkey", "~*", "&*"]}])).await;
    until("default is limited", PATIENCE, async || {
        let told = lab.kubelet.command::<()>("redis-0", &["RANDOMKEY"]);
        told.is_err_and(|error: redis::RedisError| error.code() == Some("NOPERM")).then_some(())
    })
    .await;
    change(&lab, "reports", json!({"password": "s"})).await;
    look_again(&lab, "changed").await;
    until("the new password alone is taken", PATIENCE, async || {
        PODS.iter()
            .all(|pod| takes(&lab, pod, "reports", "s") && !takes(&lab, pod, "reports", "r"))
            .then_some(())
    })
    .await;
    patch(json!([{"name": "reports", "secretName": "reports", "rules": ["+@read", "~key-*"], "off": true}]))
        .await;
    until("nobody is let in", PATIENCE, async || {
        PODS.iter().all(|pod| !takes(&lab, pod, "reports", "s")).then_some(())
    })
    .await;
    patch(json!([])).await;
    until("the user is gone", PATIENCE, async || {
        let users =
            |pod: &&str| lab.kubelet.command::<Vec<String>>(pod, &["ACL", "USERS"]).unwrap_or_default();
        PODS.iter().all(|pod| users(pod).len() == 4).then_some(())
    })
    .await;
    wait_for(&lab.sets, "redis", "CredentialsCurrent=True AsInSecrets").await;
    lab.assert_keys(3, 3, "a").await;
    assert_eq!(processes(&lab), before, "no restart and no full copy");
}
