//! What both programs on the real cluster do around their work.

use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};

use crate::{Failure, cluster::lab::Lab, machine};

/// Says what went wrong.
pub fn exit(ended: Result<(), Failure>) -> ExitCode {
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Works in a namespace of its own until the work is done or a signal comes, and removes the namespace.
pub fn in_lab(
    namespace: &'static str,
    image: Option<String>,
    work: impl AsyncFnOnce(&Lab) -> Result<(), Failure>,
) -> Result<(), Failure> {
    // Fails only if a provider is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    tokio::runtime::Runtime::new()?.block_on(async {
        let lab = Lab::enter(namespace, image).await?;
        println!("{}\n{}", machine::description()?, lab.versions);
        let ended = tokio::select! {
            ended = work(&lab) => ended,
            // Black holes end with what is dropped here.
            stopped = stopped() => stopped,
        };
        println!("removing the namespace {namespace}");
        lab.leave().await?;
        ended
    })
}

/// Waits for the signals by which a program is stopped.
async fn stopped() -> Result<(), Failure> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        interrupt = tokio::signal::ctrl_c() => interrupt?,
        _ = terminate.recv() => {}
    }
    Err("stopped by a signal".into())
}
