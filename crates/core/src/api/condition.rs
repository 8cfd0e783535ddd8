//! The conditions of a `RedisReplicaSet` and the reasons that stand in them.
//!
//! docs/use/status.md lists the reasons from here, with these words.

use strum::{EnumMessage, EnumProperty, EnumString, IntoStaticStr, VariantArray};

/// Type of a condition in `status.conditions`; each is there from the first write on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr, VariantArray)]
pub enum ConditionType {
    /// All others together: what `kubectl wait --for=condition=Ready` waits for.
    Ready,
    /// A primary takes writes from clients that come through the Service.
    Available,
    /// Every wanted replica truly follows the primary.
    Replicated,
    /// The operator is on its way to what the spec asks for.
    Progressing,
    /// Something needs a person's attention.
    Degraded,
    /// Every server takes the passwords that the Secrets hold, and no other.
    CredentialsCurrent,
    /// The spec can be carried out.
    SpecValid,
}

impl ConditionType {
    /// As it stands in the API.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// Status of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr)]
pub enum ConditionStatus {
    /// It is so.
    True,
    /// It is not so.
    False,
    /// The operator could not find out. It is never the last `True`, kept.
    Unknown,
}

impl ConditionStatus {
    /// As it stands in the API.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// Why a condition has its status. The property `on` names each condition and status in which the reason can stand; `Ready` repeats the
/// reason that matters most.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, EnumMessage, EnumProperty, EnumString, IntoStaticStr, VariantArray,
)]
pub enum Reason {
    /// The primary of record serves, and every replica truly follows it.
    ///
    /// What to do: nothing.
    #[strum(props(on = "Ready=True"))]
    Verified,
    /// The primary of record serves, and took a write that the operator tried (one that changes nothing:
    /// `SETRANGE` of nothing to a key that is not there). Where its user may not do that, only that it
    /// serves is known.
    ///
    /// What to do: nothing.
    #[strum(props(on = "Available=True"))]
    PrimaryServes,
    /// The primary of record serves, and so does another server.
    ///
    /// What to do: see `UnexpectedPrimary`.
    #[strum(props(on = "Available=True"))]
    MultiplePrimaries,
    /// The primary refuses every write because its last save failed (`MISCONF`, directive
    /// `stop-writes-on-bgsave-error`); the message has its words. The operator moves the role to a replica in sync that can
    /// save, except in mode Manual, and not back before this one has saved. So where this stands, no replica could take over.
    ///
    /// What to do: its log says why, most often a full volume: give it room. The next save that succeeds
    /// ends it.
    #[strum(props(on = "Available=False Degraded=True"))]
    SavingFails,
    /// The primary refuses every write because it cannot write to its append-only file (`MISCONF`). The role moves as with
    /// `SavingFails`.
    ///
    /// What to do: give its volume room; the first append that succeeds ends it.
    #[strum(props(on = "Available=False Degraded=True"))]
    AppendingFails,
    /// The primary refuses every write because fewer replicas follow than `min-replicas-to-write` in
    /// `spec.config` demands (`NOREPLICAS`).
    ///
    /// What to do: `Replicated` says what keeps the replicas away.
    #[strum(props(on = "Available=False"))]
    TooFewReplicas,
    /// The primary refuses writes because `maxmemory` is reached and nothing can be evicted (`OOM`).
    ///
    /// What to do: delete data, raise `maxmemory` and the memory limit, or choose a `maxmemory-policy` that
    /// evicts.
    #[strum(props(on = "Available=False Degraded=True"))]
    MemoryFull,
    /// The primary keeps writes waiting while it answers others: a client issued `CLIENT PAUSE`.
    ///
    /// What to do: `CLIENT UNPAUSE`, or wait until its time is over.
    #[strum(props(on = "Available=False Degraded=True"))]
    ClientsPaused,
    /// The primary serves, but the kubelet does not call its pod Ready, so the Service leads to nobody.
    ///
    /// What to do: `kubectl describe pod` shows what the readiness probe saw.
    #[strum(props(on = "Available=False"))]
    PodNotReady,
    /// The primary hands its role over to another pod, and keeps writes waiting until that pod serves.
    ///
    /// What to do: wait; it takes less than a second when both answer.
    #[strum(props(on = "Available=False Progressing=True"))]
    SwitchingOver,
    /// The primary of record does not answer the operator, or does not answer a write.
    ///
    /// What to do: wait a moment. If it lasts, look at the pod, its node, and the `NetworkPolicies` between
    /// the operator and it.
    #[strum(props(on = "Available=Unknown"))]
    PrimaryUnreachable,
    /// No server takes writes; the message says why.
    ///
    /// What to do: while a set starts, or a new primary is chosen: wait. Otherwise see the reason of
    /// `Degraded`.
    #[strum(props(on = "Available=False"))]
    NoPrimary,
    /// Every wanted replica is verified; with `storage.ephemeral` the message says what that promises and
    /// what not.
    ///
    /// What to do: nothing; see docs/use/storage.md.
    #[strum(props(on = "Replicated=True"))]
    AllInSync,
    /// `replicas: 1`: no replica is wanted, the data has one copy; the message says what that cannot
    /// promise.
    ///
    /// What to do: raise `spec.replicas` if that is not meant; see docs/use/storage.md.
    #[strum(props(on = "Replicated=True"))]
    SingleServer,
    /// The named replicas are not in sync; their state says in which way.
    ///
    /// What to do: see the states of an instance below.
    #[strum(props(on = "Replicated=False"))]
    ReplicasNotInSync,
    /// The replicas that are not verified give no answer.
    ///
    /// What to do: look at their pods and nodes.
    #[strum(props(on = "Replicated=Unknown"))]
    ReplicasUnreachable,
    /// The first member starts and is promoted, the others follow one by one.
    ///
    /// What to do: wait; `kubectl describe pod` where it takes long.
    #[strum(props(on = "Progressing=True"))]
    Bootstrapping,
    /// Pods are replaced one at a time, because their template changed; the message says what it waits for.
    ///
    /// What to do: wait, or what the message says.
    #[strum(props(on = "Progressing=True"))]
    RollingOut,
    /// The operator changed the `StatefulSet`, and its controller has not taken the change up yet.
    ///
    /// What to do: wait; if it lasts, look at kube-controller-manager.
    #[strum(props(on = "Progressing=True"))]
    Applying,
    /// The primary is to move (annotation `replication.redis/switchover-to`, or its pod is to go), and
    /// cannot yet; the message says why. One reason is that the cluster's DNS does not lead the target's name to its
    /// pod: the primary would look for it with all writes paused. The primary serves meanwhile.
    ///
    /// What to do: wait until the pod that the message names is in sync, or name another. Where a name is the reason,
    /// look at the cluster's DNS (`kubectl -n kube-system get pods -l k8s-app=kube-dns`); the operator asks again every 5 s.
    #[strum(props(on = "Progressing=True"))]
    SwitchoverPending,
    /// `spec.storage.size` was raised and the volumes are not of that size yet; the message names each and
    /// what it waits for. The servers go on.
    ///
    /// What to do: wait; a driver that cannot grow a volume in use says `FileSystemResizePending`: delete
    /// the pod (a replica first).
    #[strum(props(on = "Progressing=True"))]
    VolumesGrowing,
    /// The servers are on their way to what the spec asks for.
    ///
    /// What to do: wait.
    #[strum(props(on = "Progressing=True"))]
    Converging,
    /// The set is being deleted, and the named finalizers keep it. Its servers are looked after (a primary
    /// that dies is replaced by another one); objects are left to Kubernetes.
    ///
    /// What to do: wait for the controller or person that set the finalizer, or ask them.
    #[strum(props(on = "Progressing=True"))]
    Deleting,
    /// Nothing is left to do.
    ///
    /// What to do: nothing.
    #[strum(props(on = "Progressing=False"))]
    UpToDate,
    /// `spec.paused` is true: the operator reports and changes nothing.
    ///
    /// What to do: set it to false.
    #[strum(props(on = "Progressing=False"))]
    Paused,
    /// Fewer pods are wanted, but it is not safe to remove one now; the message says why.
    ///
    /// What to do: what the message says.
    #[strum(props(on = "Progressing=False"))]
    ScaleDownHeld,
    /// The operator will not act on a guess; the message says which proof is missing.
    ///
    /// What to do: see the reason of `Degraded`.
    #[strum(props(on = "Progressing=False"))]
    Held,
    /// The last reconcile ended early; the operator tries again.
    ///
    /// What to do: see the reason of `Degraded`.
    #[strum(props(on = "Progressing=False"))]
    ReconcileFailed,
    /// Nothing needs a person's attention.
    ///
    /// What to do: nothing.
    #[strum(props(on = "Degraded=False"))]
    AsExpected,
    /// A pod cannot start; the message holds the kubelet's or scheduler's words.
    ///
    /// What to do: correct the image, the resources or the node; a reverted edit is taken up by itself.
    #[strum(props(on = "Degraded=True"))]
    PodStuck,
    /// The API server does not let a pod be made: a `ResourceQuota`, a `LimitRange`, Pod Security, an admission
    /// policy or webhook. The message names the pod and has the API server's words.
    ///
    /// What to do: raise the quota, change the policy, or change the spec to what they allow. The
    /// `StatefulSet` controller tries again by itself, less and less often, at last every 17 minutes; a new
    /// annotation of the `StatefulSet` makes it try at once (docs/use/troubleshooting.md).
    #[strum(props(on = "Degraded=True"))]
    PodRefused,
    /// The Secret with the application's password is gone, or its key `password` is, or is empty. The servers take what they took
    /// before; of a set that never had one, nobody can log in but the operator.
    ///
    /// What to do: create it again. With another password than before the operator brings that to the servers.
    #[strum(props(on = "Degraded=True CredentialsCurrent=False"))]
    SecretMissing,
    /// A server takes none of the passwords that the operator knows, so the operator cannot ask it: somebody changed its users by
    /// hand.
    ///
    /// What to do: delete its pod; it starts again with the users that the operator's Secret has.
    #[strum(props(on = "Degraded=True"))]
    PasswordRefused,
    /// Every server took a login with each password that the Secrets hold.
    ///
    /// What to do: nothing.
    #[strum(props(on = "CredentialsCurrent=True"))]
    AsInSecrets,
    /// `spec.auth.disabled` is set: whoever reaches the port can read, write and delete everything.
    ///
    /// What to do: remove `spec.auth.disabled`, unless a network policy or the like keeps others away.
    #[strum(props(on = "CredentialsCurrent=True"))]
    AuthDisabled,
    /// A password was changed. The servers take both; the message says since when, until when, and which server does not take
    /// the new one yet.
    ///
    /// What to do: give applications the new password before the former one ends (`spec.auth.grace`).
    #[strum(props(on = "CredentialsCurrent=False"))]
    Rotating,
    /// A server refuses a rule of `spec.users`; the message has its words. The user stays as it was, or is not made.
    ///
    /// What to do: correct the rule: a server of another version may know other commands and categories.
    #[strum(props(on = "CredentialsCurrent=False"))]
    UserRefused,
    /// A server does not take what the Secrets say, and the message has its words; or it gives no answer, and whether it does is
    /// unknown.
    ///
    /// What to do: see why it does not answer. The operator tells it again and again.
    #[strum(props(on = "CredentialsCurrent=False CredentialsCurrent=Unknown"))]
    NotTakenYet,
    /// A server has as many clients as `maxclients` allows, and refuses new ones, replicas among them.
    ///
    /// What to do: end clients, or raise `maxclients` in `spec.config`: the operator holds a connection to each server,
    /// over which it sets that without a restart.
    #[strum(props(on = "Degraded=True"))]
    MaxClientsReached,
    /// A server is not what it should be (foreign, or serving unasked).
    ///
    /// What to do: see the states of an instance below.
    #[strum(props(on = "Degraded=True"))]
    UnexpectedServer,
    /// No server takes writes, and a member that may hold the newest data does not answer.
    ///
    /// What to do: bring its pod and node back; the message says which, and which proof would let the
    /// operator go on without it. See docs/use/holds.md.
    #[strum(props(on = "Degraded=True"))]
    MemberUnreachable,
    /// The primary does not answer, and its replicas have left it: it takes no more writes in a few seconds, and then the
    /// one with the newest data is promoted (`spec.failover`, mode Quorum).
    ///
    /// What to do: wait.
    #[strum(props(on = "Degraded=True"))]
    FailingOver,
    /// No server takes writes, and `spec.failover.mode` is Manual: the message names whom the operator would promote.
    ///
    /// What to do: what the message says, or set the mode to Fenced or Quorum.
    #[strum(props(on = "Degraded=True"))]
    ManualFailover,
    /// No server takes writes, and a member still loads or receives data.
    ///
    /// What to do: wait.
    #[strum(props(on = "Degraded=True"))]
    MemberLoading,
    /// No server takes writes, and the members' data cannot be compared: none provably holds all of it.
    ///
    /// What to do: compare by hand, then consent; see docs/use/holds.md.
    #[strum(props(on = "Degraded=True"))]
    HistoriesDiffer,
    /// A server serves that the operator did not promote, and it may hold writes that no other has. Where the role was handed
    /// to it (`FAILOVER`) and every member follows it, the operator goes on with it by itself; the message says what is missing.
    ///
    /// What to do: what the message says is missing; or save what you need from it, then delete its pod: it comes back parked.
    #[strum(props(on = "Degraded=True"))]
    UnexpectedPrimary,
    /// The primary of record serves, but not by the operator's doing, and its data is older than
    /// another member's.
    ///
    /// What to do: delete its pod: it comes back parked, and the newest data is elected.
    #[strum(props(on = "Degraded=True"))]
    PrimaryOutranked,
    /// The pod of the primary was replaced, and no report says that its Redis has ended (the pod was
    /// deleted by force, or while no operator ran). It may still take writes, so the operator promotes
    /// no other.
    ///
    /// What to do: what the message says of its node; see docs/use/holds.md.
    #[strum(props(on = "Degraded=True"))]
    PreviousPrimaryUnproven,
    /// Pods of a deleted set of the same name still run; the operator starts no server beside them.
    ///
    /// What to do: wait until they have ended; on a lost node that needs the node back, deleted or marked
    /// out-of-service.
    #[strum(props(on = "Degraded=True"))]
    LeftoverPods,
    /// Every field can be carried out.
    ///
    /// What to do: nothing.
    #[strum(props(on = "SpecValid=True"))]
    Valid,
    /// Every field can be carried out, but `maxmemory` is more than 80 % of the container's memory limit.
    ///
    /// What to do: lower it or raise the limit (docs/use/config.md).
    #[strum(props(on = "SpecValid=True"))]
    MemoryTight,
    /// The operator did not read the spec in the last reconcile.
    ///
    /// What to do: see the reason of `Degraded`.
    #[strum(props(on = "SpecValid=Unknown"))]
    NotChecked,
    /// A field cannot be carried out, and the API server could not know it; for `spec.image`: the data
    /// could not be taken over. So it is where the API server refuses the `StatefulSet` that the spec asks for. The operator goes
    /// on looking, electing and reporting.
    ///
    /// What to do: correct the field that the message names.
    #[strum(props(on = "SpecValid=False Progressing=False Degraded=True Any=Unknown"))]
    InvalidSpec,
    /// The object was written under another CRD and cannot be read; the operator watches its servers and
    /// changes nothing.
    ///
    /// What to do: edit it until `kubectl apply` accepts it.
    #[strum(props(on = "SpecValid=False Degraded=True Any=Unknown"))]
    Unreadable,
    /// A server refuses a directive of `spec.config`; the message has its words. The servers keep the value
    /// that they have, the mounted file too, and everything else is carried out.
    ///
    /// What to do: correct or remove the directive (docs/use/config.md).
    #[strum(props(on = "SpecValid=False"))]
    DirectiveRefused,
    /// The API server does not let a volume grow to `spec.storage.size`; the message has its words.
    /// Everything else goes on, and it is tried again each minute.
    ///
    /// What to do: let the `StorageClass` allow it (`allowVolumeExpansion: true`) or raise the quota; or set
    /// the size back, which is allowed as long as this reason stands.
    #[strum(props(on = "SpecValid=False"))]
    VolumeGrowthRefused,
    /// A field was changed that Kubernetes does not allow to change on a `StatefulSet`.
    ///
    /// What to do: change it back, or create a new set.
    #[strum(props(on = "SpecValid=False Degraded=True Any=Unknown"))]
    ImmutableFieldChanged,
    /// An object with a name that this set needs exists and is not its own.
    ///
    /// What to do: rename the set, or remove that object.
    #[strum(props(on = "SpecValid=False Degraded=True Any=Unknown"))]
    NameTaken,
    /// The API server refused or failed a request.
    ///
    /// What to do: the message has its words; rights: compare with the chart's roles.
    #[strum(props(on = "Any=Unknown Degraded=True"))]
    ApiError,
    /// A command to a server failed; the operator decides again in the next reconcile.
    ///
    /// What to do: wait; if it lasts, look at the pod that the message names.
    #[strum(props(on = "Any=Unknown Degraded=True"))]
    CommandFailed,
    /// The `ConfigMap` `<name>-record` cannot be read as a record, and this operator began to lead after it was changed. One that
    /// knew the record puts it back by itself. Until then servers are asked and told of by the status of before, and
    /// nothing is decided. So it is with a paused set (`spec.paused`) whose record is missing: none is made.
    ///
    /// What to do: restore the `ConfigMap`, or delete it: the operator then builds it again from what
    /// all members answer; of a paused set, once `spec.paused` is unset.
    #[strum(props(on = "Degraded=True"))]
    RecordUnreadable,
    /// A reconcile took too long.
    ///
    /// What to do: look at the API server and the network; one of them is too slow.
    #[strum(props(on = "Any=Unknown Degraded=True"))]
    DeadlineExceeded,
    /// The operator failed on this set; other sets are served.
    ///
    /// What to do: report what the operator's log says; the operator tries again.
    #[strum(props(on = "Any=Unknown Degraded=True"))]
    Panicked,
    /// The operator did not ask the servers in the last reconcile.
    ///
    /// What to do: see the reason of `Degraded`.
    #[strum(props(on = "Any=Unknown"))]
    NotProbed,
}

impl Reason {
    /// As it stands in the API, in Events and in metrics.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// The conditions and statuses in which it can stand, in the form `Available=False Degraded=True`; `Any` is each condition
    /// that could not be judged.
    pub fn stands_in(self) -> &'static str {
        self.get_str("on").unwrap_or_default()
    }

    /// What it means and what to do, in two paragraphs.
    pub fn meaning(self) -> &'static str {
        self.get_documentation().unwrap_or_default()
    }
}
