//! Many sets at rest: what the operator asks for, and what memory each of them takes.

use std::pin::pin;

use futures::{StreamExt, future::join_all};
use kube::api::{WatchEvent, WatchParams};

use super::*;

/// How many sets, and for how long they are looked at, at rest. What three ask for, `requests.rs` and the benchmark show for longer.
const RESTS: [(usize, Duration); 2] = [(3, Duration::from_secs(120)), (30, Duration::from_secs(600))];

/// Requests about sets in a namespace, but for watches and the Lease: how many there were of each.
fn requests_by_kind(lab: &Lab) -> std::collections::BTreeMap<String, usize> {
    let mut found = std::collections::BTreeMap::new();
    for (verb, resource, _) in requests(lab.plane, &lab.user) {
        if verb != "watch" && !resource.ends_with("/leases") {
            *found.entry(format!("{verb} {resource}")).or_default() += 1;
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes twenty minutes: cargo test --test operator many -- --ignored --nocapture"]
async fn sets_at_rest_cost_no_request_and_little_memory() {
    let lab = Lab::new("many").await;
    let mut memory = Vec::new();
    let mut made = 0;
    for (count, rest) in RESTS {
        for number in made..count {
            lab.up(&format!("set-{number}"), json!({"replicas": 3, "storage": {"ephemeral": {}}})).await;
        }
        made = count;
        // Votes and budgets are written soon after Ready.
        tokio::time::sleep(Duration::from_secs(90)).await;
        let before = requests_by_kind(&lab);
        tokio::time::sleep(rest).await;
        let mut asked = requests_by_kind(&lab);
        for (kind, count) in before {
            asked.entry(kind).and_modify(|now| *now -= count);
        }
        asked.retain(|_, count| *count > 0);
        memory.push((count, lab.operator.memory()));
        println!("{count} sets at rest for {rest:?}: {asked:?}; {} kB resident", lab.operator.memory());
        // By name, since the operator may watch none: once a minute and set. The API server closes a watch now and then.
        let secrets = asked.remove("get /secrets").unwrap_or_default();
        assert!(secrets <= count * 12, "{secrets} reads of Secrets");
        // `lastProbeTime`, once in ten minutes.
        let status = asked.remove("patch replication.redis/redisreplicasets/status").unwrap_or_default();
        assert!(status <= 2 * count, "{status} writes of the status");
        let presence = asked.remove("get replication.redis/redisreplicasets").unwrap_or_default();
        assert!(presence <= 2 * count, "{presence} reads of sets");
        assert!(asked.is_empty(), "{asked:?}");
    }
    let [(few, less), (many, more)] = memory[..] else { panic!("two measurements") };
    let slope = more.saturating_sub(less) / u64::try_from(many - few).unwrap();
    println!("{slope} kB a set of three, from {few} to {many} sets");
}

/// What a set of one server may take, in kB. The memory limit of the chart follows from it (`charts/redis-operator/README.md`).
const MOST_A_SET: u64 = 120;

/// What a set of three may take.
const MOST_A_SET_OF_THREE: u64 = 200;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "300 servers, ten minutes: cargo test --test operator each_set_takes_little_memory -- --ignored --nocapture"]
async fn each_set_takes_little_memory() {
    let slope = memory_of_each(Lab::new("memory-one").await, 1, [100, 300]).await;
    assert!(slope <= MOST_A_SET, "{slope} kB a set");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "300 servers, ten minutes: cargo test --test operator each_set_of_three_takes_little_memory -- --ignored --nocapture"]
async fn each_set_of_three_takes_little_memory() {
    let slope = memory_of_each(Lab::new("memory-three").await, 3, [34, 100]).await;
    assert!(slope <= MOST_A_SET_OF_THREE, "{slope} kB a set");
}

/// From the end of a primary's process until the status no longer calls the set available, in ten sets of so many.
async fn tell_of_deaths(lab: &Lab, count: usize) {
    let mut times = Vec::new();
    for number in 0..10 {
        let name = format!("set-{number}");
        let primary = lab.sets.get(&name).await.unwrap().status.unwrap().primary.unwrap().pod;
        let watch = WatchParams::default().fields(&format!("metadata.name={name}"));
        let mut changes = pin!(lab.sets.watch(&watch, "").await.unwrap());
        let begun = Instant::now();
        lab.kubelet.kill_redis(&primary);
        let says_so = async {
            while let Some(change) = changes.next().await {
                let WatchEvent::Modified(set) = change.unwrap() else { continue };
                let conditions = set.status.unwrap().conditions;
                if conditions.iter().any(|c| c.type_ == "Available" && c.status != "True") {
                    return;
                }
            }
            panic!("the watch ended");
        };
        tokio::time::timeout(PATIENCE, says_so).await.expect("the status tells of it");
        times.push(begun.elapsed());
    }
    times.sort();
    println!(
        "a process dies in one of {count} sets -> status says so: p50 {:.3?}, max {:.3?}",
        times[5], times[9]
    );
}

/// By how much the operator grows with each set of this size, in kB, from one number of sets to another. With fewer, the allocator's
/// noise is greater than what they take.
///
/// Then another operator starts over all of them: it lists all that there is at once.
async fn memory_of_each(mut lab: Lab, replicas: i32, counts: [usize; 2]) -> u64 {
    let mut memory = Vec::new();
    let mut made = 0;
    for count in counts {
        let names: Vec<String> = (made..count).map(|number| format!("set-{number}")).collect();
        let spec = || json!({"replicas": replicas, "storage": {"ephemeral": {}}});
        for some in names.chunks(10) {
            join_all(some.iter().map(|name| lab.up(name, spec()))).await;
        }
        made = count;
        // Votes and budgets are written soon after Ready.
        tokio::time::sleep(Duration::from_secs(90)).await;
        memory.push(lab.operator.memory());
        let peak = lab.operator.peak_memory();
        println!("{count} sets of {replicas}: {} kB resident, {peak} kB at most", lab.operator.memory());
    }
    tell_of_deaths(&lab, counts[1]).await;
    let [less, more] = memory[..] else { panic!("two measurements") };
    let slope = more.saturating_sub(less) / u64::try_from(counts[1] - counts[0]).unwrap();
    println!("{slope} kB a set of {replicas}, from {} to {} sets", counts[0], counts[1]);
    lab.operator.kill();
    lab.operator =
        Operator::start_asking(lab.plane, &lab.user, lab.namespace, "another", &lab.kubelet.hosts());
    until("another leads", Duration::from_secs(60), async || lab.operator.leads().then_some(())).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let (now, peak) = (lab.operator.memory(), lab.operator.peak_memory());
    println!("another operator, a minute after its start over them: {now} kB resident, {peak} kB at most");
    slope
}
