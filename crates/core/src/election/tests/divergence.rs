//! What a server loses by following the primary.

use super::*;
use crate::election::divergence::{Divergence, divergences};

/// redis-1 took over from redis-0 at offset 100; redis-0 is back, parked, at this offset of the old history.
fn back_at(offset: i64, change_it: impl FnOnce(&mut Answer)) -> (Record, Snapshot) {
    let mut successor = server("redis-1", NEW, 400, 5);
    successor.info.replication.replid2 = OLD.into();
    successor.info.replication.second_repl_offset = 101;
    let mut former = parked(server("redis-0", OLD, offset, 5));
    change_it(&mut former);
    let replica = following(server("redis-2", NEW, 400, 5), &host("redis-1"), 6379, true);
    let record = Record { epoch: 2, primary: Some("redis-1".into()), ..record() };
    let look = look(
        &record,
        vec![("redis-0", Some(former)), ("redis-1", Some(successor)), ("redis-2", Some(replica))],
    );
    (record, look)
}

fn found((record, look): &(Record, Snapshot)) -> Vec<Divergence> {
    divergences(record, look, &["redis-0".to_owned(), "redis-2".to_owned()])
}

#[test]
fn what_only_a_former_primary_has_is_counted() {
    let lost = Divergence {
        pod: "redis-0".into(),
        run_id: "run-redis-0".into(),
        replid: OLD.into(),
        bytes: 320,
        epoch: 2,
    };
    assert_eq!(found(&back_at(420, |_| {})), std::slice::from_ref(&lost));
    assert_eq!(found(&back_at(100, |_| {})), [], "the primary has all of it");

    // Two elections later the primary knows its last two histories only; the record knows more.
    let (record, mut look) = back_at(420, |_| {});
    change_in(&mut look, "redis-1", |a| a.info.replication.replid2 = "between".into());
    assert_eq!(divergences(&record, &look, &["redis-0".to_owned()]), [], "not comparable");
    let closed = Record { closed: BTreeMap::from([(OLD.to_owned(), 100)]), ..record };
    assert_eq!(divergences(&closed, &look, &["redis-0".to_owned()]), [lost]);
}

#[test]
fn nothing_is_claimed_of_what_cannot_be_compared() {
    assert_eq!(found(&back_at(420, |a| a.info.replication.replid = "fresh".into())), [], "append-only files");
    assert_eq!(found(&back_at(420, |a| a.info.keys = Some(0))), [], "it is empty");
    // Both of one history move on while they are asked.
    assert_eq!(found(&back_at(420, |a| a.info.replication.replid = NEW.into())), []);
}

fn change_in(look: &mut Snapshot, pod: &str, change: impl FnOnce(&mut Answer)) {
    let observed = look.observed.pods.iter_mut().find(|p| p.name == pod).unwrap();
    change(observed.answer.as_mut().unwrap());
}
