//! Which server can take over which server's data: what an image's tag promises, against what the servers answered.
//!
//! Pure. A server loads what it and its forerunners have written, and a replica loads its primary's file. Seen with
//! real servers (experiments E15, E28a; `docs/design/redis-facts.md`, section 7):
//!
//! - an older Redis behind a newer one (7.0 to 6.2, 7.2 to 7.0, 8.0 to 7.0) loses its own copy and cannot start again;
//! - Redis 7.0 and 7.2 to Valkey 8 and 9 works, Redis 8.0 to Valkey 9.1 does not.
//!
//! Only reasoned: Redis 7.4 writes the format of 8.0, so it counts like that; a server that is older by a minor version
//! may be handed what it does not know even where the format has the same number; and Valkey to Redis linked in one
//! experiment, with simple types only, which proves nothing for the data of a user.

use crate::{election::snapshot::Snapshot, plan::InvalidSpec};
use redis_node::info::{Flavour, Server};

/// A version as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    /// Redis or Valkey.
    pub flavour: Flavour,
    /// 8 of 8.0.6.
    pub major: u32,
    /// 0 of 8.0.6; `None` for a tag like `redis:8`, which means the newest of its line.
    pub minor: Option<u32>,
}

/// Oldest version of Redis whose files Valkey refuses.
const FIRST_CLOSED_TO_VALKEY: (u32, u32) = (7, 4);

/// A tag below this counts a build of its own, not a version of the server: Redis began replicating with 2.
const FIRST_MAJOR: u32 = 2;

/// What a server says it is.
pub fn answered(server: &Server) -> Option<Version> {
    let (major, minor) = numbers(&server.version)?;
    Some(Version { flavour: server.flavour, major, minor })
}

/// What an image's name says of the server in it. `None` where it says nothing that one can rely on: a digest alone, a
/// tag like `latest`, a repository that is called neither redis nor valkey.
pub fn promised(image: &str) -> Option<Version> {
    let named = image.split_once('@').map_or(image, |(named, _digest)| named);
    let last = named.rsplit_once('/').map_or(named, |(_, last)| last);
    let (repository, tag) = last.split_once(':')?;
    let flavour = if repository.contains("valkey") {
        Flavour::Valkey
    } else if repository.contains("redis") {
        Flavour::Redis
    } else {
        return None;
    };
    let (major, minor) = numbers(tag.strip_prefix('v').unwrap_or(tag))?;
    (major >= FIRST_MAJOR).then_some(Version { flavour, major, minor })
}

/// `8`, `8.0`, `8.0.6`, `8.0-alpine`.
fn numbers(text: &str) -> Option<(u32, Option<u32>)> {
    let version = text.split(['-', '_', '+']).next()?;
    let mut parts = version.split('.').map(str::parse::<u32>);
    let major = parts.next()?.ok()?;
    match parts.next() {
        None => Some((major, None)),
        Some(minor) => Some((major, Some(minor.ok()?))),
    }
}

/// Why `to` cannot take over the data of `from`, if it cannot.
pub fn obstacle(from: Version, to: Version) -> Option<&'static str> {
    match (from.flavour, to.flavour) {
        (Flavour::Redis, Flavour::Redis) | (Flavour::Valkey, Flavour::Valkey) => {
            let is_older = match (from.minor, to.minor) {
                (Some(from_minor), Some(to_minor)) => (to.major, to_minor) < (from.major, from_minor),
                _ => to.major < from.major,
            };
            is_older.then_some(
                "an older server cannot read what a newer one has written: as its replica it would lose its own copy, \
                 and not start again",
            )
        }
        (Flavour::Redis, Flavour::Valkey) => {
            let is_closed = (from.major, from.minor.unwrap_or(u32::MAX)) >= FIRST_CLOSED_TO_VALKEY;
            is_closed.then_some("Valkey cannot read what Redis 7.4 and later have written")
        }
        (Flavour::Valkey, Flavour::Redis) => {
            Some("Redis cannot be relied on to read what Valkey has written")
        }
    }
}

/// Refuses a change of the image that would not take over the data of a server that answers.
///
/// What a server answered counts, not the former image's tag: a tag that was never pulled must not bind anybody, and
/// one like `latest` says nothing. Where no server answers, nothing is known, and nothing is refused: the first
/// replaced replica shows it ([`overtaken`]).
pub fn check(running: &str, wanted: &str, look: &Snapshot) -> Result<(), InvalidSpec> {
    let Some(promised) = promised(wanted).filter(|_| running != wanted) else { return Ok(()) };
    let refusal = look.members().into_iter().find_map(|member| {
        let server = &member.answer.info.server;
        let why = obstacle(answered(server)?, promised)?;
        Some(InvalidSpec {
            field: "spec.image".to_owned(),
            problem: format!(
                "{wanted} would have to take over the data of {}, which runs {}: {why}. The pods stay as they are. Set \
                 spec.image back to {running} or to a version that can, or create a new RedisReplicaSet with this image \
                 and copy the data into it",
                member.pod,
                words(server)
            ),
        })
    });
    refusal.map_or(Ok(()), Err)
}

/// A replica of the current template that runs what the primary's data cannot go to: an image whose name did not tell.
/// The message says who and why.
pub fn overtaken(look: &Snapshot, primary: &str, revision: &str) -> Option<String> {
    let members = look.members();
    let server = |pod: &str| members.iter().find(|m| m.pod == pod).map(|m| &m.answer.info.server);
    let primary_server = server(primary)?;
    let from = answered(primary_server)?;
    look.observed.pods.iter().filter(|pod| pod.revision.as_deref() == Some(revision)).find_map(|pod| {
        let replica = server(&pod.name)?;
        let why = obstacle(from, answered(replica)?)?;
        Some(format!(
            "{} runs {}, and {primary}, the primary, {}: {why}. No other pod is replaced. Set spec.image back",
            pod.name,
            words(replica),
            words(primary_server)
        ))
    })
}

fn words(server: &Server) -> String {
    let flavour = match server.flavour {
        Flavour::Redis => "Redis",
        Flavour::Valkey => "Valkey",
    };
    format!("{flavour} {}", server.version)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::{api::status::InstanceState, observed::ObservedPod, topology::Verdict};
    use redis_node::{
        answer::Answer,
        info::{Info, Persistence, Replication},
    };

    fn answer(version: &str) -> Answer {
        let (flavour, version) = match version.strip_prefix("valkey ") {
            Some(version) => (Flavour::Valkey, version),
            None => (Flavour::Redis, version),
        };
        let replication = Replication {
            upstream: None,
            replicas: Vec::new(),
            failover_state: String::new(),
            replid: String::new(),
            replid2: String::new(),
            second_repl_offset: -1,
            offset: 0,
            backlog_active: false,
        };
        let server = Server {
            flavour,
            version: version.to_owned(),
            run_id: String::new(),
            uptime_seconds: 0,
            time_micros: 0,
        };
        let persistence = Persistence::default();
        Answer {
            info: Info { server, replication, persistence, clients: None, keys: None },
            announced: String::new(),
            refuses_password: false,
            demands: None,
        }
    }

    /// Pods `redis-0`, `redis-1`, … with their version, state and template.
    pub fn look(pods: &[(&str, InstanceState, &str)]) -> Snapshot {
        let mut look = Snapshot::default();
        for ((version, state, revision), ordinal) in pods.iter().zip(0..) {
            let name = format!("redis-{ordinal}");
            look.observed.pods.push(ObservedPod {
                revision: Some((*revision).to_owned()),
                answer: Ok(answer(version)),
                ..ObservedPod::running(ordinal)
            });
            look.topology.instances.push(Verdict {
                pod: name,
                ordinal,
                state: *state,
                serves: *state == InstanceState::Primary,
                faults: Vec::new(),
            });
        }
        look
    }

    fn redis(major: u32, minor: u32) -> Version {
        Version { flavour: Flavour::Redis, major, minor: Some(minor) }
    }

    fn valkey(major: u32, minor: u32) -> Version {
        Version { flavour: Flavour::Valkey, major, minor: Some(minor) }
    }

    #[test]
    fn what_a_name_promises() {
        for (image, promise) in [
            ("redis:8.0", Some(redis(8, 0))),
            ("docker.io/library/redis:7.2.5-alpine", Some(redis(7, 2))),
            ("localhost:5000/redis:7.2.5", Some(redis(7, 2))),
            ("redis:7", Some(Version { minor: None, ..redis(7, 0) })),
            ("redis/redis-stack-server:7.4.0-v1", Some(redis(7, 4))),
            ("valkey/valkey:8.1-bookworm", Some(valkey(8, 1))),
            ("x/redis-to-valkey:v9.1", Some(valkey(9, 1))),
            ("redis:8.0@sha256:0123", Some(redis(8, 0))),
            ("redis@sha256:0123", None),
            ("redis", None),
            ("localhost:5000/redis", None),
            ("redis:latest", None),
            ("redis:8.x", None),
            ("redis:alpine-8.0", None),
            ("mirror/kv:8.0", None),
            ("mirror/redis:1.4", None),
        ] {
            assert_eq!(promised(image), promise, "{image}");
        }
    }

    #[test]
    fn who_can_take_over_from_whom() {
        for (from, to, can) in [
            (redis(7, 0), redis(8, 0), true),
            (redis(8, 0), redis(8, 0), true),
            (redis(8, 0), redis(7, 0), false),
            (redis(7, 2), redis(7, 0), false),
            (redis(7, 0), redis(6, 2), false),
            (redis(8, 0), redis(7, 4), false),
            (redis(7, 2), Version { minor: None, ..redis(7, 0) }, true),
            (redis(8, 0), Version { minor: None, ..redis(7, 0) }, false),
            (redis(7, 0), valkey(9, 1), true),
            (redis(7, 2), valkey(8, 0), true),
            (redis(7, 4), valkey(9, 1), false),
            (redis(8, 0), valkey(9, 1), false),
            (valkey(8, 0), valkey(9, 1), true),
            (valkey(9, 1), valkey(8, 0), false),
            (valkey(8, 1), valkey(8, 0), false),
            (valkey(8, 0), redis(7, 2), false),
            (valkey(9, 1), redis(8, 0), false),
        ] {
            assert_eq!(obstacle(from, to).is_none(), can, "{from:?} to {to:?}");
        }
    }

    #[test]
    fn an_image_that_could_not_take_over_is_refused() {
        use InstanceState::{InSync, Primary};
        let all = |version: &str| look(&[(version, Primary, "a"), (version, InSync, "a")]);
        let half = look(&[("7.2.5", Primary, "a"), ("8.0.6", InSync, "b")]);
        for (look, running, wanted, taken) in [
            (&all("8.0.6"), "redis:8.0", "redis:7.2", false),
            (&all("8.0.6"), "redis:latest", "redis:7.2", false),
            (&all("8.0.6"), "redis:8.0", "redis:8.2", true),
            (&all("8.0.6"), "redis:8.0", "redis:8.0.1", true),
            (&all("8.0.6"), "redis:8.0", "valkey/valkey:9.1", false),
            (&all("7.2.5"), "redis:7.2", "valkey/valkey:8.1", true),
            (&all("valkey 8.1.1"), "valkey/valkey:8.1", "redis:8.0", false),
            // What the servers say counts: the tag that is left was never right, or never pulled.
            (&all("7.2.5"), "redis:80.0", "redis:7.2", true),
            (&all("8.0.6"), "redis:7.2", "redis:7.2", true),
            // Names that tell nothing.
            (&all("8.0.6"), "redis:8.0", "redis:latest", true),
            (&all("8.0.6"), "redis:8.0", "redis@sha256:01", true),
            (&Snapshot::default(), "redis:8.0", "redis:7.2", true),
            // One replica is there already, and so is its file.
            (&half, "redis:8.0", "redis:7.2", false),
            (&half, "redis:8.0", "redis:8.0.7", true),
        ] {
            assert_eq!(check(running, wanted, look).is_ok(), taken, "{running} to {wanted}");
        }
        let refusal = check("redis:8.0", "redis:7.2", &all("8.0.6")).unwrap_err().to_string();
        for words in ["spec.image: redis:7.2", "redis-0, which runs Redis 8.0.6", "back to redis:8.0"] {
            assert!(refusal.contains(words), "{refusal}");
        }
    }

    #[test]
    fn the_first_replica_tells_what_a_name_did_not() {
        use InstanceState::{LinkDown, Primary};
        let pods = |version| look(&[("8.0.6", Primary, "old"), (version, LinkDown, "new")]);
        let why = overtaken(&pods("7.0.15"), "redis-0", "new").unwrap();
        assert!(
            why.starts_with("redis-1 runs Redis 7.0.15, and redis-0, the primary, Redis 8.0.6: an older"),
            "{why}"
        );
        assert!(overtaken(&pods("valkey 9.1.2"), "redis-0", "new").is_some());
        assert_eq!(overtaken(&pods("8.2.1"), "redis-0", "new"), None);
        assert_eq!(overtaken(&pods("7.0.15"), "redis-0", "other"), None, "the image was set back");
        assert_eq!(overtaken(&pods("7.0.15"), "redis-2", "new"), None, "the primary is silent");
    }
}
