//! The verdict on every directive that a server from Redis 6.2 to 8.2 or Valkey 8.1 to 9.1 knows. Pure.
//!
//! `crates/core/tests/directives.rs` holds the lists of the servers against this table: a directive of a new version fails it until
//! somebody has decided here. A directive that no row names is free, as a newer server may know it; what no server
//! knows, the servers refuse themselves.

use super::{bounded::Bound, refused::Group};

/// Whether a user may set a directive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Whatever the server takes.
    Free,
    /// Within bounds.
    Bounded(Bound),
    /// Not at all.
    Refused(Group),
    /// Not in this spelling: a name has no underscores here. The same name with dashes does it from Redis 7.2 on.
    Spelling,
}

use Verdict::{Bounded, Free, Refused, Spelling};

/// Directives by verdict; each name stands here once, with all of its other names.
const VERDICTS: &[(Verdict, &[&str])] = &[
    (Refused(Group::Role), &["replica-read-only", "replicaof", "slave-read-only", "slaveof"]),
    (
        Refused(Group::Credentials),
        &["aclfile", "masterauth", "masteruser", "primaryauth", "primaryuser", "requirepass", "user"],
    ),
    (
        Refused(Group::Tls),
        &[
            "tls-auth-clients",
            "tls-auth-clients-user",
            "tls-auto-reload-interval",
            "tls-ca-cert-dir",
            "tls-ca-cert-file",
            "tls-cert-file",
            "tls-ciphers",
            "tls-ciphersuites",
            "tls-client-cert-file",
            "tls-client-key-file",
            "tls-client-key-file-pass",
            "tls-cluster",
            "tls-dh-params-file",
            "tls-key-file",
            "tls-key-file-pass",
            "tls-port",
            "tls-prefer-server-ciphers",
            "tls-protocols",
            "tls-replication",
            "tls-session-cache-size",
            "tls-session-cache-timeout",
            "tls-session-caching",
        ],
    ),
    (
        Refused(Group::Addresses),
        &[
            "bind",
            "bind-source-addr",
            "port",
            "protected-mode",
            "rdma-bind",
            "rdma-completion-vector",
            "rdma-port",
            "rdma-rx-size",
            "unixsocket",
            "unixsocketgroup",
            "unixsocketperm",
        ],
    ),
    (
        Refused(Group::AnnouncedNames),
        &[
            "replica-announce-ip",
            "replica-announce-port",
            "replica-announced",
            "slave-announce-ip",
            "slave-announce-port",
        ],
    ),
    (
        Refused(Group::Process),
        &[
            "appenddirname",
            "appendfilename",
            "daemonize",
            "dbfilename",
            "dir",
            "enable-debug-assert",
            "enable-debug-command",
            "enable-module-command",
            "enable-protected-configs",
            "include",
            "loadmodule",
            "loadmodule-ex",
            "logfile",
            "pidfile",
            "rename-command",
            "supervised",
            "syslog-enabled",
            "syslog-facility",
            "syslog-ident",
        ],
    ),
    (Refused(Group::History), &["repl-backlog-ttl"]),
    (
        Refused(Group::OtherModes),
        &[
            "cluster-allow-pubsubshard-when-down",
            "cluster-allow-reads-when-down",
            "cluster-allow-replica-migration",
            "cluster-announce-bus-port",
            "cluster-announce-client-ipv4",
            "cluster-announce-client-ipv6",
            "cluster-announce-client-port",
            "cluster-announce-client-tls-port",
            "cluster-announce-hostname",
            "cluster-announce-human-nodename",
            "cluster-announce-ip",
            "cluster-announce-port",
            "cluster-announce-tls-port",
            "cluster-blacklist-ttl",
            "cluster-compatibility-sample-ratio",
            "cluster-config-file",
            "cluster-config-save-behavior",
            "cluster-databases",
            "cluster-enabled",
            "cluster-link-sendbuf-limit",
            "cluster-manual-failover-timeout",
            "cluster-message-gossip-perc",
            "cluster-migration-barrier",
            "cluster-node-timeout",
            "cluster-ping-interval",
            "cluster-port",
            "cluster-preferred-endpoint-type",
            "cluster-replica-no-failover",
            "cluster-replica-validity-factor",
            "cluster-require-full-coverage",
            "cluster-slave-no-failover",
            "cluster-slave-validity-factor",
            "cluster-slot-migration-log-max-len",
            "cluster-slot-stats-enabled",
            "sentinel",
        ],
    ),
    (
        Refused(Group::Tests),
        &[
            "aof-disable-auto-gc",
            "debug-context",
            "key-load-delay",
            "rdb-key-save-delay",
            "use-exit-on-panic",
            "watchdog-period",
        ],
    ),
    (Bounded(Bound::Appendonly), &["appendonly"]),
    (Bounded(Bound::DisklessLoad), &["repl-diskless-load"]),
    (Bounded(Bound::PingPeriod), &["repl-ping-replica-period", "repl-ping-slave-period"]),
    (Bounded(Bound::Clients), &["maxclients"]),
    (Bounded(Bound::AcceptQueue), &["tcp-backlog"]),
    (Bounded(Bound::ClientMemory), &["maxmemory-clients"]),
    (Bounded(Bound::OutputBuffers), &["client-output-buffer-limit"]),
    (Bounded(Bound::QueryBuffer), &["client-query-buffer-limit"]),
    (Bounded(Bound::Idle), &["timeout"]),
    (Bounded(Bound::LinkTimeout), &["repl-timeout"]),
    (Bounded(Bound::Memory), &["maxmemory"]),
    (Bounded(Bound::Backlog), &["repl-backlog-size"]),
    (Bounded(Bound::SyncDelay), &["repl-diskless-sync-delay"]),
    (Bounded(Bound::GoodReplicas), &["min-replicas-to-write", "min-slaves-to-write"]),
    (Bounded(Bound::BusyAnswers), &["busy-reply-threshold", "lua-time-limit"]),
    (Bounded(Bound::LoadingAnswers), &["loading-process-events-interval-bytes"]),
    (Bounded(Bound::Shutdown), &["shutdown-on-sigint", "shutdown-on-sigterm"]),
    (Bounded(Bound::ShutdownWait), &["shutdown-timeout"]),
    (Bounded(Bound::ReplicaEviction), &["replica-ignore-maxmemory", "slave-ignore-maxmemory"]),
    (Bounded(Bound::PropagationErrors), &["propagation-error-behavior"]),
    (Bounded(Bound::Databases), &["databases"]),
    (Bounded(Bound::Zone), &["availability-zone"]),
    // Where processors and memory go. Too much of either is slow, and seen as such.
    (
        Free,
        &[
            "active-defrag-cycle-max",
            "active-defrag-cycle-min",
            "active-defrag-cycle-us",
            "active-defrag-ignore-bytes",
            "active-defrag-max-scan-fields",
            "active-defrag-threshold-lower",
            "active-defrag-threshold-upper",
            "active-expire-effort",
            "activedefrag",
            "activerehashing",
            "aof-rewrite-cpulist",
            "bgsave-cpulist",
            "bio-cpulist",
            "disable-thp",
            "dynamic-hz",
            "events-per-io-thread",
            "hz",
            "io-threads",
            "io-threads-always-active",
            "io-threads-do-reads",
            "jemalloc-bg-thread",
            "lazyexpire-nested-arbitrary-keys",
            "lazyfree-lazy-eviction",
            "lazyfree-lazy-expire",
            "lazyfree-lazy-server-del",
            "lazyfree-lazy-user-del",
            "lazyfree-lazy-user-flush",
            "max-new-connections-per-cycle",
            "max-new-tls-connections-per-cycle",
            "min-io-threads-avoid-copy-reply",
            "min-string-size-avoid-copy-reply",
            "min-string-size-avoid-copy-reply-threaded",
            "oom-score-adj",
            "oom-score-adj-values",
            "prefetch-batch-max-size",
            "replica-lazy-flush",
            "server-cpulist",
            "slave-lazy-flush",
            "tracking-table-max-keys",
            "vset-force-single-threaded-execution",
        ],
    ),
    // How values are kept.
    (
        Free,
        &[
            "hash-max-listpack-entries",
            "hash-max-listpack-value",
            "hash-max-ziplist-entries",
            "hash-max-ziplist-value",
            "hash-seed",
            "hll-sparse-max-bytes",
            "list-compress-depth",
            "list-max-listpack-size",
            "list-max-ziplist-entries",
            "list-max-ziplist-size",
            "list-max-ziplist-value",
            "set-max-intset-entries",
            "set-max-listpack-entries",
            "set-max-listpack-value",
            "stream-node-max-bytes",
            "stream-node-max-entries",
            "zset-max-listpack-entries",
            "zset-max-listpack-value",
            "zset-max-ziplist-entries",
            "zset-max-ziplist-value",
        ],
    ),
    // What is evicted and expires: what the user keeps is the user's. A replica follows its primary in this.
    (
        Free,
        &[
            "import-mode",
            "lfu-decay-time",
            "lfu-log-factor",
            "maxmemory-eviction-tenacity",
            "maxmemory-policy",
            "maxmemory-samples",
        ],
    ),
    // What is on disk, and what a crash costs (docs/use/config.md). A file that a server does not take keeps one pod from
    // starting, and its data stay as they are.
    (
        Free,
        &[
            "aof-load-truncated",
            "aof-rewrite-incremental-fsync",
            "aof-timestamp-enabled",
            "aof-use-rdb-preamble",
            "appendfsync",
            "auto-aof-rewrite-min-size",
            "auto-aof-rewrite-percentage",
            "no-appendfsync-on-rewrite",
            "rdb-del-sync-files",
            "rdb-save-incremental-fsync",
            "rdb-version-check",
            "rdbchecksum",
            "rdbcompression",
            "sanitize-dump-payload",
            "save",
            "stop-writes-on-bgsave-error",
        ],
    ),
    // Replication. Two connections of one replica are counted as one. The priority is Sentinel's. A primary that lacks good
    // replicas, and a replica that serves nothing, are reported; both are what the user asked for.
    (
        Free,
        &[
            "dual-channel-replication-enabled",
            "min-replicas-max-lag",
            "min-slaves-max-lag",
            "repl-disable-tcp-nodelay",
            "repl-diskless-sync",
            "repl-diskless-sync-max-replicas",
            "repl-mptcp",
            "repl-rdb-channel",
            "replica-full-sync-buffer-limit",
            "replica-ignore-disk-write-errors",
            "replica-priority",
            "replica-serve-stale-data",
            "slave-priority",
            "slave-serve-stale-data",
            "slot-migration-max-failover-repl-bytes",
        ],
    ),
    // Clients and what they may do. Redis takes 1mb and more of proto-max-bulk-len, and does not hold a replica's link to it
    // (measured with 6.2.14 to 9.1.2). A connection whose other end is gone counts among maxclients without tcp-keepalive.
    (
        Free,
        &[
            "acl-pubsub-default",
            "extended-redis-compatibility",
            "gopher-enabled",
            "lua-enable-deprecated-api",
            "lua-enable-insecure-api",
            "lua-replicate-commands",
            "mptcp",
            "notify-keyspace-events",
            "proto-max-bulk-len",
            "socket-mark-id",
            "tcp-keepalive",
        ],
    ),
    // What is logged and counted. The operator does not read logs, and of INFO only sections that none of these fill.
    (
        Free,
        &[
            "acllog-max-len",
            "always-show-logo",
            "commandlog-execution-slower-than",
            "commandlog-large-reply-max-len",
            "commandlog-large-request-max-len",
            "commandlog-reply-larger-than",
            "commandlog-request-larger-than",
            "commandlog-slow-execution-max-len",
            "crash-log-enabled",
            "crash-memcheck-enabled",
            "hide-user-data-from-log",
            "ignore-warnings",
            "latency-monitor-threshold",
            "latency-tracking",
            "latency-tracking-info-percentiles",
            "locale-collate",
            "log-format",
            "log-timestamp-format",
            "loglevel",
            "proc-title-template",
            "set-proc-title",
            "slowlog-log-slower-than",
            "slowlog-max-len",
        ],
    ),
    (Spelling, &["aof_rewrite_cpulist", "bgsave_cpulist", "bio_cpulist", "server_cpulist"]),
];

/// The names of one verdict.
pub fn names(verdict: Verdict) -> impl Iterator<Item = &'static str> {
    VERDICTS.iter().filter(move |(of_row, _)| *of_row == verdict).flat_map(|(_, names)| names.iter().copied())
}

/// The verdict on a directive; `None` where no row names it.
pub fn verdict(name: &str) -> Option<Verdict> {
    VERDICTS.iter().find(|(_, names)| names.contains(&name)).map(|(verdict, _)| *verdict)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use strum::IntoEnumIterator as _;

    use super::*;

    #[test]
    fn each_name_has_one_row_and_each_verdict_has_names() {
        let mut seen = BTreeSet::new();
        for name in VERDICTS.iter().flat_map(|(_, names)| *names) {
            assert!(seen.insert(name), "{name} has two rows");
        }
        for verdict in Group::iter().map(Refused).chain(Bound::iter().map(Bounded)) {
            assert!(names(verdict).next().is_some(), "{verdict:?} has no name");
        }
    }

    #[test]
    fn a_prefix_holds_its_own_group_only() {
        for (verdict, names) in VERDICTS {
            for name in *names {
                for group in Group::iter().filter(|group| group.holds(name)) {
                    assert_eq!(*verdict, Refused(group), "{name}");
                }
            }
        }
    }
}
