//! Many sets at rest: what the operator asks for, and what memory each of them takes.

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
