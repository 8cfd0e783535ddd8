//! A primary that stays silent is succeeded by its replicas, although nothing proves its end.

use redis_node::record::Record;

use super::*;

/// Bound of `docs/design/protocol.md`, rule 12: silence, the time in which a primary without replicas takes its last write, looks.
const SUCCEEDED_WITHIN: Duration = Duration::from_secs(20);

async fn record(lab: &Lab) -> Record {
    serde_json::from_str(&lab.record().await["record.json"]).unwrap()
}

async fn armed(lab: &Lab) {
    until("it is armed", PATIENCE, async || {
        let status = lab.sets.get("redis").await.unwrap().status.unwrap();
        (status.failover?.armed && record(lab).await.armed.is_some()).then_some(())
    })
    .await;
}

fn demanded(lab: &Lab, pod: &str) -> String {
    let [_, value]: [String; 2] =
        lab.kubelet.command(pod, &["CONFIG", "GET", "min-replicas-to-write"]).unwrap();
    value
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_primary_is_succeeded_and_follows_when_it_goes_on() {
    let lab = Lab::new("frozen").await;
    lab.up("redis", json!({"replicas": 3, "storage": {"ephemeral": {}}})).await;
    armed(&lab).await;
    assert_eq!(demanded(&lab, "redis-0"), "1");
    lab.write(0..20, "before", 2).await;

    lab.kubelet.freeze("redis-0");
    let frozen = Instant::now();
    until("a replica serves", SUCCEEDED_WITHIN, async || {
        let (epoch, _) = lab.primary().await;
        let available =
            conditions_of(&lab.sets, "redis").await.contains(&"Available=True PrimaryServes".to_owned());
        (epoch == 2 && available).then_some(())
    })
    .await;
    println!("a frozen primary was succeeded after {:.1?}", frozen.elapsed());
    let (_, primary) = lab.primary().await;
    assert_ne!(primary, "redis-0");
    let () = lab.kubelet.command(&primary, &["SET", "key-20", "before"]).unwrap();

    lab.kubelet.thaw("redis-0");
    lab.ready("redis", 0).await;
    lab.assert_keys(3, 21, "before").await;
    armed(&lab).await;
    assert_nothing_was_forbidden(lab.plane, &lab.user);
}
