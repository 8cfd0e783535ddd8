//! The two Secrets of a set: what they say, what becomes of them when a password changes, and as whom the operator logs in.

use std::{collections::BTreeMap, sync::Arc};

use tracing::info;

use super::{
    begin::is_there,
    fail,
    stages::{Beginning, Job},
};
use crate::{
    cache::pods_of,
    kubernetes::{
        children::{self, Live},
        secrets::{self, Found, Stored},
    },
    memory::{Occasion, Secrets},
    reconcile::error::StageError,
    redis::server::Logins,
};
use operator_core::{
    acl::Rules,
    api::users::AclUser,
    credentials::{Application, Internal, Took, Wanted, next},
    status::outcome::Outcome,
};
use redis_node::{
    login::{DEFAULT_USER, Login},
    password::Password,
};

/// Reads both Secrets, makes those that are missing, and notes changed passwords in the operator's own. Returns as whom to log in, as
/// far as that is known.
pub(super) async fn credentials(
    job: &Job<'_>,
    live: Option<&Live>,
    is_fresh: bool,
    outcome: &mut Outcome,
) -> Result<Beginning<Option<Arc<Logins>>>, StageError> {
    let (memory, set) = (&job.ctx.memory, &job.subject.set);
    let secrets = match memory.secrets(set, &occasion(job)) {
        Some(known) => known,
        None => match Box::pin(read(job, live, is_fresh, outcome)).await? {
            Beginning::On(read) => read,
            Beginning::Wait => return Ok(Beginning::Wait),
            Beginning::Gone => return Ok(Beginning::Gone),
        },
    };
    outcome.password_missing = secrets.application == Application::Unknown && !job.subject.auth.disabled;
    let secrets = match Box::pin(noted(job, &secrets)).await {
        Ok(None) => secrets,
        Ok(Some(stored)) => {
            let secrets = Secrets { internal: Some(stored), ..secrets };
            memory.remember_secrets(set, secrets.clone(), occasion(job));
            secrets
        }
        // The servers go on with what they have.
        Err(error) => {
            fail(job.ctx, outcome, &error);
            memory.forget_secrets(set);
            secrets
        }
    };
    Ok(Beginning::On(logins(job, &secrets)))
}

/// Reads both, and makes what is missing.
async fn read(
    job: &Job<'_>,
    live: Option<&Live>,
    is_fresh: bool,
    outcome: &mut Outcome,
) -> Result<Beginning<Secrets>, StageError> {
    let (ctx, subject) = (job.ctx, job.subject);
    let last = ctx.memory.last_secrets(&subject.set, &subject.uid);
    let application = match application(job, live, is_fresh).await {
        Ok(Beginning::On(application)) => Ok(application),
        Ok(Beginning::Gone) => return Ok(Beginning::Gone),
        Ok(Beginning::Wait) => return Ok(Beginning::Wait),
        Err(error) => Err(error),
    };
    let known = application.as_ref().unwrap_or(&Application::Unknown);
    let internal = match internal(job, last.as_ref(), known).await {
        Ok(Beginning::On(internal)) => Ok(internal),
        Ok(Beginning::Gone) => return Ok(Beginning::Gone),
        Ok(Beginning::Wait) => return Ok(Beginning::Wait),
        Err(error) => Err(error),
    };
    // What the API server refuses to show stops nobody who knows it.
    let accepted = ctx.memory.accepted(&subject.set, &subject.uid).is_some();
    let is_lost = last.is_none() && !accepted;
    let last_users = last.as_ref().map(|last| last.users.clone()).unwrap_or_default();
    let application = match application {
        Ok(application) => application,
        Err(error) if is_lost && !matches!(internal, Ok(Some(_))) => return Err(error),
        Err(error) => {
            fail(ctx, outcome, &error);
            last.as_ref().map_or(Application::Unknown, |last| last.application.clone())
        }
    };
    let internal = match internal {
        Ok(internal) => internal,
        Err(error) if is_lost && application == Application::Unknown => return Err(error),
        Err(error) => {
            fail(ctx, outcome, &error);
            last.and_then(|last| last.internal)
        }
    };
    let users = users(job, last_users, outcome).await;
    let secrets = Secrets { internal, application, users };
    ctx.memory.remember_secrets(&subject.set, secrets.clone(), occasion(job));
    Ok(Beginning::On(secrets))
}

/// What applications are to log in with. The password of a new set is made where its spec names no Secret. One that vanished is not
/// made again: applications have its value, and the servers take it.
async fn application(
    job: &Job<'_>,
    live: Option<&Live>,
    is_fresh: bool,
) -> Result<Beginning<Application>, StageError> {
    let (ctx, subject) = (job.ctx, job.subject);
    if subject.auth.disabled {
        return Ok(Beginning::On(Application::Open));
    }
    if let Some(password) =
        secrets::read_application(&ctx.client, subject, &subject.password_secret()).await?
    {
        return Ok(Beginning::On(Application::Password(password)));
    }
    let has_no_servers = live.is_some_and(|live| live.stateful_set.is_none())
        && pods_of(&ctx.pods, &subject.set).is_empty()
        && job.plan.is_some();
    if !has_no_servers || subject.paused || subject.auth.secret_name.is_some() {
        return Ok(Beginning::On(Application::Unknown));
    }
    // Of a set that is gone the record can be the last thing that the garbage collector has left.
    if !is_there(job).await? {
        return Ok(Beginning::Gone);
    }
    // Nor is one made by the word of a cache: the servers would have another.
    if !is_fresh && children::fetch_stateful_set(&ctx.client, &subject.set).await?.is_some() {
        return Ok(Beginning::On(Application::Unknown));
    }
    let made = secrets::create_application(&ctx.client, subject).await?;
    Ok(Beginning::On(made.map_or(Application::Unknown, Application::Password)))
}

/// The passwords of the users of the spec. One that cannot be read stays what it was.
async fn users(
    job: &Job<'_>,
    last: BTreeMap<String, Application>,
    outcome: &mut Outcome,
) -> BTreeMap<String, Application> {
    let mut users = BTreeMap::new();
    for user in &job.subject.users {
        let Some(secret) = &user.secret_name else { continue };
        let read = secrets::read_application(&job.ctx.client, job.subject, secret).await;
        let password = match read {
            Ok(password) => password.map_or(Application::Unknown, Application::Password),
            Err(error) => {
                fail(job.ctx, outcome, &error.into());
                last.get(&user.name).cloned().unwrap_or(Application::Unknown)
            }
        };
        users.insert(user.name.clone(), password);
    }
    users
}

/// What the Secrets and the spec ask for.
pub(super) fn wanted(job: &Job<'_>, secrets: &Secrets) -> Wanted {
    let rules = |user: &AclUser| Rules { rules: user.rules.clone(), off: user.off };
    let of_default = job.subject.users.iter().find(|user| user.name == DEFAULT_USER);
    let others = job.subject.users.iter().filter(|user| user.name != DEFAULT_USER);
    let password = |name: &str| secrets.users.get(name).cloned().unwrap_or(Application::Unknown);
    Wanted {
        application: secrets.application.clone(),
        application_rules: of_default.map(rules),
        users: others.map(|user| (user.name.clone(), (password(&user.name), rules(user)))).collect(),
    }
}

/// The operator's own Secret, made where it is missing. One that a person deleted or emptied is put back with the passwords that the
/// servers take.
async fn internal(
    job: &Job<'_>,
    last: Option<&Secrets>,
    application: &Application,
) -> Result<Beginning<Option<Stored>>, StageError> {
    let (ctx, subject) = (job.ctx, job.subject);
    let version = match secrets::read_internal(&ctx.client, subject, job.now).await? {
        Some(Found::Usable(stored)) => return Ok(Beginning::On(Some(*stored))),
        Some(Found::Broken(version)) => Some(version),
        None => None,
    };
    let known = last.and_then(|last| last.internal.clone());
    if subject.is_left_alone() {
        return Ok(Beginning::On(known));
    }
    if !is_there(job).await? {
        return Ok(Beginning::Gone);
    }
    let internal = if let Some(known) = known {
        known.internal
    } else {
        let first = Internal::first(secrets::random_own()?, job.now);
        let wanted = Wanted { application: application.clone(), ..Wanted::default() };
        let auth = &job.subject.auth;
        let begun = next(&first, &wanted, auth, &Took::default(), job.now, secrets::random_own)?;
        // No server has taken the rules of the spec yet: until one has, the user may do nothing rather than everything.
        let is_limited = job.subject.users.iter().any(|user| user.name == DEFAULT_USER);
        let application_rules = is_limited.then(Rules::default);
        Internal { application_rules, ..begun.unwrap_or(first) }
    };
    info!("making the Secret with the operator's own passwords");
    let written = secrets::write_internal(&ctx.client, subject, version.as_deref(), internal).await?;
    Ok(Beginning::On(Some(written)))
}

/// Notes in the operator's own Secret what changed. It is written before any server is told: one that starts meanwhile takes what the
/// others are about to take.
async fn noted(job: &Job<'_>, secrets: &Secrets) -> Result<Option<Stored>, StageError> {
    let (ctx, subject) = (job.ctx, job.subject);
    let Some(stored) = secrets.internal.as_ref().filter(|_| !subject.is_left_alone()) else {
        return Ok(None);
    };
    let took = ctx.memory.took(&subject.set, &stored.internal);
    let wanted = wanted(job, secrets);
    let changed = next(&stored.internal, &wanted, &subject.auth, &took, job.now, secrets::random_own)?;
    let internal = match changed {
        Some(changed) => changed,
        // A person changed it, or it belongs to a deleted set of this name.
        None if !stored.is_as_written => stored.internal.clone(),
        None => return Ok(None),
    };
    let version = Some(stored.resource_version.as_str());
    Ok(Some(secrets::write_internal(&ctx.client, subject, version, internal).await?))
}

/// As whom to log in; `None` where nothing is known.
fn logins(job: &Job<'_>, secrets: &Secrets) -> Option<Arc<Logins>> {
    let (memory, subject) = (&job.ctx.memory, job.subject);
    let own = secrets.internal.as_ref().map(|stored| &stored.internal);
    let of_application = match &secrets.application {
        Application::Password(password) => Some(Login::of_default(password.clone())),
        // Any will do.
        Application::Open => Password::exact(b"any").map(Login::of_default),
        Application::Unknown => None,
    };
    let plain = own.map(|own| own.application_passwords.clone()).unwrap_or_default();
    let of_application = of_application.into_iter().chain(plain.into_iter().map(Login::of_default));
    let accepted = memory.accepted(&subject.set, &subject.uid);
    let former = own.and_then(|own| own.former.as_ref()).map(|former| former.own.operator());
    let mut tried: Vec<Login> = own.map(|own| own.own.operator()).into_iter().collect();
    for login in former.into_iter().chain(of_application).chain(accepted) {
        if !tried.contains(&login) {
            tried.push(login);
        }
    }
    let replica = own.map(|own| own.replica(memory.took(&subject.set, own).all));
    let replica = replica.or_else(|| tried.first().cloned())?;
    let own_users = own.filter(|_| !subject.paused).map(|own| own.own_users().to_vec()).unwrap_or_default();
    Some(Arc::new(Logins { tried, replica, own_users }))
}

fn occasion(job: &Job<'_>) -> Occasion {
    let metadata = &job.resource.metadata;
    Occasion {
        uid: job.subject.uid.clone(),
        generation: metadata.generation,
        metadata: [metadata.labels.clone(), metadata.annotations.clone()],
    }
}
