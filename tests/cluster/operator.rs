//! The operator's own restart changes nothing that is true.

use std::time::Instant;

use crate::{
    support::{OPERATOR_NAMESPACE, Says, is_ready, kubectl_in, list, text},
    truth::{ASTRAY_WITHIN, ephemeral, fresh, heals, says, seconds},
};

#[test]
fn an_operator_that_restarts_withdraws_nothing_true() {
    let (_namespace, set) = fresh("operator-restarts", &ephemeral());
    let watch = set.begun_watch();
    let leader = || {
        let leases = list(OPERATOR_NAMESPACE, &["leases"]);
        leases.iter().map(|lease| text(lease, "/spec/holderIdentity")).find(|id| !id.is_empty())
    };
    let first = leader().unwrap();
    kubectl_in(OPERATOR_NAMESPACE, &["delete", "pod", &first]);
    let began = Instant::now();
    set.until("another operator leads", || leader().filter(|id| *id != first));
    println!("another operator leads: {:.1} s", seconds(began.elapsed()));
    for event in watch.seen() {
        assert!(is_ready(&event.object), "{:?}", event.object.status.unwrap().why("Ready"));
    }
    // It works: a fault is seen.
    let uid = set.pod_field("redis-2", "/metadata/uid");
    let began = Instant::now();
    kubectl_in(&set.namespace, &["delete", "pod", "redis-2", "--wait=false"]);
    says(&set, &watch, "a deleted replica", began, ASTRAY_WITHIN, |status| !status.is("Ready", "True"));
    heals(&set, began);
    assert_ne!(set.pod_field("redis-2", "/metadata/uid"), uid);
}
