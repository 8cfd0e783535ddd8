//! `/livez`, `/readyz` and `/metrics`.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use tokio::{net::TcpListener, sync::watch};

use crate::metrics::Metrics;

/// How far the process is with its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Waiting for the API server to serve our kind.
    WaitingForKind,
    /// Another operator leads; this one is ready to take over.
    Standby,
    /// This operator leads.
    Leading,
}

#[derive(Clone)]
struct Served {
    metrics: Arc<Metrics>,
    phase: watch::Receiver<Phase>,
}

/// Serves until the future of `shutdown` completes.
pub async fn serve(
    listen: SocketAddr,
    metrics: Arc<Metrics>,
    phase: watch::Receiver<Phase>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let routes = Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(render))
        .with_state(Served { metrics, phase });
    axum::serve(TcpListener::bind(listen).await?, routes).with_graceful_shutdown(shutdown).await
}

/// Ready means: could act now, or take over at once.
async fn readyz(State(served): State<Served>) -> impl IntoResponse {
    match *served.phase.borrow() {
        Phase::WaitingForKind => (
            StatusCode::SERVICE_UNAVAILABLE,
            "the API server does not serve redisreplicasets.replication.redis yet; install the CRD\n",
        ),
        Phase::Standby => (StatusCode::OK, "standby: another operator holds the Lease\n"),
        Phase::Leading => (StatusCode::OK, "leading\n"),
    }
}

async fn render(State(served): State<Served>) -> impl IntoResponse {
    match served.metrics.render() {
        Ok(text) => (
            StatusCode::OK,
            [(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")],
            text,
        )
            .into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
