//! The scenarios: what each is, on what it makes sense, and what must hold in it.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    limits::Limits,
    operators::Fate,
    plays::{self, links::Between},
    stage::Stage,
};
use rig::{Failure, cluster::set::Storage};

/// Where a set keeps its data, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum, Serialize, Deserialize)]
pub enum Kind {
    /// Volumes, with a dump from time to time.
    Rdb,
    /// Volumes, with append-only files.
    Aof,
    /// The Pod itself.
    Ephemeral,
}

impl Kind {
    /// All of them, in the order in which they take turns.
    pub const ALL: [Self; 3] = [Self::Rdb, Self::Ephemeral, Self::Aof];

    /// In a word, for the table.
    pub fn text(self) -> &'static str {
        match self {
            Self::Rdb => "RDB",
            Self::Aof => "AOF",
            Self::Ephemeral => "ephemeral",
        }
    }

    fn spec(self, image: &str) -> Value {
        match self {
            Self::Rdb => Storage::Volumes.spec(image),
            Self::Ephemeral => Storage::Ephemeral.spec(image),
            Self::Aof => {
                let mut spec = Storage::Volumes.spec(image);
                merge(&mut spec, json!({"config": {"appendonly": "yes"}}));
                spec
            }
        }
    }
}

/// Adds fields to an object.
fn merge(object: &mut Value, more: Value) {
    if let (Some(object), Value::Object(more)) = (object.as_object_mut(), more) {
        object.extend(more);
    }
}

/// One scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum, Serialize, Deserialize)]
pub enum Scenario {
    Switchover,
    DeletePrimary,
    DeleteReplica,
    Evict,
    Drain,
    Roll,
    StartConfig,
    LiveConfig,
    Image,
    Scale,
    ScaleToOne,
    KillPrimary,
    TerminatePrimary,
    OutOfMemory,
    KillAll,
    PowerCut,
    EmptyReplica,
    EmptyPrimary,
    NeverStarts,
    RecordDeleted,
    Recreate,
    OperatorStopped,
    UnsettledFile,
    PromotedByHand,
    NodeAway,
    ForeignHistory,
    CannotSave,
    RecordLost,
    VolumesByHand,
    Frozen,
    #[value(name = "node-cut-20s")]
    NodeCutShort,
    NodeCut,
    #[value(name = "node-cut-400s")]
    NodeCutLong,
    NodeCutWithOperator,
    NodeCutOfFive,
    NodeCutOfTwo,
    NodesCutInTurn,
    NodeStopped,
    DeletedByForce,
    LinkOperatorPrimary,
    LinkOperatorPrimaryOneWay,
    LinkOperatorReplica,
    LinkOperatorApi,
    LinkPrimaryReplica,
    LinkPrimaryReplicaOneWay,
    LinkPrimaryReplicas,
    LinkPrimaryReplicasOneWay,
    LinkClientPrimary,
    LinkPodsDns,
    DnsGoneDelete,
    DnsGoneRoll,
    DnsGoneKill,
}

impl Scenario {
    /// What happens, for the table.
    pub fn text(self) -> &'static str {
        match self {
            Self::Switchover => "switchover by annotation, and back",
            Self::DeletePrimary => "primary's pod deleted",
            Self::DeleteReplica => "replica's pod deleted",
            Self::Evict => "primary's pod evicted",
            Self::Drain => "primary's node drained",
            Self::Roll => "rolling update",
            Self::StartConfig => "directive that needs a start changed",
            Self::LiveConfig => "directive changed live",
            Self::Image => "image changed to a newer Redis",
            Self::Scale => "3 → 5 → 2 → 3 pods",
            Self::ScaleToOne => "3 → 1 → 3 → 1 → 3 pods",
            Self::KillPrimary => "primary's process killed",
            Self::TerminatePrimary => "primary's process ended by SIGTERM",
            Self::OutOfMemory => "primary killed for its memory",
            Self::KillAll => "all processes killed at once",
            Self::PowerCut => "all killed at once, with files of different ages",
            Self::EmptyReplica => "replica's files removed, process killed",
            Self::EmptyPrimary => "primary's files removed, process killed",
            Self::NeverStarts => "primary's pod can never start again",
            Self::RecordDeleted => "ConfigMap of the record deleted",
            Self::Recreate => "resource deleted and made again over its volumes",
            Self::OperatorStopped => "mode Fenced, no operator: replica killed, replica's pod deleted",
            Self::UnsettledFile => "switchover to a replica whose append-only file is older than its data",
            Self::PromotedByHand => "replica promoted by hand and written to, primary's process killed",
            Self::NodeAway => "mode Fenced: primary's node cut off for 10 min, its pod deleted by force",
            Self::ForeignHistory => "no operator: replica copies another Redis, primary's process killed",
            Self::CannotSave => "primary cannot save and refuses writes",
            Self::RecordLost => "no operator: record deleted while a replica is frozen",
            Self::VolumesByHand => "set made over two of three volumes, without labels and record",
            Self::Frozen => "primary's process frozen, and going on a minute after another serves",
            Self::NodeCutShort => "primary's node cut off for 20 s",
            Self::NodeCut => "primary's node cut off for 60 s",
            Self::NodeCutLong => "primary's node cut off for 400 s",
            Self::NodeCutWithOperator => {
                "node of the primary and of the operator that leads cut off for 60 s"
            }
            Self::NodeCutOfFive => "5 pods: primary's node cut off for 60 s",
            Self::NodeCutOfTwo => "2 pods, mode Fenced: primary's node cut off for 60 s",
            Self::NodesCutInTurn => "a replica's node cut off, then the primary's, and back",
            Self::NodeStopped => "primary's node without power for 60 s",
            Self::DeletedByForce => "primary's pod deleted by force",
            Self::LinkOperatorPrimary => "operator and primary cut off from each other",
            Self::LinkOperatorPrimaryOneWay => "primary's answers to the operator dropped",
            Self::LinkOperatorReplica => "operator and a replica cut off from each other",
            Self::LinkOperatorApi => "operator that leads and API server cut off from each other",
            Self::LinkPrimaryReplica => "primary and a replica cut off from each other",
            Self::LinkPrimaryReplicaOneWay => "a replica's packets to the primary dropped",
            Self::LinkPrimaryReplicas => "primary and both replicas cut off from each other",
            Self::LinkPrimaryReplicasOneWay => "both replicas' packets to the primary dropped",
            Self::LinkClientPrimary => "clients of the Service and primary cut off from each other",
            Self::LinkPodsDns => "the set's pods and DNS cut off from each other",
            Self::DnsGoneDelete => "no DNS for 120 s: primary's pod deleted",
            Self::DnsGoneRoll => "no DNS for 120 s: rolling update",
            Self::DnsGoneKill => "no DNS for 120 s: primary's process killed",
        }
    }

    /// On what it makes sense.
    pub fn kinds(self) -> &'static [Kind] {
        match self {
            // There are no volumes to make it again over.
            Self::Recreate | Self::PowerCut => &[Kind::Rdb, Kind::Aof],
            Self::UnsettledFile | Self::PromotedByHand => &[Kind::Aof],
            // Volumes of this cluster never leave their node.
            Self::NodeAway | Self::NodeCutOfFive => &[Kind::Ephemeral],
            Self::ForeignHistory | Self::CannotSave | Self::VolumesByHand => &[Kind::Rdb],
            _ => &Kind::ALL,
        }
    }

    /// Whether it makes sense with this fate of the operator.
    pub fn suffers(self, fate: Fate) -> bool {
        !matches!(
            self,
            Self::OperatorStopped
                | Self::PromotedByHand
                | Self::ForeignHistory
                | Self::RecordLost
                | Self::NodeCutWithOperator
                | Self::NodeCutOfFive
                | Self::NodeCutOfTwo
                | Self::NodesCutInTurn
                | Self::LinkOperatorPrimary
                | Self::LinkOperatorPrimaryOneWay
                | Self::LinkOperatorReplica
                | Self::LinkOperatorApi
        ) || fate == Fate::Left
    }

    /// Whether there is a replica at every moment, to acknowledge writes.
    pub fn has_replicas(self) -> bool {
        self != Self::ScaleToOne
    }

    /// Whether it can be done several times to one set.
    pub fn repeats(self) -> bool {
        // A set never goes back to an older Redis.
        self != Self::Image
    }

    /// Whether no container but the primary's is restarted.
    pub fn restarts_the_primary_alone(self) -> bool {
        matches!(self, Self::KillPrimary | Self::TerminatePrimary | Self::OutOfMemory | Self::EmptyPrimary)
    }

    /// Whether the primary's return to its home is waited for too; where nobody asks for it, it takes half a minute.
    pub fn goes_home(self) -> bool {
        matches!(self, Self::Switchover | Self::Roll | Self::TerminatePrimary | Self::UnsettledFile)
    }

    /// The spec of the set that it happens to.
    pub fn spec(self, kind: Kind, image: &str) -> Value {
        let mut spec = kind.spec(image);
        // These are about what holds without proof, and about replicas that follow by themselves.
        if matches!(self, Self::NodeAway | Self::OperatorStopped | Self::NodeCutOfTwo) {
            merge(&mut spec, json!({"failover": {"mode": "Fenced"}}));
        }
        if self == Self::NodeCutOfTwo {
            merge(&mut spec, json!({"replicas": 2}));
        }
        if self == Self::NodeCutOfFive {
            merge(&mut spec, json!({"replicas": 5}));
        }
        if matches!(self, Self::KillPrimary | Self::Frozen | Self::DeletedByForce) {
            // It is played often, and each return home would be half a minute more.
            merge(&mut spec, json!({"primary": {"failback": false}}));
        }
        if self == Self::OutOfMemory {
            merge(&mut spec, json!({"resources": {"limits": {"memory": "96Mi"}}}));
        }
        spec
    }

    /// What must hold.
    pub fn limits(self, kind: Kind, fate: Fate) -> Limits {
        Limits::of(self, kind, fate)
    }

    /// Does it to a set that is settled, and waits until it has shown.
    pub async fn play(self, stage: &Stage<'_>) -> Result<(), Failure> {
        match self {
            Self::Switchover => plays::planned::switchover(stage).await,
            Self::DeletePrimary => plays::planned::delete(stage, &stage.set.primary()?).await,
            Self::DeleteReplica => plays::planned::delete(stage, &stage.set.replica()?).await,
            Self::Evict => plays::planned::evict(stage).await,
            Self::Drain => plays::planned::drain(stage).await,
            Self::Roll => plays::change::roll(stage).await,
            Self::StartConfig => plays::change::start_config(stage).await,
            Self::LiveConfig => plays::change::live_config(stage).await,
            Self::Image => plays::change::image(stage).await,
            Self::Scale => plays::change::scale(stage, &[5, 2, 3]).await,
            Self::ScaleToOne => plays::change::scale(stage, &[1, 3, 1, 3]).await,
            Self::KillPrimary => plays::faults::end_primary(stage, "KILL").await,
            Self::TerminatePrimary => plays::faults::end_primary(stage, "TERM").await,
            Self::OutOfMemory => plays::faults::out_of_memory(stage).await,
            Self::KillAll => plays::faults::kill_all(stage).await,
            Self::PowerCut => plays::faults::power_cut(stage).await,
            Self::EmptyReplica => plays::faults::empty(stage, &stage.set.replica()?).await,
            Self::EmptyPrimary => plays::faults::empty(stage, &stage.set.primary()?).await,
            Self::NeverStarts => plays::faults::never_starts(stage).await,
            Self::RecordDeleted => plays::planned::record_deleted(stage).await,
            Self::Recreate => plays::planned::recreate(stage).await,
            Self::OperatorStopped => plays::planned::without_operator(stage).await,
            Self::UnsettledFile => plays::outside::unsettled_file(stage).await,
            Self::PromotedByHand => plays::outside::promoted_by_hand(stage).await,
            Self::NodeAway => plays::outside::node_away(stage).await,
            Self::ForeignHistory => plays::outside::foreign_history(stage).await,
            Self::CannotSave => plays::outside::cannot_save(stage).await,
            Self::RecordLost => plays::outside::record_lost_beside_a_silent_member(stage).await,
            Self::VolumesByHand => plays::outside::volumes_by_hand(stage).await,
            Self::Frozen => plays::silence::frozen(stage).await,
            Self::NodeCutShort => plays::lost_node::cut(stage, 20).await,
            Self::NodeCut => plays::lost_node::cut(stage, 60).await,
            Self::NodeCutLong => plays::lost_node::cut(stage, 400).await,
            Self::NodeCutWithOperator => plays::lost_node::with_the_operator(stage).await,
            Self::NodeCutOfFive => plays::lost_node::of_five(stage).await,
            Self::NodeCutOfTwo => plays::lost_node::of_two(stage).await,
            Self::NodesCutInTurn => plays::held::in_turn(stage).await,
            Self::NodeStopped => plays::lost_node::stopped(stage).await,
            Self::DeletedByForce => plays::silence::deleted_by_force(stage).await,
            Self::LinkOperatorPrimary => plays::links::cut(stage, Between::OperatorsAndPrimary).await,
            Self::LinkOperatorPrimaryOneWay => plays::links::cut(stage, Between::PrimaryToOperators).await,
            Self::LinkOperatorReplica => plays::links::cut(stage, Between::OperatorsAndReplica).await,
            Self::LinkOperatorApi => plays::links::cut(stage, Between::LeaderAndApiServer).await,
            Self::LinkPrimaryReplica => plays::links::cut(stage, Between::PrimaryAndReplica).await,
            Self::LinkPrimaryReplicaOneWay => plays::links::cut(stage, Between::ReplicaToPrimary).await,
            Self::LinkPrimaryReplicas => plays::links::cut(stage, Between::PrimaryAndReplicas).await,
            Self::LinkPrimaryReplicasOneWay => plays::links::cut(stage, Between::ReplicasToPrimary).await,
            Self::LinkClientPrimary => plays::links::cut(stage, Between::ClientsAndService).await,
            Self::LinkPodsDns => plays::links::cut(stage, Between::PodsAndDns).await,
            Self::DnsGoneDelete => plays::without_dns::delete(stage).await,
            Self::DnsGoneRoll => plays::without_dns::roll(stage).await,
            Self::DnsGoneKill => plays::without_dns::kill(stage).await,
        }
    }
}
