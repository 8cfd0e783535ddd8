//! Every server takes what the Secrets say, and nothing else.

use std::collections::HashMap;

use super::stages::{Job, Seen};
use crate::{memory::ToldUsers, redis::connection::Connection};
use operator_core::{
    acl::User,
    credentials::{Application, Internal, Missing, Report},
    events,
    status::outcome::Outcome,
};
use redis_node::{
    answer::ProbeFailure,
    login::{DEFAULT_USER, Login},
};

/// Tells each server its users, and finds out by logging in whether it takes the current passwords.
pub(super) async fn keep_users(job: &Job<'_>, seen: &mut Seen, outcome: &mut Outcome) {
    let (memory, subject) = (&job.ctx.memory, job.subject);
    let Some(secrets) = memory.last_secrets(&subject.set, &subject.uid) else { return };
    let Some(stored) = secrets.internal.filter(|_| !subject.is_left_alone()) else { return };
    let internal = stored.internal;
    let application = match &secrets.application {
        Application::Password(password) => Some(Login::of_default(password.clone())),
        Application::Open | Application::Unknown => None,
    };
    let logins: Vec<Login> =
        [internal.own.agent(), internal.own.replica()].into_iter().chain(application).collect();
    let before = memory.users_told(&subject.set);
    let mut after = ToldUsers::new();
    let mut missing = Vec::new();
    for pod in &seen.look.observed.pods {
        let run_id = pod.answer.as_ref().ok().map(|answer| answer.info.server.run_id.clone());
        let (Some(connection), Some(run_id)) = (seen.connections.get_mut(&pod.name), run_id) else {
            missing.push(Missing { pod: pod.name.clone(), why: None });
            continue;
        };
        let mut told = before.get(&run_id).cloned().unwrap_or_default();
        // Its password for the primary may be the reason.
        let is_unlinked = pod.answer.as_ref().is_ok_and(|answer| {
            answer.info.replication.upstream.as_ref().is_some_and(|upstream| !upstream.link_up)
        });
        match tell(connection, (&internal, &logins), is_unlinked, &mut told).await {
            Ok(Told { repaired, refused }) => {
                let notices = repaired.iter().map(|user| events::user_repaired(&pod.name, user));
                outcome.notices.extend(notices);
                missing.extend(refused.map(|why| Missing { pod: pod.name.clone(), why: Some(why) }));
            }
            Err(failure) => missing.push(Missing { pod: pod.name.clone(), why: Some(failure.to_string()) }),
        }
        after.insert(run_id, told);
    }
    // A member whose pod is away starts with what the Secret says.
    memory.remember_users_told(&subject.set, after);
    let all_took = missing.is_empty() && !seen.look.observed.pods.is_empty();
    memory.remember_took(&subject.set, all_took.then(|| internal.clone()));
    let report = Report::of(&internal, secrets.application == Application::Unknown, missing);
    if let Some(wait) = report.changes_in(all_took, job.now) {
        outcome.again_in(wait);
    }
    outcome.users = Some(report);
}

/// What came of telling one server.
struct Told {
    /// Users that somebody else had changed.
    repaired: Vec<&'static str>,
    /// Why it does not take what the Secrets say.
    refused: Option<String>,
}

/// At rest: one question a user.
async fn tell(
    connection: &mut Connection,
    (internal, logins): (&Internal, &[Login]),
    is_unlinked: bool,
    told: &mut HashMap<&'static str, (User, String)>,
) -> Result<Told, ProbeFailure> {
    let mut repaired = Vec::new();
    let mut is_new = false;
    for user in internal.users() {
        let reading = connection.user(user.name).await?;
        let known = told.get(user.name).filter(|(known, _)| *known == user);
        if known.is_some_and(|(_, known)| *known == reading) {
            continue;
        }
        is_new = true;
        if known.is_some() {
            repaired.push(user.name);
        }
        if let Err(words) = connection.set_user(&user).await? {
            return Ok(Told {
                repaired,
                refused: Some(format!("it refuses the user {}: {words}", user.name)),
            });
        }
        let reading = connection.user(user.name).await?;
        told.insert(user.name, (user, reading));
    }
    let mut refused = None;
    if is_new || is_unlinked || internal.is_changing() {
        connection.set_masterauth(&internal.own.replica()).await?;
        for login in logins {
            if !connection.takes(login).await? {
                let whose = if login.user == DEFAULT_USER { "applications" } else { &login.user };
                refused = Some(format!("it does not take the password of {whose}"));
            }
        }
    }
    Ok(Told { repaired, refused })
}
