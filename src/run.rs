//! `redis-operator run`: from settings to a running operator, and its clean end.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client, Config,
    api::ListParams,
    client::ClientBuilder,
    runtime::{
        events::{Recorder, Reporter},
        reflector::{self, Store},
    },
};
use operator_core::api::RedisReplicaSet;
use thiserror::Error;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
    time::sleep,
};
use tracing::{info, warn};

use crate::{
    cache::Packed,
    cli::Run,
    cluster_dns::ClusterDns,
    context::Context,
    controller::{self, Wiring},
    error_chain::chain,
    http::{self, Phase},
    kubernetes::{claims, stores::Stores},
    leadership::{LeaderElection, Leadership, Lost},
    limits::raise_open_files,
    memory::Memory,
    metrics::Metrics,
    reconcile::DEADLINE,
    redis::pool::Pool,
    watch::{
        Trigger,
        pods::{self, Terminations},
        servers::Monitor,
    },
};

/// Between looks for our kind on the API server.
const KIND_RETRY: Duration = Duration::from_secs(2);

/// A connection to the API server over which nothing came for so long is given up.
const API_SILENCE: Duration = Duration::from_secs(60);

/// Time that running reconciles have to end at shutdown; the pod's grace period is longer.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(10);

/// Why the operator ended other than by a signal.
#[derive(Debug, Error)]
pub enum RunError {
    /// No cluster is configured.
    #[error("cannot find a cluster: set KUBECONFIG, or run in a pod with a service account")]
    NoCluster(#[source] kube::Error),
    /// No kubeconfig and no service account.
    #[error("cannot read the cluster's configuration")]
    Config(#[from] kube::config::InferConfigError),
    /// The address of `--listen` cannot be served.
    #[error("cannot serve health and metrics on {0}")]
    Listen(std::net::SocketAddr, #[source] std::io::Error),
    /// Signals cannot be received.
    #[error("cannot receive signals")]
    Signals(#[source] std::io::Error),
    /// The controller ended without being told to.
    #[error("the controller ended by itself; its log says why. Restarting helps; please report it")]
    ControllerEnded,
    /// The watch of pods ended without being told to: nothing in the cache would be true any more.
    #[error("the watch of pods ended by itself; its log says why. Restarting helps; please report it")]
    WatchEnded,
    /// Another operator leads now.
    #[error(transparent)]
    Lost(#[from] Lost),
}

/// Runs until a signal ends it, or until the Lease is lost.
pub async fn run(settings: Run) -> Result<(), RunError> {
    raise_open_files();
    let metrics = Arc::new(Metrics::default());
    let client = client(Arc::clone(&metrics)).await?;
    let (phase, phase_seen) = watch::channel(Phase::WaitingForKind);
    let (stop, stopping) = watch::channel(false);
    let mut signalled = Box::pin(signalled()?);

    let listening = http::serve(settings.listen, Arc::clone(&metrics), phase_seen, stopped(stopping.clone()));
    let listen = settings.listen;
    let mut listening = tokio::spawn(listening);

    let (trigger, triggers) = controller::triggers();
    let (pods, cache) = reflector::store();
    let ends = Arc::new(Terminations::default());
    let pods_api = controller::scoped(&client, settings.namespace());
    let watching = pods::watch(pods_api, cache, Arc::clone(&ends), phase.subscribe(), trigger.clone());
    let mut watching = tokio::spawn(watching);

    let mut election = LeaderElection::new(
        client.clone(),
        &settings.lease_namespace,
        settings.identity.clone(),
        controller::now,
    );
    let lead = async {
        wait_for_kind(&client, settings.namespace()).await;
        phase.send_replace(Phase::Standby);
        election.acquire().await;
    };
    tokio::select! {
        () = &mut signalled => {
            stop.send_replace(true);
            return Ok(());
        }
        ended = &mut listening => return Err(cannot_listen(listen, ended)),
        _ = &mut watching => return Err(RunError::WatchEnded),
        () = lead => {}
    }
    phase.send_replace(Phase::Leading);
    metrics.set_leader(true);

    let (stores, writers) = Stores::new();
    let watched = (pods, stores, ends);
    let context = Arc::new(context(&settings, &client, watched, election.mandate(), &metrics, trigger));
    info!(settings = ?context.settings, namespace = settings.namespace().unwrap_or("(all)"), "running");
    let wiring = Wiring {
        client: client.clone(),
        namespace: settings.namespace().map(str::to_owned),
        writers,
        triggers,
    };
    let mut reconciles = tokio::spawn(controller::run(wiring, context, stopped(stopping)));

    let outcome = tokio::select! {
        () = &mut signalled => Ok(()),
        lost = election.keep() => Err(RunError::from(lost)),
        ended = &mut listening => Err(cannot_listen(listen, ended)),
        // The watches end only if this process failed.
        _ = &mut watching => return Err(RunError::WatchEnded),
        _ = &mut reconciles => return Err(RunError::ControllerEnded),
    };
    stop.send_replace(true);
    // Who may no longer act ends at once, with all reconciles: another operator may begin any moment.
    outcome?;
    info!("stopping: running reconciles may end");
    if tokio::time::timeout(SHUTDOWN_GRACE, reconciles).await.is_err() {
        warn!("reconciles did not end in time; what they began is found again by the next operator");
    }
    election.release().await;
    Ok(())
}

/// What every reconcile shares.
fn context(
    settings: &Run,
    client: &Client,
    (pods, stores, ends): (Store<Packed<Pod>>, Stores, Arc<Terminations>),
    mandate: Leadership,
    metrics: &Arc<Metrics>,
    trigger: Trigger,
) -> Context {
    Context {
        client: client.clone(),
        settings: settings.settings(),
        pods,
        stores,
        mandate,
        deadline: DEADLINE,
        ends,
        dns_stale: settings.dns_stale(),
        dns: ClusterDns { is_asked: settings.ask_dns },
        recorder: recorder(client.clone(), settings.identity.clone()),
        metrics: Arc::clone(metrics),
        servers: Pool::default(),
        monitor: Monitor::new(trigger),
        memory: Memory::default(),
        claims: claims::Memory::default(),
    }
}

async fn client(metrics: Arc<Metrics>) -> Result<Client, RunError> {
    let mut config = Config::infer().await?;
    // Longer than a watch lasts: a list that nobody answers would hold it up for ever.
    config.read_timeout = Some(API_SILENCE);
    config.reset_reader_on_write = true;
    let counted =
        tower::layer::layer_fn(move |inner| crate::metrics::Counted::new(inner, Arc::clone(&metrics)));
    Ok(ClientBuilder::try_from(config).map_err(RunError::NoCluster)?.with_layer(&counted).build())
}

#[expect(clippy::disallowed_methods, reason = "the one Recorder of the process")]
fn recorder(client: Client, instance: String) -> Recorder {
    Recorder::new(client, Reporter { controller: "redis-operator".to_owned(), instance: Some(instance) })
}

/// The CRD may be installed after the operator: wait for it rather than fail.
async fn wait_for_kind(client: &Client, namespace: Option<&str>) {
    let sets: Api<RedisReplicaSet> = match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    };
    while let Err(error) = sets.list_metadata(&ListParams::default().limit(1)).await {
        warn!(error = chain(&error), "the API server does not serve redisreplicasets.replication.redis yet");
        sleep(KIND_RETRY).await;
    }
}

fn signalled() -> Result<impl Future<Output = ()>, RunError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(RunError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(RunError::Signals)?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

async fn stopped(mut stopping: watch::Receiver<bool>) {
    // An error means that the sender is gone, which is the end as well.
    let _ = stopping.wait_for(|stop| *stop).await;
}

fn cannot_listen(
    address: std::net::SocketAddr,
    ended: Result<std::io::Result<()>, tokio::task::JoinError>,
) -> RunError {
    let source = match ended {
        Ok(Err(error)) => error,
        Ok(Ok(())) => std::io::Error::other("the server ended"),
        Err(panicked) => std::io::Error::other(panicked),
    };
    RunError::Listen(address, source)
}
