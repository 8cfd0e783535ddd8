//! Which of several operators acts: the one that holds the Lease.
//!
//! The clock of another machine is never trusted: a foreign claim counts as expired when this process has seen it
//! unchanged for its whole duration, by its own monotonic clock (as client-go's leader election does).

use std::time::Duration;

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

/// The leader may no longer act.
#[derive(Debug, Error)]
#[error(
    "the Lease {LEASE_NAME} could not be renewed for {RENEW_DEADLINE:?}, or {holder} took it; stopping so that one operator acts"
)]
pub struct Lost {
    holder: String,
}

/// One operator's view of the Lease.
pub struct LeaderElection {
    api: Api<Lease>,
    identity: String,
    now: fn() -> jiff::Timestamp,
    /// The foreign claim seen last, and since when it has been unchanged.
    seen: Option<(String, Instant)>,
}

impl LeaderElection {
    /// An election in `namespace`, under this process' `identity`.
    pub fn new(client: Client, namespace: &str, identity: String, now: fn() -> jiff::Timestamp) -> Self {
        Self { api: Api::namespaced(client, namespace), identity, now, seen: None }
    }

    /// Waits until this process holds the Lease.
    pub async fn acquire(&mut self) {
        loop {
            match timeout(RENEW_DEADLINE, self.claim()).await {
                Ok(Ok(Claim::Held)) => {
                    info!(identity = self.identity, "leading");
                    return;
                }
                Ok(Ok(Claim::Foreign(_))) => {}
                Ok(Err(error)) => warn!(error = crate::error::chain(&error), "cannot claim the Lease"),
                Err(_) => warn!("the API server does not answer the claim of the Lease"),
            }
            sleep(PERIOD).await;
        }
    }

    /// Renews until that fails for too long or somebody else holds the Lease.
    pub async fn keep(&mut self) -> Lost {
        let mut renewed = Instant::now();
        loop {
            sleep(PERIOD).await;
            let left = RENEW_DEADLINE.saturating_sub(renewed.elapsed());
            match timeout(left, self.claim()).await {
                Ok(Ok(Claim::Held)) => renewed = Instant::now(),
                Ok(Ok(Claim::Foreign(holder))) => return Lost { holder },
                Ok(Err(error)) => warn!(error = crate::error::chain(&error), "cannot renew the Lease"),
                Err(_) => {}
            }
            if renewed.elapsed() >= RENEW_DEADLINE {
                return Lost { holder: "somebody else".to_owned() };
            }
        }
    }

    /// Frees the Lease, so that the next operator need not wait for it to expire.
    pub async fn release(&mut self) {
        let Ok(Ok(Some(mut lease))) = timeout(PERIOD, self.api.get_opt(LEASE_NAME)).await else { return };
        let spec = lease.spec.get_or_insert_default();
        if spec.holder_identity.as_deref() != Some(&self.identity) {
            return;
        }
        spec.holder_identity = None;
        // Fails only if somebody wrote since; then it is no longer ours to free.
        let _ = timeout(PERIOD, self.api.replace(LEASE_NAME, &PostParams::default(), &lease)).await;
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
        if !holder.is_empty() && holder != self.identity {
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
        let mine = holder == self.identity;
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
