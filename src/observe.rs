//! Looking: the pods of a set as the watch shows them, and what every Redis says now.
//!
//! What fails is part of the look, never an error that ends the reconcile.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::{StreamExt, stream};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::{ResourceExt, runtime::reflector::Store};
use operator_core::{
    observed::{
        NoAnswer, Observed,
        pod::{has_new_address, not_started, observed_pod},
    },
    subject::Subject,
};
use redis_node::{files::REDIS_PORT, login::Login};

use crate::{
    cache::{Packed, pods_of},
    leadership::Leadership,
    redis::{
        connection::Connection,
        pool::Pool,
        server::{Logins, Target},
    },
};

/// Time that one Redis has to answer everything: connection, password, INFO. A healthy one needs milliseconds; one
/// that is busy with a script stays silent for 5 s, and its state is unknown either way.
pub const PROBE_DEADLINE: Duration = Duration::from_secs(2);

/// How many servers of one set are asked at the same time; a set has at most nine.
const PROBES_AT_ONCE: usize = 9;

/// The connections over which a look was taken, by pod name. An act goes over these and no others, so that it
/// reaches the process that was seen, and only while this operator leads.
#[derive(Debug, Default)]
pub struct Connections {
    open: BTreeMap<String, Connection>,
    /// As whom replicas copy.
    replica: Option<Login>,
    mandate: Leadership,
}

impl Connections {
    /// The pods whose servers answered.
    pub fn pods(&self) -> Vec<String> {
        self.open.keys().cloned().collect()
    }

    /// A login that a server of the set has accepted.
    pub fn login(&self) -> Option<Login> {
        self.open.values().next().map(Connection::login)
    }

    /// As whom the servers copy from each other.
    pub fn replica(&self) -> Option<Login> {
        self.replica.clone()
    }

    /// The connection to a pod's server; none where it did not answer, or where this operator no longer leads.
    pub fn get_mut(&mut self, pod: &str) -> Option<&mut Connection> {
        if self.mandate.holds() { self.open.get_mut(pod) } else { None }
    }
}

/// Looks at all pods of a set. A DNS answer for a pod may be out of date for `dns_stale`; acts over the connections are allowed for
/// as long as the mandate holds.
pub async fn observe(
    (pods, servers, dns_stale): (&Store<Packed<Pod>>, &Pool, Duration),
    mandate: &Leadership,
    subject: &Subject,
    logins: Option<&Arc<Logins>>,
    now: Timestamp,
) -> (Observed, Connections) {
    let mut mine: Vec<(i32, Arc<Pod>)> = pods_of(pods, &subject.set)
        .into_iter()
        .filter_map(|pod| Some((subject.set.ordinal(&pod.name_any())?, pod)))
        .collect();
    mine.sort_by_key(|(ordinal, _)| *ordinal);

    let asked = stream::iter(mine.into_iter().map(|(ordinal, pod)| {
        let target = target(subject, ordinal, &pod, logins);
        let server = servers.server(&subject.set, &pod.uid().unwrap_or_default());
        async move {
            let answer = match target {
                Ok(target) => match server.ask_again(&target, PROBE_DEADLINE).await {
                    Ok(answered) => Ok(answered),
                    Err(failure) => Err(not_started(&pod, &failure).unwrap_or(NoAnswer::Failed(failure))),
                },
                Err(why) => Err(why),
            };
            (ordinal, pod, answer)
        }
    }))
    .buffered(PROBES_AT_ONCE)
    .collect::<Vec<_>>()
    .await;

    let mut observed = Observed::default();
    let mut connections = Connections {
        open: BTreeMap::new(),
        replica: logins.map(|logins| logins.replica.clone()),
        mandate: mandate.clone(),
    };
    for (ordinal, pod, answer) in asked {
        let answer = answer.map(|(answer, connection)| {
            connections.open.insert(pod.name_any(), connection);
            answer
        });
        let new_address = has_new_address(&pod, now, dns_stale);
        observed.pods.push(observed_pod(ordinal, &pod, new_address, answer, now));
    }
    (observed, connections)
}

/// Whom to ask for a pod, or why nobody can be asked.
pub fn target(
    subject: &Subject,
    ordinal: i32,
    pod: &Pod,
    logins: Option<&Arc<Logins>>,
) -> Result<Target, NoAnswer> {
    let address = pod.status.as_ref().and_then(|s| s.pod_ip.as_ref()).and_then(|ip| ip.parse().ok());
    let Some(address) = address else { return Err(NoAnswer::NotStarted) };
    let Some(logins) = logins else { return Err(NoAnswer::NoPassword) };
    Ok(Target {
        host: subject.set.fqdn(ordinal, &subject.cluster_domain),
        address,
        port: REDIS_PORT,
        logins: Arc::clone(logins),
    })
}
