//! Whether one replica truly follows the primary of record, and if not, every reason.

use super::{
    Findings, MAX_ACK_LAG_SECONDS, MAX_LINK_SILENCE_SECONDS, Member, NO_FAILOVER, PrimaryOfRecord, Set,
    is_parked, names,
};
use crate::api::status::InstanceState;
use redis_node::{
    answer::Answer,
    files::REDIS_PORT,
    info::{ConnectedReplica, Replication, Upstream},
};

/// `state` of a `slaveN` line once the primary has sent the whole dataset. It does not mean that the replica has
/// loaded it (experiment E9): that, the replica itself says.
const ONLINE: &str = "online";

/// Where the server that a replica follows leads to.
enum Above<'a> {
    /// It is none of the set's.
    Outside,
    /// It is the replica itself.
    Itself,
    /// It serves.
    Serves,
    /// It is a replica too.
    Replica(&'a str),
    /// Round in a circle: there is no primary.
    Circle,
    /// Its own Redis did not answer.
    Silent(&'a str),
    /// It follows nobody.
    Parked(&'a str),
}

impl Set<'_> {
    /// A server with role slave. Findings are added in the order in which they decide: whom it follows before
    /// how well, its own words before those of the primary.
    pub(super) fn replica(
        &self,
        member: &Member<'_>,
        answer: &Answer,
        upstream: &Upstream,
        findings: &mut Findings,
    ) -> InstanceState {
        if answer.info.persistence.loading {
            findings.add(InstanceState::Loading, "loads its dataset");
        }
        if is_parked(upstream) {
            findings.add(InstanceState::Parked, "parked: follows no server until the operator names one");
            return InstanceState::Parked;
        }
        self.whom(member, upstream, findings);
        if upstream.sync_in_progress {
            findings.add(InstanceState::Syncing, "receives a full copy of the data");
        }
        if answer.info.persistence.async_loading {
            findings.add(InstanceState::Syncing, "loads the copy that it received");
        }
        let listed: Vec<&ConnectedReplica> = self.lines(&member.host).collect();
        if let Some(line) = listed.iter().find(|line| line.state != ONLINE) {
            let state = &line.state;
            findings.add(InstanceState::Syncing, format!("its primary still sends it the data ({state})"));
        }
        if !upstream.link_up {
            findings.add(InstanceState::LinkDown, "the link to its primary is down");
        }
        let replication = &answer.info.replication;
        if replication.failover_state != NO_FAILOVER {
            let state = &replication.failover_state;
            findings.add(
                InstanceState::Unconfirmed,
                format!("is handing over its role (failover state {state})"),
            );
        }
        if let Some(primary) = self.primary.as_ref().filter(|primary| primary.pod != member.pod.name) {
            self.confirm(member, replication, upstream, primary, findings);
        }
        if upstream.link_up && upstream.last_io_seconds > MAX_LINK_SILENCE_SECONDS {
            findings.add(
                InstanceState::Lagging,
                format!("has heard nothing from its primary for more than {MAX_LINK_SILENCE_SECONDS} s"),
            );
        }
        if upstream.link_up && upstream.last_io_seconds < 0 {
            findings.add(InstanceState::Lagging, "cannot say when it last heard from its primary");
        }
        if listed.iter().any(|line| line.lag_seconds > MAX_ACK_LAG_SECONDS) {
            findings.add(
                InstanceState::Lagging,
                format!("has acknowledged nothing to its primary for more than {MAX_ACK_LAG_SECONDS} s"),
            );
        }
        InstanceState::InSync
    }

    /// Whether it names the right server.
    fn whom(&self, member: &Member<'_>, upstream: &Upstream, findings: &mut Findings) {
        let wanted = match &self.primary {
            None => "no primary is on record".to_owned(),
            Some(primary) if primary.pod == member.pod.name => "it is the primary of record".to_owned(),
            Some(primary) if names(upstream, &primary.host) => return,
            Some(primary) => format!("wanted {}:{REDIS_PORT}", primary.host),
        };
        let above = match self.above(member, upstream) {
            Above::Outside => ", no server of this set".to_owned(),
            Above::Itself => ", itself".to_owned(),
            Above::Serves => String::new(),
            Above::Replica(pod) => format!(" ({pod} is a replica too)"),
            Above::Circle => " (in a circle, without a primary)".to_owned(),
            Above::Silent(pod) => format!(" ({pod} did not answer)"),
            Above::Parked(pod) => format!(" ({pod} is parked)"),
        };
        let Upstream { host, port, .. } = upstream;
        findings.add(InstanceState::WrongPrimary, format!("follows {host}:{port}{above}; {wanted}"));
    }

    /// Whether the primary of record confirms what the replica says: it serves, lists the replica, and both have
    /// the same history.
    fn confirm(
        &self,
        member: &Member<'_>,
        own: &Replication,
        upstream: &Upstream,
        primary: &PrimaryOfRecord,
        findings: &mut Findings,
    ) {
        let pod = &primary.pod;
        let Some(answer) = self.primary_member().and_then(Member::own_answer) else {
            findings.add(InstanceState::Unconfirmed, format!("{pod} did not answer, so it confirms nothing"));
            return;
        };
        let theirs = &answer.info.replication;
        if let Some(above) = &theirs.upstream {
            let circle = match self.above(member, upstream) {
                Above::Circle => " (in a circle, without a primary)",
                _ => "",
            };
            let instead = if is_parked(above) {
                "is parked".to_owned()
            } else {
                format!("follows {}:{}{circle}", above.host, above.port)
            };
            findings
                .add(InstanceState::WrongPrimary, format!("{pod} does not serve as primary: it {instead}"));
            return;
        }
        if answer.info.persistence.loading {
            findings.add(InstanceState::Unconfirmed, format!("{pod} loads its dataset"));
        }
        if theirs.failover_state != NO_FAILOVER {
            let state = &theirs.failover_state;
            findings.add(
                InstanceState::Unconfirmed,
                format!("{pod} is handing over its role (failover state {state})"),
            );
        }
        if self.lines(&member.host).next().is_none() {
            findings.add(InstanceState::Unconfirmed, format!("{pod} does not list it as a replica"));
        }
        if own.replid != theirs.replid {
            findings.add(
                InstanceState::Unconfirmed,
                format!("its history is {}, that of {pod} is {}", own.replid, theirs.replid),
            );
        }
    }

    fn primary_member(&self) -> Option<&Member<'_>> {
        self.members.iter().find(|member| self.is_primary_of_record(member))
    }

    /// The lines under which the primary of record, if it serves, lists a replica. During a dual-channel sync
    /// there are two (experiment E10).
    fn lines(&self, host: &str) -> impl Iterator<Item = &ConnectedReplica> {
        self.primary_member()
            .filter(|primary| primary.serves())
            .and_then(Member::own_answer)
            .into_iter()
            .flat_map(|answer| &answer.info.replication.replicas)
            .filter(move |line| line.host == host)
    }

    /// Follows the names upwards. Each step is one server of the set, so a walk that has not ended after as many
    /// steps goes round in a circle.
    fn above(&self, member: &Member<'_>, upstream: &Upstream) -> Above<'_> {
        let Some(first) = self.by_host(&upstream.host) else { return Above::Outside };
        let pod = &first.pod.name;
        if *pod == member.pod.name {
            return Above::Itself;
        }
        match first.upstream() {
            None if first.serves() => return Above::Serves,
            None => return Above::Silent(pod),
            Some(above) if is_parked(above) => return Above::Parked(pod),
            Some(_) => {}
        }
        let mut next = first;
        for _ in &self.members {
            match next.upstream().and_then(|above| self.by_host(&above.host)) {
                Some(above) => next = above,
                None => return Above::Replica(pod),
            }
        }
        Above::Circle
    }
}
