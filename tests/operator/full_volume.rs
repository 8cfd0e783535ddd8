//! A primary that cannot save refuses writes (`MISCONF`): another one takes over.

use std::path::PathBuf;

use super::*;

/// From the write that is refused until another server takes writes.
const HANDED_OVER_WITHIN: Duration = Duration::from_secs(10);

/// Lets every save of this pod fail, as on a volume that is full: the file cannot come to stand where it should.
fn block_saves(lab: &Lab, pod: &str) -> PathBuf {
    let [_, dir]: [String; 2] = lab.kubelet.command(pod, &["CONFIG", "GET", "dir"]).unwrap();
    let file = PathBuf::from(dir).join("dump.rdb");
    let _ = fs::remove_file(&file);
    fs::create_dir_all(file.join("in-the-way")).unwrap();
    let () = lab.kubelet.command(pod, &["BGSAVE"]).unwrap();
    file
}

fn writes(lab: &Lab, pod: &str) -> Result<(), redis::RedisError> {
    lab.kubelet.command(pod, &["SET", "written", "now"])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_cannot_save_hands_over_and_comes_home_once_it_can() {
    let lab = Lab::new("full-volume").await;
    lab.up("redis", json!({"replicas": 3})).await;
    until("votes", PATIENCE, async || lab.has_votes().await.then_some(())).await;
    lab.write(0..20, "before", 2).await;
    let file = block_saves(&lab, "redis-0");
    let refused = until("writes are refused", PATIENCE, async || writes(&lab, "redis-0").err()).await;
    assert_eq!(refused.code(), Some("MISCONF"), "{refused}");

    let begun = Instant::now();
    until("another one takes writes", HANDED_OVER_WITHIN, async || {
        ["redis-1", "redis-2"].into_iter().find(|pod| writes(&lab, pod).is_ok())
    })
    .await;
    println!("writes were taken again {:.1?} after the first was refused", begun.elapsed());
    let (_, primary) = until("the status says who", PATIENCE, async || {
        let (epoch, primary) = lab.primary().await;
        (primary != "redis-0").then_some((epoch, primary))
    })
    .await;
    let pods = lab.api::<Pod>();
    until("the Service leads there", PATIENCE, async || {
        (by_role(&pods, "primary").await == [primary.clone()]).then_some(())
    })
    .await;
    wait_for(&lab.sets, "redis", "Ready=True Verified").await;
    lab.write(0..20, "before", 2).await;
    for key in 0..20 {
        for pod in 0..3 {
            assert_eq!(lab.value(pod, &format!("key-{key}")), "before", "redis-{pod} key-{key}");
        }
    }

    // Nobody goes back to where writes are refused, asked or not.
    let home = json!({"metadata": {"annotations": {"replication.redis/switchover-to": "redis-0"}}});
    lab.sets.patch("redis", &PatchParams::default(), &Patch::Merge(&home)).await.unwrap();
    wait_for(&lab.sets, "redis", "Progressing=True SwitchoverPending").await;
    let why = lab.message("Progressing").await;
    assert!(why.contains("would refuse writes"), "{why}");
    fs::remove_dir_all(&file).unwrap();
    let () = lab.kubelet.command("redis-0", &["BGSAVE"]).unwrap();
    until("it is home", PATIENCE, async || (lab.primary().await.1 == "redis-0").then_some(())).await;
    writes(&lab, "redis-0").unwrap();
    wait_for(&lab.sets, "redis", "Ready=True Verified").await;
    assert_nothing_was_forbidden(lab.plane, &lab.user);
}
