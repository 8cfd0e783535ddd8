//! Which of several operators acts: the one that holds the Lease.
//!
//! The clock of another machine is never trusted: a foreign claim counts as expired when this process has seen it
//! unchanged for its whole duration, by its own monotonic clock (as client-go's leader election does).

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};
use thiserror::Error;
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

/// Name of the Lease, in the operator's own namespace.
pub const LEASE_NAME: &str = "redis-operator";
/// A claim that was not renewed for this long is free.
const DURATION: Duration = Duration::from_secs(10);
/// A leader that could not renew for this long stops acting, well before anybody else may begin.
const RENEW_DEADLINE: Duration = Duration::from_secs(7);
/// Between renewals, and between looks at a foreign claim.
const PERIOD: Duration = Duration::from_secs(2);
/// A standby whose API server answers looks once within this time.
const STANDBY_FIRST: Duration = Duration::from_secs(3);

/// The leader may no longer act.
#[derive(Debug, Error)]
#[error(
    "the Lease {LEASE_NAME} could not be renewed for {RENEW_DEADLINE:?}, or {holder} took it; stopping so that one operator acts"
)]
pub struct Lost {
    holder: String,
}

/// Until when this process may act. Asked at the moment of an act: a process that was frozen goes on where it stood, and
/// another leads by then.
#[derive(Clone, Debug, Default)]
pub struct Leadership(Arc<Mutex<Option<Instant>>>);

impl Leadership {
    /// Whether the last success is recent enough.
    pub fn holds(&self) -> bool {
        !self.left().is_zero()
    }

    /// Whether this process ever held the Lease.
    fn was_given(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// How long this process may still act without another success.
    fn left(&self) -> Duration {
        let claimed = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        claimed.map_or(Duration::ZERO, |claimed| RENEW_DEADLINE.saturating_sub(claimed.elapsed()))
    }

    /// Takes the time at which the claim that succeeded last was sent. Others count from when they see it, which is
    /// later.
    fn claimed(&self, sent: Instant) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(sent);
    }
}

/// One operator's view of the Lease.
pub struct LeaderElection {
    api: Api<Lease>,
    identity: String,
    now: fn() -> jiff::Timestamp,
    /// The foreign claim seen last, and since when it has been unchanged.
    seen: Option<(String, Instant)>,
    mandate: Leadership,
}

impl LeaderElection {
    /// An election in `namespace`, under this process' `identity`.
    pub fn new(client: Client, namespace: &str, identity: String, now: fn() -> jiff::Timestamp) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            identity,
            now,
            seen: None,
            mandate: Leadership::default(),
        }
    }

    /// What acts ask whether they may.
    pub fn mandate(&self) -> Leadership {
        self.mandate.clone()
    }

    /// Waits until this process holds the Lease.
    ///
    /// The claim that a restarted container finds under its own name is that of the process before it. Whoever waits as
    /// standby has seen which pods ended meanwhile, and this process has not: it frees the Lease and lets the others go
    /// first. Where that does not succeed, it waits until the claim expires, as they do.
    pub async fn acquire(&mut self) {
        if self.release().await {
            info!(
                identity = self.identity,
                "freed the Lease of the process before this one; a standby goes first"
            );
            sleep(STANDBY_FIRST).await;
        }
        loop {
            let sent = Instant::now();
            match timeout(RENEW_DEADLINE, self.claim()).await {
                Ok(Ok(Claim::Held)) => {
                    self.mandate.claimed(sent);
                    info!(identity = self.identity, "leading");
                    return;
                }
                Ok(Ok(Claim::Foreign(_))) => {}
                Ok(Err(error)) => warn!(error = crate::error_chain::chain(&error), "cannot claim the Lease"),
                Err(_) => warn!("the API server does not answer the claim of the Lease"),
            }
            sleep(PERIOD).await;
        }
    }

    /// Renews until that fails for too long or somebody else holds the Lease.
    pub async fn keep(&mut self) -> Lost {
        loop {
            sleep(PERIOD.min(self.mandate.left())).await;
            let (sent, left) = (Instant::now(), self.mandate.left());
            match timeout(left, self.claim()).await {
                Ok(Ok(Claim::Held)) => self.mandate.claimed(sent),
                Ok(Ok(Claim::Foreign(holder))) => return Lost { holder },
                Ok(Err(error)) => warn!(error = crate::error_chain::chain(&error), "cannot renew the Lease"),
                Err(_) => {}
            }
            if !self.mandate.holds() {
                return Lost { holder: "somebody else".to_owned() };
            }
        }
    }

    /// Frees the Lease if it bears this identity, so that the next operator need not wait for it to expire. Returns
    /// whether it did.
    pub async fn release(&mut self) -> bool {
        let Ok(Ok(Some(mut lease))) = timeout(PERIOD, self.api.get_opt(LEASE_NAME)).await else {
            return false;
        };
        let spec = lease.spec.get_or_insert_default();
        if spec.holder_identity.as_deref() != Some(&self.identity) {
            return false;
        }
        spec.holder_identity = None;
        // Fails only if somebody wrote since; then it is no longer ours to free.
        let freed = timeout(PERIOD, self.api.replace(LEASE_NAME, &PostParams::default(), &lease)).await;
        matches!(freed, Ok(Ok(_)))
    }

    async fn claim(&mut self) -> Result<Claim, kube::Error> {
        let Some(lease) = self.api.get_opt(LEASE_NAME).await? else {
            let fresh = Lease {
                metadata: ObjectMeta { name: Some(LEASE_NAME.to_owned()), ..ObjectMeta::default() },
                spec: Some(self.spec(0, None)),
            };
            return accept(self.api.create(&PostParams::default(), &fresh).await);
        };
        let spec = lease.spec.clone().unwrap_or_default();
        let holder = spec.holder_identity.clone().unwrap_or_default();
        let mine = holder == self.identity && self.mandate.was_given();
        if !holder.is_empty() && !mine {
            let claim = format!("{holder} {:?} {:?}", spec.renew_time, lease.metadata.resource_version);
            match &self.seen {
                Some((seen, since)) if *seen == claim && since.elapsed() >= DURATION => {}
                Some((seen, _)) if *seen == claim => return Ok(Claim::Foreign(holder)),
                _ => {
                    self.seen = Some((claim, Instant::now()));
                    return Ok(Claim::Foreign(holder));
                }
            }
        }
        let transitions = spec.lease_transitions.unwrap_or(0) + i32::from(!mine);
        let since = if mine { spec.acquire_time } else { None };
        // The resourceVersion of what was read makes this fail if anybody wrote in between.
        let claimed = Lease { spec: Some(self.spec(transitions, since)), ..lease };
        accept(self.api.replace(LEASE_NAME, &PostParams::default(), &claimed).await)
    }

    fn spec(&self, transitions: i32, since: Option<MicroTime>) -> LeaseSpec {
        let now = MicroTime((self.now)());
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
            acquire_time: Some(since.unwrap_or_else(|| now.clone())),
            renew_time: Some(now),
            lease_transitions: Some(transitions),
            ..LeaseSpec::default()
        }
    }
}

enum Claim {
    Held,
    Foreign(String),
}

/// A write that lost a race is a foreign claim, not an error.
fn accept(written: Result<Lease, kube::Error>) -> Result<Claim, kube::Error> {
    match written {
        Ok(_) => Ok(Claim::Held),
        Err(kube::Error::Api(status)) if status.is_conflict() || status.is_already_exists() => {
            Ok(Claim::Foreign("somebody who wrote first".to_owned()))
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubernetes::fake_api::FakeApi;
    use serde_json::{Value, json};

    fn election(api: &FakeApi) -> LeaderElection {
        LeaderElection::new(api.client(), "system", "me".to_owned(), || jiff::Timestamp::UNIX_EPOCH)
    }

    fn lease(holder: Option<&str>) -> Value {
        json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": LEASE_NAME, "namespace": "system", "resourceVersion": "5"},
            "spec": {"holderIdentity": holder, "leaseTransitions": 3, "acquireTime": "2026-01-01T00:00:00.000000Z"},
        })
    }

    const PATH: &str = "/apis/coordination.k8s.io/v1/namespaces/system/leases";

    #[tokio::test]
    async fn a_lease_that_is_not_there_is_made() {
        let api = FakeApi::answering([(404, FakeApi::status(404, "NotFound")), (201, lease(Some("me")))]);
        assert!(matches!(election(&api).claim().await, Ok(Claim::Held)));
        let requests = api.requests();
        assert_eq!((requests[1].method.as_str(), requests[1].path.as_str()), ("POST", PATH));
        let spec = &requests[1].body["spec"];
        assert_eq!((&spec["holderIdentity"], &spec["leaseDurationSeconds"]), (&json!("me"), &json!(10)));
    }

    #[tokio::test]
    async fn a_free_lease_and_ones_own_are_claimed_on_condition() {
        for (holder, transitions, acquired) in [
            (None, 4, "1970-01-01T00:00:00.000000Z"),
            (Some(""), 4, "1970-01-01T00:00:00.000000Z"),
            (Some("me"), 3, "2026-01-01T00:00:00.000000Z"),
        ] {
            let api = FakeApi::answering([(200, lease(holder)), (200, lease(Some("me")))]);
            let mut election = election(&api);
            election.mandate.claimed(Instant::now());
            assert!(matches!(election.claim().await, Ok(Claim::Held)));
            let claim = &api.requests()[1];
            assert_eq!(claim.method, "PUT");
            assert_eq!(claim.body["metadata"]["resourceVersion"], "5", "or two could claim at once");
            let spec = &claim.body["spec"];
            assert_eq!(
                (&spec["leaseTransitions"], &spec["acquireTime"]),
                (&json!(transitions), &json!(acquired))
            );
        }
    }

    #[tokio::test]
    async fn a_foreign_claim_stands_until_it_was_unchanged_for_its_duration() {
        let api = FakeApi::answering([
            (200, lease(Some("other"))),
            (200, lease(Some("other"))),
            (200, lease(Some("other"))),
            (200, lease(Some("me"))),
        ]);
        let mut election = election(&api);
        // Whatever its times say: the first look proves nothing.
        assert!(matches!(election.claim().await, Ok(Claim::Foreign(holder)) if holder == "other"));
        assert!(matches!(election.claim().await, Ok(Claim::Foreign(_))));
        assert!(api.requests().iter().all(|request| request.method == "GET"));
        let (seen, _) = election.seen.take().unwrap();
        election.seen = Instant::now().checked_sub(DURATION).map(|since| (seen, since));
        assert!(matches!(election.claim().await, Ok(Claim::Held)));
        assert_eq!(api.requests()[3].body["spec"]["leaseTransitions"], 4);
    }

    #[tokio::test]
    async fn a_renewed_foreign_claim_counts_anew() {
        let mut renewed = lease(Some("other"));
        renewed["metadata"]["resourceVersion"] = json!("6");
        let api = FakeApi::answering([(200, lease(Some("other"))), (200, renewed)]);
        let mut election = election(&api);
        assert!(matches!(election.claim().await, Ok(Claim::Foreign(_))));
        let (seen, _) = election.seen.take().unwrap();
        election.seen = Instant::now().checked_sub(DURATION).map(|since| (seen, since));
        assert!(matches!(election.claim().await, Ok(Claim::Foreign(_))));
        assert_eq!(api.requests().len(), 2);
    }

    #[tokio::test]
    async fn who_writes_second_does_not_hold_it() {
        let conflict = (409, FakeApi::status(409, "Conflict"));
        let exists = (409, FakeApi::status(409, "AlreadyExists"));
        for answers in [[(200, lease(None)), conflict], [(404, FakeApi::status(404, "NotFound")), exists]] {
            let api = FakeApi::answering(answers);
            assert!(matches!(election(&api).claim().await, Ok(Claim::Foreign(_))));
        }
        let api = FakeApi::answering([(200, lease(None)), (403, FakeApi::status(403, "Forbidden"))]);
        assert!(election(&api).claim().await.is_err());
    }

    #[tokio::test]
    async fn only_ones_own_claim_is_released() {
        let api = FakeApi::answering([(200, lease(Some("me"))), (200, lease(None))]);
        assert!(election(&api).release().await);
        let freed = &api.requests()[1];
        assert_eq!((freed.method.as_str(), freed.body["spec"].get("holderIdentity")), ("PUT", None));
        assert_eq!(freed.body["metadata"]["resourceVersion"], "5");
        let api = FakeApi::answering([(200, lease(Some("other")))]);
        assert!(!election(&api).release().await);
        assert_eq!(api.requests().len(), 1);
        let conflict = (409, FakeApi::status(409, "Conflict"));
        let api = FakeApi::answering([(200, lease(Some("me"))), conflict]);
        assert!(!election(&api).release().await, "somebody wrote first");
    }

    #[tokio::test]
    async fn the_claim_of_the_process_before_is_offered_to_a_standby_first() {
        // Nobody waits: it is free again when this process asks.
        let alone =
            [(200, lease(Some("me"))), (200, lease(None)), (200, lease(None)), (200, lease(Some("me")))];
        let api = FakeApi::answering(alone);
        let begun = Instant::now();
        election(&api).acquire().await;
        let holders: Vec<_> =
            api.requests().iter().map(|r| r.body["spec"]["holderIdentity"].clone()).collect();
        assert_eq!(
            holders,
            [json!(null), json!(null), json!(null), json!("me")],
            "read, freed, read, claimed"
        );
        assert!(begun.elapsed() >= PERIOD, "a standby has looked by then");
        // It cannot be freed: it expires as anybody's.
        let api = FakeApi::answering([(200, lease(Some("me"))), (200, lease(Some("me")))]);
        let mut election_again = election(&api);
        assert!(matches!(election_again.claim().await, Ok(Claim::Foreign(holder)) if holder == "me"));
        assert!(matches!(election_again.claim().await, Ok(Claim::Foreign(_))));
        // A first start does not wait.
        let api = FakeApi::answering([(200, lease(None)), (200, lease(None)), (200, lease(Some("me")))]);
        let begun = Instant::now();
        election(&api).acquire().await;
        assert!(begun.elapsed() < PERIOD);
    }

    #[test]
    fn a_leader_stops_before_another_may_begin() {
        let api = FakeApi::answering([]);
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let _guard = runtime.enter();
        let election = election(&api);
        let mandate = election.mandate();
        assert!(!mandate.holds(), "without a claim");
        election.mandate.claimed(Instant::now());
        assert!(mandate.holds());
        election.mandate.claimed(Instant::now().checked_sub(RENEW_DEADLINE).unwrap());
        assert!(!mandate.holds());
        assert!(RENEW_DEADLINE + PERIOD < DURATION, "clocks may run differently fast");
        assert!(PERIOD < STANDBY_FIRST, "a standby has looked before a restarted leader claims again");
    }
}
