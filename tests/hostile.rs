//! One tenant's servers answer without end: as fast as they can, in as many elements as they can, or a byte a second. The operator
//! serves all others as before. A binary of its own: nothing else takes memory or time meanwhile.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a step that fails is the test's failure"
)]

use std::{
    io::{Read, Write},
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, api::PostParams};
use operator_core::api::RedisReplicaSet;
use rig::local::plane::{PATIENCE, assert_nothing_was_forbidden, controllers, plane, wait_for};
use rig::local::redis_server::listen;
use rig::local::sets::apply;
use rig::{
    local::kubelet::Kubelet,
    local::operator::{Operator, until},
};
use serde_json::json;

const PASSWORD: &str = "correct-horse-battery";

/// Begin and rest of a reply that never ends, and the pause between its pieces.
const REPLIES: [(&[u8], &[u8], Duration); 3] = [
    (b"$4000000000\r\n", &[b'x'; 8192], Duration::ZERO),
    (b"*4000000000\r\n", b"*4096\r\n_\r\n_\r\n", Duration::ZERO),
    (b"+", b"x", Duration::from_secs(1)),
];

/// Takes every connection, says OK to the password, and then sends one of these replies.
fn misbehaves(
    listener: TcpListener,
    sent: Arc<AtomicU64>,
    (begin, rest, pause): (&'static [u8], &'static [u8], Duration),
) {
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let sent = Arc::clone(&sent);
            std::thread::spawn(move || {
                let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
                let heard = stream.read(&mut [0; 1024]);
                let mut next = [b"+OK\r\n", begin].concat();
                while heard.is_ok() && stream.write_all(&next).is_ok() {
                    sent.fetch_add(next.len().try_into().unwrap(), Ordering::Relaxed);
                    next = rest.to_vec();
                    std::thread::sleep(pause);
                }
            });
        }
    });
}

/// From kill -9 of the primary until another epoch and Ready, three times; the median.
async fn until_mended(kubelet: &Kubelet, sets: &Api<RedisReplicaSet>) -> Duration {
    let mut times = Vec::new();
    for _ in 0..3 {
        let primary = sets.get("redis").await.unwrap().status.unwrap().primary.unwrap();
        // So that it may be done without the primary.
        tokio::time::sleep(Duration::from_secs(4)).await;
        kubelet.kill_redis(&primary.pod);
        let killed = Instant::now();
        until("another epoch, and Ready again", PATIENCE, async || {
            let status = sets.get("redis").await.unwrap().status.unwrap();
            let ready = status.conditions[0].status == "True";
            (ready && status.primary?.epoch > primary.epoch).then_some(())
        })
        .await;
        times.push(killed.elapsed());
    }
    times.sort();
    times[1]
}

/// Regression: a server of one tenant could take all memory of the operator, and with it everybody's.
#[tokio::test(flavor = "multi_thread")]
async fn servers_that_answer_without_end_cost_others_nothing() {
    const WATCHED: Duration = Duration::from_secs(15);
    // The second pod of a set comes when the first one is verified, so each has one.
    const EVIL: [&str; 3] = ["evil-a", "evil-b", "evil-c"];
    let (plane, client, user) = plane("hostile").await;
    controllers(plane);
    let sent = Arc::new(AtomicU64::new(0));
    let hostile: Vec<_> = REPLIES
        .into_iter()
        .map(|reply| {
            let (address, listener) = listen();
            misbehaves(listener, Arc::clone(&sent), reply);
            address
        })
        .collect();
    let front = move |pod: &str, address| {
        let number = EVIL.iter().position(|set| pod.strip_prefix(set) == Some("-0"));
        number.map_or(address, |number| hostile[number])
    };
    let operator = Operator::start(plane, &user, "hostile", "only");
    until("it leads", PATIENCE, async || operator.leads().then_some(())).await;
    let secrets = Api::<Secret>::namespaced(client.clone(), "hostile");
    for set in ["redis"].iter().chain(&EVIL) {
        let name = format!("{set}-auth");
        let secret = json!({"metadata": {"name": name}, "stringData": {"password": PASSWORD}});
        secrets.create(&PostParams::default(), &serde_json::from_value(secret).unwrap()).await.unwrap();
    }
    let kubelet = Kubelet::start_behind(client.clone(), "hostile", Box::new(front));
    let sets = Api::<RedisReplicaSet>::namespaced(client.clone(), "hostile");
    // Memory-only sets: no claim stands between a pod and its start.
    let spec = json!({"replicas": 3, "storage": {"ephemeral": {}}, "primary": {"failback": false}});
    apply(&sets, "redis", spec).await;
    wait_for(&sets, "redis", "Ready=True Verified").await;
    let mended_before = until_mended(&kubelet, &sets).await;
    let memory_before = operator.memory();

    for set in EVIL {
        apply(&sets, set, json!({"replicas": 1, "storage": {"ephemeral": {}}})).await;
    }
    for set in EVIL {
        until("its server is asked", PATIENCE, async || {
            let pods = sets.get(set).await.unwrap().status?.instances;
            (pods.len() == 1 && pods.iter().all(|pod| pod.message.is_some())).then_some(())
        })
        .await;
    }
    let begun = Instant::now();
    let mut most = 0;
    while begun.elapsed() < WATCHED {
        most = most.max(operator.memory());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let mended = until_mended(&kubelet, &sets).await;
    let megabytes = sent.load(Ordering::Relaxed) / 1_000_000;
    println!(
        "{megabytes} MB sent; memory {memory_before} kB before and {most} kB at most meanwhile; another set was mended \
         {mended_before:.2?} after kill -9 before, and {mended:.2?} meanwhile"
    );
    assert!(megabytes > 10, "they were hardly asked");
    assert!(most <= memory_before * 3 / 2, "{most} kB, and {memory_before} kB before");
    // A fifth more, and half a second between two looks.
    assert!(
        mended <= mended_before.mul_f64(1.2) + Duration::from_millis(500),
        "{mended:?}, {mended_before:?} before"
    );
    assert_nothing_was_forbidden(plane, &user);
}
