//! Logs: one line a change, as text or JSON.

use clap::ValueEnum;
use tracing_subscriber::{EnvFilter, fmt};

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines: one JSON object a line.
    Json,
}

/// Starts logging. `filter` is in the syntax of `tracing_subscriber::EnvFilter`, for example `info,kube=debug`.
pub fn init(format: LogFormat, filter: &str) -> Result<(), tracing_subscriber::filter::ParseError> {
    let filter = EnvFilter::builder().parse(filter)?;
    match format {
        LogFormat::Text => fmt().with_env_filter(filter).with_ansi(false).init(),
        LogFormat::Json => fmt().json().flatten_event(true).with_env_filter(filter).init(),
    }
    Ok(())
}
