//! `spec.failover`: what the operator does when the primary stays silent.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::RedisReplicaSetSpec;

/// The smallest set for which [`Mode::Quorum`] is the default: with two replicas, one may be lost beside the primary's node.
const QUORUM_FROM: i32 = 3;

/// The directive by which a primary refuses writes, under both of its names.
const MIN_REPLICAS: [&str; 2] = ["min-replicas-to-write", "min-slaves-to-write"];

/// What to do when the primary stays silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Failover {
    /// Who may take over from a primary that does not answer. If absent: Quorum from three replicas on, and Fenced below
    /// or where `spec.config` sets min-replicas-to-write. On an existing set, Quorum and Fenced restart the pods one by one
    /// where they were made for the other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,

    /// Seconds without an answer of the primary, and without a sign of life from it to its replicas, before Quorum
    /// detaches them. A detached set takes no writes for five more seconds; a smaller value is refused, since a short
    /// stall of a node would then cost more than it does now.
    #[serde(default = "default_after")]
    #[schemars(range(min = 5, max = 3600))]
    pub after: i32,

    /// What Quorum does while a replica is away, so that nobody could take over.
    #[serde(default)]
    pub alone: Alone,
}

/// Who may take over from a primary that does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Mode {
    /// Its replicas, although nothing proves its end: it takes writes only while a replica acknowledges them, so it takes none
    /// once all of them are detached. Writes that clients confirmed with WAIT survive; others of the last seconds may not.
    Quorum,
    /// Its replicas, once its end is proven: reported by the kubelet, or its node was deleted or tainted out-of-service.
    Fenced,
    /// Nobody, until a person names the pod: the status says whom the operator would promote. The first primary, planned moves
    /// and drains go on by themselves.
    Manual,
}

/// What Quorum does while a replica is away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Alone {
    /// The primary takes writes without replicas. If it is lost too before one is back, the set waits for proof as with Fenced.
    #[default]
    Serve,
    /// The primary takes writes only while at least one replica acknowledges them.
    RefuseWrites,
}

impl Default for Failover {
    fn default() -> Self {
        Self { mode: None, after: default_after(), alone: Alone::default() }
    }
}

fn default_after() -> i32 {
    5
}

/// What holds for a set, by `spec.failover` and by what else the spec says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Who may take over.
    pub mode: Mode,
    /// The spec names the mode.
    pub is_chosen: bool,
    /// `spec.paused`: nobody takes over.
    pub is_paused: bool,
    /// Time of silence before replicas are detached.
    pub after: Duration,
    /// What is done while a replica is away.
    pub alone: Alone,
    /// `min-replicas-to-write` is the operator's: `spec.config` does not name it.
    pub owns_min_replicas: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            mode: Mode::Fenced,
            is_chosen: false,
            is_paused: false,
            after: seconds(default_after()),
            alone: Alone::default(),
            owns_min_replicas: true,
        }
    }
}

impl Policy {
    /// Of a set with this spec.
    pub fn of(spec: &RedisReplicaSetSpec) -> Self {
        let (replicas, config) = (spec.replicas, &spec.config);
        let failover = spec.failover.unwrap_or_default();
        let owns_min_replicas = !MIN_REPLICAS.iter().any(|name| config.contains_key(*name));
        let by_default =
            if replicas >= QUORUM_FROM && owns_min_replicas { Mode::Quorum } else { Mode::Fenced };
        Self {
            mode: failover.mode.unwrap_or(by_default),
            is_chosen: failover.mode.is_some(),
            is_paused: spec.paused,
            after: seconds(failover.after),
            alone: failover.alone,
            owns_min_replicas,
        }
    }

    /// Of a set whose spec cannot be read: nobody takes over, and what stands in `min-replicas-to-write` may be the user's.
    pub fn unread() -> Self {
        Self { is_paused: true, owns_min_replicas: false, ..Self::default() }
    }

    /// Whether the spec says how Redis is to start, so that pods which start otherwise are replaced.
    pub fn chooses_start(self) -> bool {
        self.is_chosen && self.mode != Mode::Manual
    }

    /// What a primary is to demand while the record does not say that it may be succeeded.
    pub fn min_replicas_alone(self) -> i64 {
        i64::from(self.mode == Mode::Quorum && self.alone == Alone::RefuseWrites)
    }
}

fn seconds(count: i32) -> Duration {
    Duration::from_secs(u64::from(count.unsigned_abs()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn the_default_follows_the_size_and_what_the_user_demands() {
        let none = BTreeMap::new();
        let own: BTreeMap<_, _> = [("min-slaves-to-write".to_owned(), "1".to_owned())].into();
        let fenced = Failover { mode: Some(Mode::Fenced), ..Failover::default() };
        for (failover, replicas, config, mode) in [
            (None, 1, &none, Mode::Fenced),
            (None, 2, &none, Mode::Fenced),
            (None, 3, &none, Mode::Quorum),
            (None, 9, &none, Mode::Quorum),
            (None, 3, &own, Mode::Fenced),
            (Some(fenced), 3, &none, Mode::Fenced),
        ] {
            let spec = RedisReplicaSetSpec {
                failover,
                replicas,
                config: config.clone(),
                ..RedisReplicaSetSpec::default()
            };
            let policy = Policy::of(&spec);
            assert_eq!(policy.mode, mode, "{failover:?} {replicas} {config:?}");
            assert_eq!(policy.owns_min_replicas, config.is_empty());
        }
    }
}
