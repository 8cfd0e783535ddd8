//! What every reconcile shares.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::Pod;
use kube::{
    Client,
    runtime::{events::Recorder, reflector::Store},
};
use operator_core::settings::Settings;

use crate::{
    cache::Packed,
    cluster_dns::ClusterDns,
    kubernetes::{claims, stores::Stores},
    leadership::Leadership,
    memory::Memory,
    metrics::Metrics,
    redis::pool::Pool,
    watch::{pods::Terminations, servers::Monitor},
};

/// Clients, caches and settings of the process.
pub struct Context {
    /// Client of the API server.
    pub client: Client,
    /// What the operator was told at its start.
    pub settings: Settings,
    /// All pods of all sets, as the watch shows them.
    pub pods: Store<Packed<Pod>>,
    /// Their other objects, as the watches show them.
    pub stores: Stores,
    /// Until when this process may act.
    pub mandate: Leadership,
    /// A reconcile that takes longer is given up.
    pub deadline: Duration,
    /// The ends of Redis containers that the watch has shown.
    pub ends: Arc<Terminations>,
    /// For how long a DNS answer may be out of date.
    pub dns_stale: Duration,
    /// By which names of pods are looked up.
    pub dns: ClusterDns,
    /// The one publisher of Events.
    pub recorder: Recorder,
    /// Figures of the process.
    pub metrics: Arc<Metrics>,
    /// The servers of all sets, each with the connection that is held to it.
    pub servers: Pool,
    /// What watches them.
    pub monitor: Monitor,
    /// What the process remembers of each set between reconciles.
    pub memory: Memory,
    /// What the process remembers of each set's volumes.
    pub claims: claims::Memory,
}
