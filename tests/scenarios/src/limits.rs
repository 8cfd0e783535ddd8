//! What must hold in each scenario.

use crate::{
    operators::Fate,
    scenario::{Kind, Scenario},
};

/// What may be lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Nothing that was answered with OK.
    Nothing,
    /// Only what no replica acknowledged.
    Unacknowledged,
    /// Also what was written after the last dump: every process that had it was killed.
    SinceDump,
    /// Everything: no copy outlives the processes.
    Everything,
}

/// What must hold, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// What may be lost.
    pub loss: Loss,
    /// Median of the longest gaps between acknowledged writes.
    pub longest_p50: Option<i64>,
    /// 99th percentile of the longest gaps between acknowledged writes.
    pub longest_p99: Option<i64>,
    /// Each gap between writes that were answered with OK.
    pub plain: Option<i64>,
    /// Each gap between writes that were acknowledged through the Service.
    pub service: Option<i64>,
    /// Sum of the gaps between acknowledged writes.
    pub total: Option<i64>,
    /// From the cut until a server that was cut off takes its last write.
    pub inside: Option<i64>,
    /// For how long the status may say Ready while the servers do not.
    pub false_ready: Option<i64>,
}

/// For how long the status may say Ready while the servers do not.
const FALSE_READY: i64 = 6_000;
/// `min-replicas-max-lag`, and 2 s: Redis counts its good replicas once a second, and their lag in whole seconds.
const FENCED: i64 = 5_000;
/// A gap of this length is none: a handover takes as long.
const NO_GAP: i64 = 500;
/// Without DNS for two minutes no replica finds a new primary; then they have half a minute.
const WITHOUT_DNS: i64 = 150_000;
/// A link that was cut for a minute is made again when Redis gives it up (`repl-timeout`, 60 s), and some.
const LINK_CUT: i64 = 80_000;

impl Limits {
    /// Of this scenario.
    pub fn of(scenario: Scenario, kind: Kind, fate: Fate) -> Self {
        let mut limits = Self {
            loss: loss(scenario, kind),
            longest_p50: None,
            longest_p99: None,
            plain: None,
            service: None,
            total: None,
            inside: None,
            false_ready: Some(FALSE_READY),
        };
        limits.add(scenario);
        if fate != Fate::Left {
            // Without an operator nobody moves the primary, and the next one has to wait for the Lease.
            (limits.longest_p50, limits.longest_p99) = (None, None);
            (limits.plain, limits.service) = (None, None);
            (limits.total, limits.false_ready) = (None, None);
        }
        limits
    }

    /// What holds for this scenario beyond what holds for all.
    fn add(&mut self, scenario: Scenario) {
        use Scenario as S;
        match scenario {
            S::Switchover | S::DeletePrimary | S::Evict | S::Drain => self.longest_p99 = Some(NO_GAP),
            S::OperatorStopped => (self.longest_p99, self.false_ready) = (Some(NO_GAP), None),
            S::Roll => self.total = Some(1_000),
            S::KillPrimary => (self.longest_p50, self.longest_p99) = (Some(2_000), Some(4_000)),
            S::CannotSave => self.longest_p99 = Some(10_000),
            S::Frozen | S::DeletedByForce | S::NodeStopped => self.succeeded(),
            S::NodeCutShort | S::NodeCut | S::NodeCutLong | S::NodeCutOfFive => {
                self.succeeded();
                self.inside = Some(FENCED);
            }
            S::NodeCutWithOperator => {
                self.longest_p99 = Some(35_000);
                self.inside = Some(FENCED);
                // Nobody writes a status before the next one leads (10 s without a renewal of the Lease, 2 s between looks).
                self.false_ready = Some(12_000 + FALSE_READY);
            }
            // The one that is cut off stays the primary, and serves again within seconds of its return.
            S::NodeCutOfTwo => (self.longest_p99, self.plain) = (Some(LINK_CUT), Some(70_000)),
            S::NodesCutInTurn => (self.longest_p99, self.plain) = (Some(100_000), Some(70_000)),
            S::LinkOperatorPrimary
            | S::LinkOperatorPrimaryOneWay
            | S::LinkOperatorReplica
            | S::LinkOperatorApi
            | S::LinkPrimaryReplica
            | S::LinkPrimaryReplicaOneWay
            | S::LinkPodsDns => {
                (self.longest_p99, self.plain, self.service) = (Some(NO_GAP), Some(NO_GAP), Some(NO_GAP));
            }
            // The others do not notice, and its clients go on once the minute is over.
            S::LinkClientPrimary => {
                (self.longest_p99, self.plain, self.service) = (Some(NO_GAP), Some(NO_GAP), Some(63_000));
            }
            // Nobody can acknowledge meanwhile; the demand that somebody does is taken back within two seconds.
            S::LinkPrimaryReplicas | S::LinkPrimaryReplicasOneWay => {
                (self.longest_p99, self.plain) = (Some(LINK_CUT), Some(2_000));
            }
            S::DnsGoneDelete | S::DnsGoneKill => {
                (self.longest_p99, self.plain) = (Some(WITHOUT_DNS), Some(4_000));
            }
            S::DnsGoneRoll => (self.plain, self.total) = (Some(NO_GAP), Some(1_000)),
            _ => {}
        }
    }

    /// A silent primary is succeeded.
    fn succeeded(&mut self) {
        (self.longest_p50, self.longest_p99) = (Some(14_000), Some(20_000));
    }
}

fn loss(scenario: Scenario, kind: Kind) -> Loss {
    match (scenario, kind) {
        (Scenario::KillAll | Scenario::PowerCut, Kind::Rdb) => Loss::SinceDump,
        (Scenario::KillAll, Kind::Ephemeral) => Loss::Everything,
        _ if keeps_all(scenario) => Loss::Nothing,
        _ => Loss::Unacknowledged,
    }
}

/// Whether a person asked for it, or the primary stays the same, so that nothing at all may be lost.
fn keeps_all(scenario: Scenario) -> bool {
    use Scenario as S;
    match scenario {
        S::Switchover
        | S::DeletePrimary
        | S::DeleteReplica
        | S::Evict
        | S::Drain
        | S::Roll
        | S::StartConfig
        | S::LiveConfig
        | S::Image
        | S::Scale
        | S::ScaleToOne
        | S::RecordDeleted
        | S::Recreate
        | S::OperatorStopped
        | S::CannotSave
        | S::RecordLost
        | S::NodeCutOfTwo
        | S::NodesCutInTurn
        | S::LinkOperatorPrimary
        | S::LinkOperatorPrimaryOneWay
        | S::LinkOperatorReplica
        | S::LinkOperatorApi
        | S::LinkPrimaryReplica
        | S::LinkPrimaryReplicaOneWay
        | S::LinkPrimaryReplicas
        | S::LinkPrimaryReplicasOneWay
        | S::LinkClientPrimary
        | S::LinkPodsDns
        | S::DnsGoneDelete
        | S::DnsGoneRoll => true,
        S::KillPrimary
        | S::TerminatePrimary
        | S::OutOfMemory
        | S::KillAll
        | S::PowerCut
        | S::EmptyReplica
        | S::EmptyPrimary
        | S::NeverStarts
        | S::UnsettledFile
        | S::PromotedByHand
        | S::NodeAway
        | S::ForeignHistory
        | S::Frozen
        | S::NodeCutShort
        | S::NodeCut
        | S::NodeCutLong
        | S::NodeCutWithOperator
        | S::NodeCutOfFive
        | S::NodeStopped
        | S::DeletedByForce
        | S::DnsGoneKill
        // A volume that is not restored takes along what was on it alone.
        | S::VolumesByHand => false,
    }
}
