//! Telling running servers the directives that can be changed while they run.

use std::collections::BTreeMap;

use tracing::info;

use super::{ActError, connection, redis};
use crate::{observe::Connections, redis::connection::Connection};
use operator_core::live_config::{self, AppliedConfig, Refused, Report, Server, Setting};
use redis_node::answer::ProbeFailure;

const WHAT: &str = "configure";

/// `CONFIG GET`, and `CONFIG SET` for what is not as wanted, server by server in the order given. A value that one
/// refuses is not offered to those after it. At rest: one question a server, of all of them.
///
/// # Errors
/// A server that does not answer; those after it are not told either. `told` holds what was done until then.
pub async fn configure(
    connections: &mut Connections,
    servers: &[Server],
    wanted: &BTreeMap<String, String>,
    told: &mut AppliedConfig,
) -> Result<Report, ActError> {
    told.retain(|run_id, _| servers.iter().any(|server| server.run_id == *run_id));
    let mut report = Report::default();
    for server in servers {
        let connection = connection(connections, &server.pod, WHAT)?;
        let done = tell(connection, server, wanted, told, &mut report).await;
        done.map_err(|source| redis(WHAT, &server.pod, source))?;
    }
    Ok(report)
}

/// Tells one server, and adds to what the others have said.
///
/// # Errors
/// It does not answer.
pub async fn tell(
    connection: &mut Connection,
    server: &Server,
    wanted: &BTreeMap<String, String>,
    told: &mut AppliedConfig,
    report: &mut Report,
) -> Result<(), ProbeFailure> {
    let pod = &server.pod;
    let known = told.get(&server.run_id);
    let before = connection.config(wanted).await?;
    let mut settings: BTreeMap<String, Setting> = known.cloned().unwrap_or_default();
    settings.retain(|name, _| wanted.contains_key(name));
    let mut taken = Vec::new();
    for name in live_config::due(wanted, known, &before) {
        if report.declines(&name) {
            continue;
        }
        let Some(value) = wanted.get(&name) else { continue };
        // In the same words it is the same value; other words may be too, and only the server knows.
        if before.get(&name) == Some(value) {
            settings.insert(name, Setting { value: value.clone(), reading: Some(value.clone()) });
            continue;
        }
        match connection.set_config(&name, &live_config::argument(value)).await? {
            Ok(()) => taken.push((name, value)),
            Err(words) if live_config::is_start_only(&words, before.contains_key(&name)) => {
                report.start_only.insert(name);
            }
            Err(words) => report.refused.push(Refused { pod: pod.clone(), name, words }),
        }
    }
    if taken.is_empty() {
        told.insert(server.run_id.clone(), settings);
        return Ok(());
    }
    let after = connection.config(wanted).await?;
    for (name, value) in taken {
        let reading = after.get(&name).cloned();
        if reading.as_ref() != before.get(&name) {
            info!(pod, directive = name, from = before.get(&name), to = reading, "set");
        }
        settings.insert(name, Setting { value: value.clone(), reading });
    }
    report.repaired.extend(live_config::repaired(pod, known, &before, &settings));
    told.insert(server.run_id.clone(), settings);
    Ok(())
}
