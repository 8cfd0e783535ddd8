//! The start rule: follow the one peer that serves, or park. Pure.
//!
//! `docs/design/protocol.md`, "Start rule". Parking is safe: a parked Redis keeps its data, refuses writes, and a peer that
//! dials it keeps its own. So whatever is unclear ends there, with one exception: a peer that hands its role over to
//! this very pod would make even a parked Redis primary (experiment E30), so Redis does not start before that ends.

use std::fmt;

use redis_node::{PARKED, answer::ProbeFailure, files::REDIS_PORT, record::Record};

/// One peer and what came of asking it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerAnswer {
    /// DNS name of the peer.
    pub host: String,
    /// What it said.
    pub says: Says,
}

/// What a peer says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Says {
    /// It was asked just now; there is nothing yet.
    NotYet,
    /// It serves as primary.
    Serves {
        /// `master_replid`: the history that it serves.
        replid: String,
        /// The history that it took over from another primary, and up to where; `None` where it took over from nobody.
        took_over: Option<Point>,
    },
    /// A `FAILOVER` runs on it, and it still waits for its replica: it may be primary or replica in a moment.
    HandsOver,
    /// A `FAILOVER` runs on it, and it dials this host for ever to make it primary (`failover-in-progress`).
    HandsOverTo(String),
    /// It is a replica of this host.
    Follows(String),
    /// It gave no usable answer.
    Silent(Silence),
}

/// A point in a history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Point {
    /// Redis' `master_replid`: names the history.
    pub replid: String,
    /// Bytes of it.
    pub offset: i64,
}

/// This Redis, before it starts.
#[derive(Clone, Copy, Debug)]
pub struct Own<'a> {
    /// DNS name that it announces.
    pub host: &'a str,
    /// Name of its pod.
    pub pod: &'a str,
    /// Where the data that it will load ends, if its file says so.
    pub data: Option<&'a Point>,
    /// The role record as the kubelet mounted it, if it can be read. It may be a minute old, so it only forbids to
    /// follow a peer; it never names one to follow.
    pub record: Option<&'a Record>,
    /// It follows nobody before the operator says so.
    pub starts_parked: bool,
}

/// Why a peer gave no usable answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Silence {
    /// Its name has no address.
    NoAddress(String),
    /// It was dialled and did not answer.
    Failed(ProbeFailure),
    /// Another server answered under its name (this one); DNS is not up to date.
    Stranger(String),
}

/// How Redis is to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// As a replica of this peer.
    Follow {
        /// DNS name of the peer.
        host: String,
    },
    /// Parked.
    Park {
        /// Why.
        reason: Reason,
    },
    /// Not yet: these peers have not settled.
    Wait {
        /// DNS names of the peers.
        peers: Vec<String>,
    },
    /// Not before these peers' `FAILOVER` to this pod has ended, however long that takes.
    Withhold {
        /// DNS names of the peers.
        peers: Vec<String>,
    },
}

/// Why a Redis is parked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The member list names nobody else.
    Alone,
    /// Every other member answered, and none serves.
    NobodyServes,
    /// The operator alone says whom it follows.
    OperatorDecides,
    /// Nobody is known to serve, and these members still follow this one.
    Followed(Vec<String>),
    /// More than one member serves.
    SeveralServe(Vec<String>),
    /// The wait is over, and these members had not settled.
    Unsettled(Vec<PeerAnswer>),
    /// A peer serves, and the record says that this pod is the primary.
    PrimaryOfRecord {
        /// DNS name of the peer.
        host: String,
    },
    /// A peer serves a history that an election ended.
    Closed {
        /// DNS name of the peer.
        host: String,
    },
    /// A peer serves, and took over earlier than this Redis' data ends.
    Ahead {
        /// DNS name of the peer.
        host: String,
        /// Bytes that only this Redis has.
        bytes: i64,
    },
}

/// Decides from the latest answer of every other member.
///
/// `wait_over`: the time for peers that do not answer is spent; the result is then never [`Start::Wait`].
pub fn decide(own: Own<'_>, asked: &[PeerAnswer], wait_over: bool) -> Start {
    let own_host = own.host;
    // The data here may be older than what that peer had when its FAILOVER began: Redis compares histories, not
    // offsets. Its own data is complete; the operator ends the FAILOVER, and then it serves again.
    let givers = hosts(asked, |says| says.hands_over_to(own_host));
    if !givers.is_empty() {
        return Start::Withhold { peers: givers };
    }
    if own.starts_parked {
        // Who has not been asked yet may be handing its role over to this pod.
        let unheard = hosts(asked, |says| *says == Says::NotYet);
        return if unheard.is_empty() || wait_over {
            Start::Park { reason: Reason::OperatorDecides }
        } else {
            Start::Wait { peers: unheard }
        };
    }
    let serving = hosts(asked, |says| matches!(says, Says::Serves { .. }));
    let unheard = asked.iter().any(|peer| peer.says == Says::NotYet);
    let handing_over = asked.iter().any(|peer| matches!(peer.says, Says::HandsOver | Says::HandsOverTo(_)));
    // This Redis was the primary until a moment ago, so what its followers confirmed is here. Whoever serves besides
    // them may have been promoted by hand, and a copy of that would wipe it. Parked, the operator decides;
    // an ordinary takeover costs one command more.
    let followers = hosts(asked, |says| matches!(says, Says::Follows(host) if host == own_host));
    match serving.as_slice() {
        [_, _, ..] => return Start::Park { reason: Reason::SeveralServe(serving) },
        // A silent peer does not hold this up: whoever serves, serves. One that was asked a moment ago, or
        // that is about to change its role, may yet be a second primary.
        [_] if !followers.is_empty() => return Start::Park { reason: Reason::Followed(followers) },
        [host] if !handing_over && (!unheard || wait_over) => return follow(host, own, asked),
        _ => {}
    }
    if asked.is_empty() {
        return Start::Park { reason: Reason::Alone };
    }
    // Whoever is silent follows nobody better, and the sooner this one is parked, the sooner the operator can choose.
    if serving.is_empty() && !handing_over && !followers.is_empty() {
        return Start::Park { reason: Reason::Followed(followers) };
    }
    let unsettled =
        |says: &Says| matches!(says, Says::NotYet | Says::HandsOver | Says::HandsOverTo(_) | Says::Silent(_));
    let peers = hosts(asked, unsettled);
    if peers.is_empty() {
        Start::Park { reason: Reason::NobodyServes }
    } else if wait_over {
        let peers = asked.iter().filter(|peer| unsettled(&peer.says)).cloned().collect();
        Start::Park { reason: Reason::Unsettled(peers) }
    } else {
        Start::Wait { peers }
    }
}

/// What the peer lacks would be gone, and with it all trace of it, as soon as this Redis follows. Parked, the operator
/// sees it, and publishes it first.
fn follow(host: &str, own: Own<'_>, asked: &[PeerAnswer]) -> Start {
    let serves = asked.iter().find(|peer| peer.host == host).and_then(|peer| match &peer.says {
        Says::Serves { replid, took_over } => Some((replid, took_over.as_ref())),
        _ => None,
    });
    let host = host.to_owned();
    if let (Some(record), Some((replid, _))) = (own.record, serves) {
        if record.primary.as_deref() == Some(own.pod) {
            return Start::Park { reason: Reason::PrimaryOfRecord { host } };
        }
        if record.closed.contains_key(replid) {
            return Start::Park { reason: Reason::Closed { host } };
        }
    }
    match (own.data, serves.and_then(|(_, took_over)| took_over)) {
        (Some(own), Some(end)) if own.replid == end.replid && own.offset > end.offset => {
            Start::Park { reason: Reason::Ahead { host, bytes: own.offset.saturating_sub(end.offset) } }
        }
        _ => Start::Follow { host },
    }
}

fn hosts(asked: &[PeerAnswer], which: impl Fn(&Says) -> bool) -> Vec<String> {
    asked.iter().filter(|peer| which(&peer.says)).map(|peer| peer.host.clone()).collect()
}

impl Start {
    /// The arguments of `replicaof` for this start; undecided is parked.
    pub fn replica_of(&self) -> (&str, u16) {
        match self {
            Self::Follow { host } => (host, REDIS_PORT),
            Self::Park { .. } | Self::Wait { .. } | Self::Withhold { .. } => PARKED,
        }
    }
}

impl Says {
    /// It dials this host to make it primary.
    fn hands_over_to(&self, own_host: &str) -> bool {
        matches!(self, Self::HandsOverTo(host) if host == own_host)
    }

    /// Whether a newer answer takes the place of this one. A peer that was handing its role over to this pod and now
    /// merely gives no answer in time is slow, frozen, full or cut off, and goes on with it afterwards.
    pub fn yields_to(&self, newer: &Self, own_host: &str) -> bool {
        let unknown = matches!(
            newer,
            Self::Silent(Silence::Failed(
                ProbeFailure::Timeout(_) | ProbeFailure::Busy | ProbeFailure::ClientLimit
            ))
        );
        !(unknown && self.hands_over_to(own_host))
    }
}

impl fmt::Display for PeerAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.host, self.says)
    }
}

impl fmt::Display for Says {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotYet => f.write_str("no answer yet"),
            Self::Serves { .. } => f.write_str("serves as primary"),
            Self::HandsOver => f.write_str("a FAILOVER runs, its role is about to change"),
            Self::HandsOverTo(host) => write!(f, "a FAILOVER runs, it hands its role over to {host}"),
            Self::Follows(host) if host == PARKED.0 => f.write_str("is parked, does not serve"),
            Self::Follows(host) => write!(f, "follows {host}, does not serve"),
            Self::Silent(silence) => silence.fmt(f),
        }
    }
}

impl fmt::Display for Silence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoAddress(error) => write!(f, "name does not resolve yet ({error})"),
            Self::Failed(failure) => failure.fmt(f),
            Self::Stranger(announced) => write!(f, "the server at this address calls itself {announced:?}"),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Alone => f.write_str("there is no other member to follow"),
            Self::OperatorDecides => f.write_str("the operator says whom this member follows"),
            Self::Followed(hosts) => write!(f, "this was the primary: {} still names it", hosts.join(", ")),
            Self::NobodyServes => f.write_str("every other member has answered and none serves as primary"),
            Self::SeveralServe(hosts) => write!(f, "more than one member serves: {}", hosts.join(", ")),
            Self::Unsettled(peers) => {
                let peers: Vec<String> = peers.iter().map(PeerAnswer::to_string).collect();
                write!(f, "no primary found in time; {}", peers.join("; "))
            }
            Self::PrimaryOfRecord { host } => write!(
                f,
                "{host} serves, but the record here names this pod as the primary; the operator says who is right"
            ),
            Self::Closed { host } => write!(
                f,
                "{host} serves a history that an election has ended; the operator stops it, or says that it is right"
            ),
            Self::Ahead { host, bytes } => write!(
                f,
                "the data here has {bytes} bytes that {host}, which took over, does not have; before they are given up, \
                 the operator publishes that"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const ME: Own<'static> = Own { host: "me", pod: "me", data: None, record: None, starts_parked: false };
    const SERVES: Says = Says::Serves { replid: String::new(), took_over: None };

    fn peer(host: &str, says: Says) -> PeerAnswer {
        PeerAnswer { host: host.to_owned(), says }
    }

    fn follows(host: &str) -> Says {
        Says::Follows(host.to_owned())
    }

    fn gives(host: &str) -> Says {
        Says::HandsOverTo(host.to_owned())
    }

    fn refused() -> Says {
        Says::Silent(Silence::Failed(ProbeFailure::Refused))
    }

    fn follow(host: &str) -> Start {
        Start::Follow { host: host.to_owned() }
    }

    fn wait(hosts: &[&str]) -> Start {
        Start::Wait { peers: hosts.iter().map(|&host| host.to_owned()).collect() }
    }

    #[test]
    fn follows_the_one_that_serves() {
        assert_eq!(decide(ME, &[peer("a", SERVES)], false), follow("a"));
        assert_eq!(decide(ME, &[peer("a", follows("b")), peer("b", SERVES)], false), follow("b"));
    }

    #[test]
    fn with_a_parked_start_nobody_is_followed_unasked() {
        let me = Own { starts_parked: true, ..ME };
        let parked = Start::Park { reason: Reason::OperatorDecides };
        assert_eq!(decide(me, &[peer("a", SERVES), peer("b", refused())], false), parked);
        assert_eq!(decide(me, &[], false), parked);
        let unheard = [peer("a", SERVES), peer("b", Says::NotYet)];
        assert_eq!(decide(me, &unheard, false), wait(&["b"]));
        assert_eq!(decide(me, &unheard, true), parked);
        let gives = [peer("a", gives("me")), peer("b", SERVES)];
        assert_eq!(decide(me, &gives, true), Start::Withhold { peers: vec!["a".to_owned()] });
    }

    #[test]
    fn parks_where_the_one_that_serves_took_over_earlier_than_the_data_here_ends() {
        let point = |replid: &str, offset| Point { replid: replid.to_owned(), offset };
        let took_over = |offset| {
            [peer("a", Says::Serves { replid: "new".to_owned(), took_over: Some(point("old", offset)) })]
        };
        let data = point("old", 100);
        let own = Own { data: Some(&data), ..ME };
        let ahead = Start::Park { reason: Reason::Ahead { host: "a".to_owned(), bytes: 30 } };
        assert_eq!(decide(own, &took_over(70), false), ahead);
        assert_eq!(decide(own, &took_over(100), false), follow("a"), "it has all of it");
        assert_eq!(decide(ME, &took_over(70), false), follow("a"), "nothing is known");
        let other = point("other", 100);
        assert_eq!(
            decide(Own { data: Some(&other), ..ME }, &took_over(70), false),
            follow("a"),
            "not comparable"
        );
        assert_eq!(decide(own, &[peer("a", SERVES)], false), follow("a"));
    }

    #[test]
    fn a_silent_peer_does_not_hold_up_following() {
        for wait_over in [false, true] {
            assert_eq!(decide(ME, &[peer("a", refused()), peer("b", SERVES)], wait_over), follow("b"));
        }
    }

    #[test]
    fn a_peer_not_heard_yet_may_be_a_second_primary() {
        let asked = [peer("a", Says::NotYet), peer("b", SERVES)];
        assert_eq!(decide(ME, &asked, false), wait(&["a"]));
        assert_eq!(decide(ME, &asked, true), follow("b"));
    }

    #[test]
    fn parks_at_once_when_all_answered_and_none_serves() {
        let asked = [peer("a", follows("127.0.0.1")), peer("b", follows("a"))];
        for wait_over in [false, true] {
            assert_eq!(decide(ME, &asked, wait_over), Start::Park { reason: Reason::NobodyServes });
        }
    }

    #[test]
    fn a_former_primary_parks_at_once_though_others_are_silent() {
        let asked = [peer("a", follows("me")), peer("b", refused())];
        assert_eq!(decide(ME, &asked, false), Start::Park { reason: Reason::Followed(vec!["a".to_owned()]) });
    }

    /// Somebody promoted b by hand and wrote to it; a went on confirming what this Redis took until it ended.
    #[test]
    fn who_is_still_followed_follows_nobody() {
        for wait_over in [false, true] {
            let followed = Start::Park { reason: Reason::Followed(vec!["a".to_owned()]) };
            assert_eq!(decide(ME, &[peer("a", follows("me")), peer("b", SERVES)], wait_over), followed);
            let unheard = [peer("a", follows("me")), peer("b", SERVES), peer("c", Says::NotYet)];
            assert_eq!(decide(ME, &unheard, wait_over), followed);
        }
    }

    #[test]
    fn the_record_forbids_and_never_leads() {
        let serves = |replid: &str| [peer("a", Says::Serves { replid: replid.to_owned(), took_over: None })];
        let mut record = Record { primary: Some("me".to_owned()), ..Record::first(Vec::new(), true) };
        let with =
            |record: &Record, says: &[PeerAnswer]| decide(Own { record: Some(record), ..ME }, says, true);
        let host = || "a".to_owned();
        let own = Start::Park { reason: Reason::PrimaryOfRecord { host: host() } };
        assert_eq!(with(&record, &serves("x")), own);
        record.primary = Some("a".to_owned());
        record.closed.insert("ended".to_owned(), 7);
        assert_eq!(with(&record, &serves("ended")), Start::Park { reason: Reason::Closed { host: host() } });
        assert_eq!(with(&record, &serves("x")), follow("a"));
        assert!(matches!(with(&record, &[peer("a", refused())]), Start::Park { .. }));
    }

    #[test]
    fn parks_at_once_without_peers() {
        assert_eq!(decide(ME, &[], false), Start::Park { reason: Reason::Alone });
    }

    #[test]
    fn parks_at_once_when_two_serve() {
        let asked = [peer("a", SERVES), peer("b", SERVES), peer("c", Says::NotYet)];
        let reason = Reason::SeveralServe(vec!["a".to_owned(), "b".to_owned()]);
        assert_eq!(decide(ME, &asked, false), Start::Park { reason });
    }

    #[test]
    fn waits_for_the_silent_then_parks_and_names_them() {
        let asked = [peer("a", refused()), peer("b", follows("a"))];
        assert_eq!(decide(ME, &asked, false), wait(&["a"]));
        let Start::Park { reason } = decide(ME, &asked, true) else { panic!("not parked") };
        assert_eq!(reason.to_string(), "no primary found in time; a: connection refused");
    }

    #[test]
    fn nobody_is_followed_while_a_failover_runs() {
        let asked = [peer("a", Says::HandsOver), peer("b", SERVES)];
        assert_eq!(decide(ME, &asked, false), wait(&["a"]));
        assert!(matches!(decide(ME, &asked, true), Start::Park { .. }));
        assert_eq!(decide(ME, &[peer("a", Says::HandsOver)], false), wait(&["a"]));
        assert_eq!(decide(ME, &[peer("a", gives("b")), peer("b", follows("a"))], false), wait(&["a"]));
    }

    #[test]
    fn never_starts_while_a_peer_hands_over_to_this_pod() {
        for other in [Says::NotYet, SERVES, Says::HandsOver, gives("x"), follows("x"), refused()] {
            for wait_over in [false, true] {
                let asked = [peer("a", other.clone()), peer("b", gives("me"))];
                let withhold = Start::Withhold { peers: vec!["b".to_owned()] };
                assert_eq!(decide(ME, &asked, wait_over), withhold, "{other}");
            }
        }
    }

    #[test]
    fn who_hands_over_and_falls_silent_still_hands_over() {
        let silent = |failure| Says::Silent(Silence::Failed(failure));
        for unknown in [silent(ProbeFailure::Timeout(Duration::from_secs(1))), silent(ProbeFailure::Busy)] {
            assert!(!gives("me").yields_to(&unknown, "me"), "{unknown}");
            assert!(SERVES.yields_to(&unknown, "me") && gives("x").yields_to(&unknown, "me"));
        }
        // Its process ended, or its pod moved: what follows it starts parked.
        for known in [refused(), Says::Silent(Silence::NoAddress(String::new())), SERVES, follows("me")] {
            assert!(gives("me").yields_to(&known, "me"), "{known}");
        }
    }

    #[test]
    fn never_follows_a_name_that_only_another_peer_gave() {
        let asked = [peer("b", follows("a")), peer("a", refused())];
        for wait_over in [false, true] {
            assert!(!matches!(decide(ME, &asked, wait_over), Start::Follow { .. }));
        }
    }

    #[test]
    fn after_the_wait_it_is_decided() {
        let says = [Says::NotYet, SERVES, Says::HandsOver, gives("x"), follows("x"), refused()];
        for a in &says {
            for b in &says {
                let start = decide(ME, &[peer("a", a.clone()), peer("b", b.clone())], true);
                assert!(!matches!(start, Start::Wait { .. }), "{a} {b}");
            }
        }
    }
}
