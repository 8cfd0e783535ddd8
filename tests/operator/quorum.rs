//! A primary that stays silent is succeeded by its replicas, although nothing proves its end.

use redis_node::record::Record;

use redis_node::login::OPERATOR_USER;

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

/// Writes to a pod every few milliseconds until it is told to stop; returns the longest time between two that were taken.
struct Writer {
    stop: std::sync::Arc<std::sync::atomic::AtomicBool>,
    thread: std::thread::JoinHandle<Duration>,
}

impl Writer {
    fn begin(lab: &Lab, pod: &str) -> Self {
        let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let stopped = std::sync::Arc::clone(&stop);
        let mut client = lab.kubelet.client(pod).unwrap();
        let thread = std::thread::spawn(move || {
            let (mut longest, mut last) = (Duration::ZERO, Instant::now());
            while !stopped.load(std::sync::atomic::Ordering::Relaxed) {
                if redis::cmd("INCR").arg("count").exec(&mut client).is_ok() {
                    longest = longest.max(last.elapsed());
                    last = Instant::now();
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            longest.max(last.elapsed())
        });
        Self { stop, thread }
    }

    fn end(self) -> Duration {
        self.stop.store(true, std::sync::atomic::Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

/// A lost replica stops no writes, and neither do two for longer than the operator needs to see it.
#[tokio::test(flavor = "multi_thread")]
async fn the_demand_follows_what_is_alive() {
    let lab = Lab::new("demand").await;
    lab.up("redis", json!({"replicas": 3, "storage": {"ephemeral": {}}})).await;
    armed(&lab).await;
    let before = record(&lab).await;

    let writer = Writer::begin(&lab, "redis-0");
    lab.kubelet.kill_redis("redis-1");
    until("a replica that restarted is another follower", PATIENCE, async || {
        let now = record(&lab).await;
        (now.followers != before.followers).then_some(())
    })
    .await;
    armed(&lab).await;
    assert_eq!(demanded(&lab, "redis-0"), "1");
    let longest = writer.end();
    println!("one replica killed: longest time between two writes {longest:.1?}");
    assert!(longest < Duration::from_secs(1), "{longest:?}");

    let writer = Writer::begin(&lab, "redis-0");
    for pod in ["redis-1", "redis-2"] {
        lab.kubelet.freeze(pod);
    }
    until("the demand is taken back", PATIENCE, async || (demanded(&lab, "redis-0") == "0").then_some(()))
        .await;
    assert!(record(&lab).await.armed.is_none(), "the record first");
    until("the status says why", PATIENCE, async || {
        let failover = lab.sets.get("redis").await.unwrap().status.unwrap().failover.unwrap();
        (!failover.armed && failover.message.is_some()).then_some(())
    })
    .await;
    tokio::time::sleep(Duration::from_secs(8)).await;
    let longest = writer.end();
    println!("both replicas frozen: longest time between two writes {longest:.1?}");
    assert!(longest < Duration::from_secs(3), "{longest:?}");
    for pod in ["redis-1", "redis-2"] {
        lab.kubelet.thaw(pod);
    }
    armed(&lab).await;

    // A person's own value is set back at the next look.
    let () = lab.kubelet.command("redis-0", &["CONFIG", "SET", "min-replicas-to-write", "2"]).unwrap();
    let look = Patch::Merge(json!({"metadata": {"annotations": {"example.com/look": "now"}}}));
    lab.sets.patch("redis", &PatchParams::default(), &look).await.unwrap();
    until("it is set back", PATIENCE, async || (demanded(&lab, "redis-0") == "1").then_some(())).await;

    // Another mode takes the demand back, and has the pods made again.
    lab.up("redis", json!({"replicas": 3, "storage": {"ephemeral": {}}, "failover": {"mode": "Fenced"}}))
        .await;
    wait_for(&lab.sets, "redis", "Progressing=False UpToDate").await;
    let now = record(&lab).await;
    assert_eq!((now.followers, now.armed), (None, None));
    assert_eq!(demanded(&lab, "redis-0"), "0");
}

/// A replica that is gone for good, as where its node is in maintenance, costs no election: not that of a primary that is killed, and
/// not the next one.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_was_drained_is_not_waited_for() {
    let lab = Lab::new("drained-for-good").await;
    lab.up("redis", json!({"replicas": 3, "storage": {"ephemeral": {}}})).await;
    armed(&lab).await;
    lab.write(0..20, "before", 2).await;
    lab.refuse_pods().await;
    lab.api::<Pod>().delete("redis-2", &DeleteParams::default()).await.unwrap();
    for kill in 1..=2 {
        until("one replica follows, and would take over", PATIENCE, async || {
            let record = record(&lab).await;
            let followers = record.followers?.len();
            (followers == 1 && record.armed.is_some()).then_some(())
        })
        .await;
        let (epoch, primary) = lab.primary().await;
        lab.kubelet.kill_redis(&primary);
        let killed = Instant::now();
        until("another serves", Duration::from_secs(10), async || {
            let (now, _) = lab.primary().await;
            let available =
                conditions_of(&lab.sets, "redis").await.contains(&"Available=True PrimaryServes".to_owned());
            (now > epoch && available).then_some(())
        })
        .await;
        println!("kill {kill}: another serves after {:.1?}", killed.elapsed());
    }
}

/// Regression: a person took `CONFIG SET` from the operator's user on the primary, and from then on no replica was told whom to follow.
#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_refuses_the_demand_keeps_its_replicas() {
    let lab = Lab::new("refused-demand").await;
    lab.up("redis", json!({"replicas": 3, "storage": {"ephemeral": {}}})).await;
    armed(&lab).await;
    lab.write(0..20, "before", 2).await;
    let () = lab
        .kubelet
        .command("redis-0", &["ACL", "SETUSER", OPERATOR_USER, "-config|set", "-acl|setuser"])
        .unwrap();
    lab.kubelet.kill_redis("redis-1");
    until("the status says what is refused", PATIENCE, async || {
        let message = lab.message("Degraded").await;
        (message.contains("min-replicas-to-write") && message.contains("redis-0")).then_some(())
    })
    .await;
    // It starts parked, and follows once it is told to.
    lab.write(0..20, "after", 2).await;
    assert!(record(&lab).await.armed.is_none());
    let () = lab
        .kubelet
        .command("redis-0", &["ACL", "SETUSER", OPERATOR_USER, "+config|set", "+acl|setuser"])
        .unwrap();
    armed(&lab).await;
    assert_eq!(lab.primary().await, (1, "redis-0".to_owned()));
}
