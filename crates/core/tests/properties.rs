//! What must hold for every input, not only for those that somebody thought of.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a step that fails is the test's failure")]

use std::{fmt::Write, time::Duration};

use operator_core::fixtures::{self, answer, pod, record};
use operator_core::{
    api::status::InstanceState,
    observed::{NoAnswer, Observed, ObservedPod},
    topology::{MAX_ACK_LAG_SECONDS, MAX_LINK_SILENCE_SECONDS, topology},
};
use proptest::{collection::vec, prelude::*, sample::select};
use redis_node::{
    PARKED,
    answer::{Answer, ProbeFailure},
    files::REDIS_PORT,
    info::{self, Aof, ConnectedReplica, Flavour, Info, Persistence, Replication, Server, Upstream},
    record::Record,
};

/// Pods of a made-up set.
const PODS: i32 = 4;

fn host_of(pod: &str) -> String {
    format!("{pod}.redis-headless.default.svc.cluster.local")
}

fn number(flag: bool) -> i32 {
    i32::from(flag)
}

/// INFO as a Redis prints it, with lines and sections that the operator does not know.
fn render(info: &Info) -> String {
    let Info { server, replication, persistence, clients: _, keys } = info;
    let mut text = String::from("# Server\r\n");
    match server.flavour {
        Flavour::Redis => writeln!(text, "redis_version:{}\r", server.version).unwrap(),
        Flavour::Valkey => {
            writeln!(
                text,
                "redis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:{}\r",
                server.version
            )
            .unwrap();
        }
    }
    writeln!(text, "run_id:{}\r\nuptime_in_seconds:{}\r", server.run_id, server.uptime_seconds).unwrap();
    writeln!(text, "server_time_usec:{}\r", server.time_micros).unwrap();
    writeln!(text, "\r\n# Persistence\r\nloading:{}\r", number(persistence.loading)).unwrap();
    if persistence.async_loading {
        writeln!(text, "async_loading:1\r").unwrap();
    }
    writeln!(
        text,
        "aof_enabled:{}\r\naof_rewrite_in_progress:{}\r\naof_rewrite_scheduled:0\r\n\r\n# News\r\nloading:soon\r\n\r\n# Replication\r",
        number(persistence.aof != Aof::Off),
        number(persistence.aof == Aof::Rewriting)
    )
    .unwrap();
    match &replication.upstream {
        None => writeln!(text, "role:master\r").unwrap(),
        Some(up) => writeln!(
            text,
            "role:slave\r\nmaster_host:{}\r\nmaster_port:{}\r\nmaster_link_status:{}\r\n\
             master_last_io_seconds_ago:{}\r\nmaster_sync_in_progress:{}\r\nslave_repl_offset:{}\r\n\
             slave_priority:100\r",
            up.host,
            up.port,
            if up.link_up { "up" } else { "down" },
            up.last_io_seconds,
            number(up.sync_in_progress),
            up.offset
        )
        .unwrap(),
    }
    for (n, line) in replication.replicas.iter().enumerate() {
        let ConnectedReplica { host, port, state, offset, lag_seconds } = line;
        writeln!(
            text,
            "slave{n}:ip={host},port={port},state={state},offset={offset},lag={lag_seconds},type=replica\r"
        )
        .unwrap();
    }
    writeln!(
        text,
        "master_failover_state:{}\r\nmaster_replid:{}\r\nmaster_replid2:{}\r\nmaster_repl_offset:{}\r\n\
         second_repl_offset:{}\r\nrepl_backlog_active:{}\r",
        replication.failover_state,
        replication.replid,
        replication.replid2,
        replication.offset,
        replication.second_repl_offset,
        number(replication.backlog_active)
    )
    .unwrap();
    if let Some(keys) = keys {
        writeln!(text, "\r\n# Keyspace\r").unwrap();
        // Spread over two databases, as far as there are keys at all.
        for (n, keys) in [keys / 2, keys - keys / 2].into_iter().filter(|keys| *keys > 0).enumerate() {
            writeln!(text, "db{n}:keys={keys},expires=0,avg_ttl=0\r").unwrap();
        }
    }
    text
}

fn host() -> impl Strategy<Value = String> {
    (0..PODS + 1).prop_map(|ordinal| host_of(&format!("redis-{ordinal}")))
}

fn replid() -> impl Strategy<Value = String> {
    select(vec!["a".repeat(40), "b".repeat(40)])
}

fn upstream() -> impl Strategy<Value = Upstream> {
    // Weighted towards what a good replica says, so that good sets are met as often as bad ones.
    let whom = prop_oneof![
        8 => Just((host_of("redis-0"), REDIS_PORT)),
        2 => host().prop_map(|host| (host, REDIS_PORT)),
        1 => Just((host_of("redis-0"), 6380)),
        1 => Just((PARKED.0.to_owned(), PARKED.1)),
    ];
    let last_io = prop_oneof![8 => 0..=MAX_LINK_SILENCE_SECONDS, 1 => Just(-1), 1 => 0..40_i64];
    (whom, prop::bool::weighted(0.9), last_io, prop::bool::weighted(0.1), -1..1000_i64).prop_map(
        |((host, port), link_up, last_io_seconds, sync_in_progress, offset)| Upstream {
            host,
            port,
            link_up,
            last_io_seconds,
            sync_in_progress,
            offset,
        },
    )
}

fn line() -> impl Strategy<Value = ConnectedReplica> {
    let state = prop_oneof![8 => Just("online"), 1 => Just("wait_bgsave"), 1 => Just("bg_transfer")];
    let lag = prop_oneof![8 => 0..=MAX_ACK_LAG_SECONDS, 1 => 0..40_i64];
    (host(), state, 0..1000_i64, lag).prop_map(|(host, state, offset, lag_seconds)| ConnectedReplica {
        host,
        port: REDIS_PORT,
        state: state.to_owned(),
        offset,
        lag_seconds,
    })
}

fn replication() -> impl Strategy<Value = Replication> {
    let failover = prop_oneof![9 => Just("no-failover"), 1 => Just("waiting-for-sync"), 1 => Just("failover-in-progress")];
    (
        proptest::option::weighted(0.6, upstream()),
        vec(line(), 0..6),
        failover,
        prop_oneof![4 => Just("a".repeat(40)), 1 => replid()],
        replid(),
        -1..1000_i64,
        0..1000_i64,
        any::<bool>(),
    )
        .prop_map(
            |(upstream, replicas, failover, replid, replid2, second_repl_offset, offset, backlog_active)| {
                Replication {
                    upstream,
                    replicas,
                    failover_state: failover.to_owned(),
                    replid,
                    replid2,
                    second_repl_offset,
                    offset,
                    backlog_active,
                }
            },
        )
}

fn info() -> impl Strategy<Value = Info> {
    let server = (
        select(vec![Flavour::Redis, Flavour::Valkey]),
        "[6-9]\\.[0-9]\\.[0-9]{1,2}",
        "[0-9a-f]{40}",
        any::<(i64, i64)>(),
    )
        .prop_map(|(flavour, version, run_id, (uptime_seconds, time_micros))| Server {
            flavour,
            version,
            run_id,
            uptime_seconds,
            time_micros,
        });
    let rarely = || prop::bool::weighted(0.1);
    let persistence = (rarely(), rarely(), select(vec![Aof::Off, Aof::Whole, Aof::Rewriting])).prop_map(
        |(loading, async_loading, aof)| Persistence { loading, async_loading, aof, ..Persistence::default() },
    );
    (server, replication(), persistence, proptest::option::of(0..i64::MAX)).prop_map(
        |(server, replication, persistence, keys)| Info {
            server,
            replication,
            persistence,
            clients: None,
            keys,
        },
    )
}

fn reply(ordinal: i32) -> impl Strategy<Value = Result<Answer, NoAnswer>> {
    let own = host_of(&format!("redis-{ordinal}"));
    let announced = prop_oneof![9 => Just(own), 1 => Just("elsewhere".to_owned())];
    prop_oneof![
        9 => (info(), announced).prop_map(|(info, announced)| Ok(Answer { info, announced, refuses_password: false, demands: None })),
        1 => select(vec![
            NoAnswer::NotStarted,
            NoAnswer::NoPassword,
            NoAnswer::Failed(ProbeFailure::Refused),
            NoAnswer::Failed(ProbeFailure::Timeout(Duration::from_secs(1))),
            NoAnswer::Failed(ProbeFailure::Busy),
            NoAnswer::Failed(ProbeFailure::Loading),
            NoAnswer::Failed(ProbeFailure::Auth("WRONGPASS".to_owned())),
            NoAnswer::Failed(ProbeFailure::Malformed("x".to_owned())),
        ]).prop_map(Err),
    ]
}

fn observed() -> impl Strategy<Value = Observed> {
    let pods: Vec<_> = (0..PODS)
        .map(|ordinal| {
            (reply(ordinal), prop::bool::weighted(0.05))
                .prop_map(move |(reply, terminating)| ObservedPod { terminating, ..pod(ordinal, reply) })
        })
        .collect();
    pods.prop_map(|pods| Observed { pods })
}

/// A set in which everybody truly follows redis-0, before something is done to it.
fn good_set() -> Observed {
    let hosts: Vec<String> = (0..PODS).map(|ordinal| host_of(&format!("redis-{ordinal}"))).collect();
    let replicas: Vec<&str> = hosts[1..].iter().map(String::as_str).collect();
    let replid = "a".repeat(40);
    let pods = hosts.iter().zip(0..).map(|(host, ordinal)| {
        let replication = match ordinal {
            0 => fixtures::primary(&replid, &replicas),
            _ => fixtures::replica(&replid, &hosts[0]),
        };
        pod(ordinal, Ok(answer(host, replication)))
    });
    Observed { pods: pods.collect() }
}

/// Good sets with a few pods replaced by arbitrary ones, and sets of arbitrary pods only.
fn sets() -> impl Strategy<Value = Observed> {
    let damaged = (observed(), vec(any::<bool>(), 4)).prop_map(|(other, keep)| {
        let pods = good_set().pods.into_iter().zip(other.pods).zip(keep);
        Observed { pods: pods.map(|((good, other), keep)| if keep { good } else { other }).collect() }
    });
    prop_oneof![damaged, observed()]
}

fn records() -> impl Strategy<Value = Record> {
    prop_oneof![8 => Just(record("redis-0")), 1 => Just(record("redis-1")), 1 => Just(Record::first(Vec::new(), true))]
}

/// The definition of "truly follows", written down a second time.
fn truly_follows(replica: &ObservedPod, primary: &ObservedPod) -> bool {
    let (Ok(own), Ok(theirs)) = (&replica.answer, &primary.answer) else { return false };
    let Some(up) = &own.info.replication.upstream else { return false };
    let lines: Vec<_> =
        theirs.info.replication.replicas.iter().filter(|line| line.host == host_of(&replica.name)).collect();
    own.announced == host_of(&replica.name)
        && theirs.announced == host_of(&primary.name)
        && !replica.terminating
        && up.host == host_of(&primary.name)
        && up.port == REDIS_PORT
        && up.link_up
        && !up.sync_in_progress
        && (0..=15).contains(&up.last_io_seconds)
        && !own.info.persistence.loading
        && !own.info.persistence.async_loading
        && own.info.replication.failover_state == "no-failover"
        && theirs.info.replication.upstream.is_none()
        && theirs.info.replication.failover_state == "no-failover"
        && !theirs.info.persistence.loading
        && own.info.replication.replid == theirs.info.replication.replid
        && !lines.is_empty()
        && lines.iter().all(|line| line.state == "online" && line.lag_seconds <= 10)
}

proptest! {
    #[test]
    fn parsing_never_panics(text in any::<String>(), bytes in vec(any::<u8>(), 0..200)) {
        let _ = info::parse(&text);
        let _ = info::parse(&String::from_utf8_lossy(&bytes));
    }

    /// Near misses: a good answer with a piece of it replaced. What still parses is not invented.
    #[test]
    fn parsing_damaged_answers_never_panics(info in info(), at in any::<prop::sample::Index>(), noise in "\\PC{0,8}|[0-9:=,#\r\n-]{0,8}") {
        let mut text: Vec<char> = render(&info).chars().collect();
        let at = at.index(text.len());
        text.splice(at..(at + noise.len()).min(text.len()), noise.chars());
        let _ = info::parse(&text.into_iter().collect::<String>());
    }

    #[test]
    fn parsing_reads_what_was_printed(info in info()) {
        prop_assert_eq!(info::parse(&render(&info)), Ok(info));
    }

    /// Every line that the renderer prints for all servers is needed: without it there is an error that names it.
    #[test]
    fn a_missing_field_is_named(info in info(), field in select(vec![
        "run_id", "uptime_in_seconds", "server_time_usec", "loading", "aof_enabled", "aof_rewrite_in_progress", "aof_rewrite_scheduled", "role", "master_failover_state", "master_replid",
        "master_replid2", "master_repl_offset", "second_repl_offset", "repl_backlog_active",
    ])) {
        let text = render(&info);
        let without: String = text
            .split_inclusive('\n')
            .filter(|line| !line.starts_with(&format!("{field}:")))
            .collect();
        let error = info::parse(&without).unwrap_err().to_string();
        prop_assert!(error.ends_with(&format!("has no field {field}")), "{}", error);
    }

    /// Regression: what a server says goes into the status and the record.
    #[test]
    fn a_value_that_is_too_long_is_refused_by_name(info in info(), field in select(vec![
        "run_id", "master_failover_state", "master_replid", "master_replid2", "role",
    ])) {
        let text = render(&info);
        let long: String = text
            .split_inclusive('\n')
            .map(|line| {
                let is_it = line.starts_with(&format!("{field}:"));
                if is_it { format!("{field}:{}\r\n", "x".repeat(1 << 12)) } else { line.to_owned() }
            })
            .collect();
        let error = info::parse(&long).unwrap_err().to_string();
        prop_assert!(error.contains(field) && error.contains("at most 256 bytes") && error.len() < 256, "{}", error);
    }

    #[test]
    fn the_order_of_pods_changes_nothing(
        (set, shuffled) in sets().prop_flat_map(|set| (Just(set.clone()), Just(set.pods).prop_shuffle())),
        record in records(),
    ) {
        let shuffled = Observed { pods: shuffled };
        prop_assert_eq!(topology(host_of, &record, &set), topology(host_of, &record, &shuffled));
    }

    #[test]
    fn an_unanswered_pod_raises_nothing(set in sets(), silent in 0..4_usize, record in records()) {
        let before = topology(host_of, &record, &set);
        let mut fewer = set;
        fewer.pods[silent].answer = Err(NoAnswer::Failed(ProbeFailure::Refused));
        let after = topology(host_of, &record, &fewer);
        prop_assert!(after.in_sync_count() <= before.in_sync_count());
        prop_assert!(after.serving().len() <= before.serving().len());
        prop_assert!(!after.all_in_sync(PODS));
    }

    #[test]
    fn in_sync_is_exactly_the_definition(set in sets(), record in records()) {
        let judged = topology(host_of, &record, &set);
        for (pod, verdict) in set.pods.iter().zip(&judged.instances) {
            let primary = set.pods.iter().find(|other| Some(&other.name) == record.primary.as_ref());
            let follows = primary.is_some_and(|primary| primary.name != pod.name && truly_follows(pod, primary));
            prop_assert_eq!(verdict.state == InstanceState::InSync, follows, "{:#?}", verdict);
            // What is not as wanted says why, and nothing else does.
            let fine = matches!(verdict.state, InstanceState::InSync | InstanceState::Primary);
            prop_assert!(fine || !verdict.faults.is_empty(), "{:#?}", verdict);
            prop_assert!(verdict.state != InstanceState::InSync || verdict.faults.is_empty(), "{:#?}", verdict);
        }
    }

    /// Faults become status texts: numbers that move by themselves must not change them.
    #[test]
    fn moving_numbers_change_nothing(set in sets(), record in records(), by in 1..1_000_i64) {
        let mut later = set.clone();
        for pod in &mut later.pods {
            let Ok(answer) = &mut pod.answer else { continue };
            let info = &mut answer.info;
            info.server.uptime_seconds = info.server.uptime_seconds.saturating_add(by);
            info.replication.offset += by;
            for line in &mut info.replication.replicas {
                line.offset += by;
                if line.lag_seconds > MAX_ACK_LAG_SECONDS {
                    line.lag_seconds += by;
                }
            }
            if let Some(up) = &mut info.replication.upstream {
                up.offset += by;
                if up.last_io_seconds > MAX_LINK_SILENCE_SECONDS {
                    up.last_io_seconds += by;
                }
            }
        }
        prop_assert_eq!(topology(host_of, &record, &set), topology(host_of, &record, &later));
    }
}

#[test]
fn the_good_set_is_good() {
    let judged = topology(host_of, &record("redis-0"), &good_set());
    assert!(judged.all_in_sync(PODS));
    assert!(!judged.all_in_sync(PODS + 1));
    assert_eq!(judged.in_sync_count(), 3);
}
