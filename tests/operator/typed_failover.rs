//! A person types `FAILOVER` on the primary: the operator goes on with who took over.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use super::*;

/// A client that comes through the Service: it writes one key after the other to the pod that is labelled as the primary, and
/// notes those that were taken.
struct Visitor {
    stop: Arc<AtomicBool>,
    leads_to: Arc<std::sync::Mutex<String>>,
    thread: std::thread::JoinHandle<(Vec<u32>, Duration)>,
}

impl Visitor {
    fn begin(lab: &Arc<Lab>, primary: &str) -> Self {
        let (stop, leads_to) =
            (Arc::new(AtomicBool::new(false)), Arc::new(std::sync::Mutex::new(primary.to_owned())));
        let (stopped, pod, lab) = (Arc::clone(&stop), Arc::clone(&leads_to), Arc::clone(lab));
        let thread = std::thread::spawn(move || {
            let (mut taken, mut longest, mut last) = (Vec::new(), Duration::ZERO, Instant::now());
            let mut held: Option<(String, redis::Connection)> = None;
            for key in 0.. {
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                let wanted = pod.lock().unwrap().clone();
                if held.as_ref().is_none_or(|(to, _)| *to != wanted) {
                    held = lab.kubelet.client(&wanted).ok().map(|client| (wanted, client));
                }
                let written = held
                    .as_mut()
                    .map(|(_, client)| redis::cmd("SET").arg(format!("through-{key}")).arg(key).exec(client));
                match written {
                    Some(Ok(())) => {
                        taken.push(key);
                        longest = longest.max(last.elapsed());
                        last = Instant::now();
                    }
                    Some(Err(error)) if error.is_connection_dropped() || error.is_timeout() => held = None,
                    _ => {}
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            (taken, longest.max(last.elapsed()))
        });
        Self { stop, leads_to, thread }
    }

    fn lead_to(&self, pod: &str) {
        pod.clone_into(&mut self.leads_to.lock().unwrap());
    }

    /// The keys that were taken, and the longest time between two.
    fn end(self) -> (Vec<u32>, Duration) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

async fn typed(namespace: &'static str, mode: &str, words: &[&str]) {
    let lab = Arc::new(Lab::new(namespace).await);
    let spec = json!({"replicas": 3, "storage": {"ephemeral": {}}, "failover": {"mode": mode}});
    lab.up("redis", spec).await;
    let pods = lab.api::<Pod>();
    until("votes", PATIENCE, async || lab.has_votes().await.then_some(())).await;
    lab.write(0..20, "before", 2).await;
    let epoch = lab.epoch("redis").await;

    let client = Visitor::begin(&lab, "redis-0");
    let () = lab.kubelet.command("redis-0", words).unwrap();
    let typed = Instant::now();
    let led_to = until("the Service leads to who took over", PATIENCE, async || {
        let labelled = by_role(&pods, "primary").await;
        labelled.into_iter().find(|pod| pod != "redis-0")
    })
    .await;
    client.lead_to(&led_to);
    println!("{namespace}: {words:?}: the label moved after {:.1?}", typed.elapsed());
    // The status is written at the end of the reconcile.
    until("the status says so", PATIENCE, async || {
        (lab.primary().await == (epoch + 1, led_to.clone())).then_some(())
    })
    .await;
    wait_for(&lab.sets, "redis", "Ready=True Verified").await;
    until("votes", PATIENCE, async || lab.has_votes().await.then_some(())).await;
    let (taken, longest) = client.end();
    // Armed again, for this process.
    if mode == "Quorum" {
        let record = async || serde_json::from_str::<Value>(&lab.record().await["record.json"]).unwrap();
        until("it is armed", PATIENCE, async || (!record().await["armed"].is_null()).then_some(())).await;
        let record = record().await;
        assert_eq!(record["armed"]["runId"], record["seenServing"]["runId"], "{record}");
        assert_eq!(record["followers"].as_array().map(Vec::len), Some(2), "{record}");
    }
    println!("{namespace}: {} writes were taken; longest time between two {longest:.1?}", taken.len());
    assert!(longest < Duration::from_secs(10), "{longest:?}");
    lab.write(0..20, "before", 2).await;
    for key in taken {
        for pod in 0..3 {
            assert_eq!(lab.value(pod, &format!("through-{key}")), key.to_string(), "redis-{pod} {key}");
        }
    }
    let events = lab.api::<Event>().list(&ListParams::default()).await.unwrap();
    let note = events.into_iter().find(|event| event.reason.as_deref() == Some("FailoverAdopted"));
    let note = note.and_then(|event| event.note).unwrap();
    assert!(note.starts_with(&format!("{led_to} had taken over from redis-0")), "{note}");
    assert_nothing_was_forbidden(lab.plane, &lab.user);
}

/// Regression: the operator said `UnexpectedPrimary` for ever, while the Service led to the former primary, which refused writes.
#[tokio::test(flavor = "multi_thread")]
async fn a_typed_failover_is_adopted() {
    typed("typed-failover", "Quorum", &["FAILOVER"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_typed_failover_to_a_replica_is_adopted_in_mode_fenced() {
    let host = "redis-2.redis-headless.typed-failover-to.svc.cluster.local";
    typed("typed-failover-to", "Fenced", &["FAILOVER", "TO", host, "6379"]).await;
}
