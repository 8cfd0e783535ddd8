//! Every server takes what the Secrets and the spec say, and nothing else.

use std::{collections::BTreeMap, time::Duration};

use super::{
    credentials::wanted,
    stages::{Job, Seen},
};
use crate::{
    memory::{Secrets, ToldServer, ToldUsers},
    redis::connection::Connection,
};
use operator_core::{
    acl::{Rules, User},
    credentials::{Application, Internal, Missing, Report, Wanted},
    events, hash,
    status::outcome::Outcome,
};
use redis_node::{
    answer::ProbeFailure,
    login::{DEFAULT_USER, Login},
};

/// What every server is to have.
struct Orders {
    internal: Internal,
    users: Vec<User>,
    /// With which it is tried whether it has.
    logins: Vec<Login>,
    /// As whom it copies from its primary.
    replica: Login,
    /// Other orders have another one.
    mark: String,
}

impl Orders {
    fn of(internal: Internal, wanted: &Wanted, secrets: &Secrets, all_took: bool) -> Self {
        let mut users = internal.own_users().to_vec();
        let rules = wanted.application_rules.clone().unwrap_or_else(Rules::everything);
        users.push(User::of_application(DEFAULT_USER, internal.application.entry(), rules));
        users.extend(wanted.users.iter().map(|(name, (_, rules))| {
            let taken = internal.users.get(name).map(|user| user.taken.clone()).unwrap_or_default();
            User::of_application(name, taken.entry(), rules.clone())
        }));
        let is_off = |name: &str| users.iter().any(|user| user.name == name && user.is_off());
        let of_users = secrets.users.iter().map(|(name, password)| (name.as_str(), password));
        let passwords = std::iter::once((DEFAULT_USER, &secrets.application)).chain(of_users);
        let of_applications = passwords.filter_map(|(name, password)| match password {
            Application::Password(password) if !is_off(name) => Some(Login::new(name, password.clone())),
            _ => None,
        });
        let own = [internal.own.agent(), internal.own.replica()];
        let logins: Vec<Login> = own.into_iter().chain(of_applications).collect();
        let replica = internal.replica(all_took);
        let lines = users.iter().map(User::line);
        let hashes = logins.iter().chain([&replica]).map(|login| hash::sha256(login.password.as_bytes()));
        let mark = hash::sha256(lines.chain(hashes).collect::<String>().as_bytes());
        Self { internal, users, logins, replica, mark }
    }

    /// What a server has instead of what it refuses: the rules of before with the passwords of now.
    fn instead(&self, name: &str) -> Option<User> {
        self.internal.users().into_iter().find(|user| user.name == name)
    }
}

/// Tells each server its users, and finds out by logging in whether it takes the current passwords.
pub(super) async fn keep_users(job: &Job<'_>, seen: &mut Seen, outcome: &mut Outcome) {
    let (memory, subject) = (&job.ctx.memory, job.subject);
    let Some(secrets) = memory.last_secrets(&subject.set, &subject.uid) else { return };
    let Some(stored) = secrets.internal.clone().filter(|_| !subject.is_left_alone()) else { return };
    let wanted = wanted(job, &secrets);
    let is_noted = match &secrets.application {
        Application::Password(password) => {
            stored.internal.application.current == Some(hash::sha256(password.as_bytes()))
        }
        Application::Open | Application::Unknown => true,
    };
    // Until a change is noted for those who start, nobody is told. Why it could not be is a failure of its own.
    if !is_noted {
        return;
    }
    let took = memory.took(&subject.set, &stored.internal);
    let orders = Orders::of(stored.internal, &wanted, &secrets, took.all);
    let before = memory.users_told(&subject.set);
    let mut after = ToldUsers::new();
    let (mut missing, mut refused) = (Vec::new(), BTreeMap::new());
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
        match tell(connection, &orders, is_unlinked, &mut told).await {
            Ok(said) => {
                let notices = said.repaired.iter().map(|user| events::user_repaired(&pod.name, user));
                outcome.notices.extend(notices);
                missing.extend(said.refuses.map(|why| Missing { pod: pod.name.clone(), why: Some(why) }));
                for (user, words) in said.refused {
                    refused.entry(user).or_insert_with(|| format!("{} refuses {words}", pod.name));
                }
            }
            Err(failure) => missing.push(Missing { pod: pod.name.clone(), why: Some(failure.to_string()) }),
        }
        after.insert(run_id, told);
    }
    let is_anybody_told = !after.is_empty();
    memory.remember_users_told(&subject.set, after);
    // A member whose pod is away starts with what the Secret says.
    let all_took = missing.is_empty() && !seen.look.observed.pods.is_empty();
    // By those who answered: one that starts may wait for the rules in the Secret.
    let rules = if is_anybody_told { taken_rules(&wanted, &refused) } else { BTreeMap::new() };
    if rules != took.rules {
        outcome.again_in(Duration::from_secs(1));
    }
    memory.remember_took(&subject.set, all_took.then(|| orders.internal.clone()), rules);
    let words = refused.into_iter().map(|(user, words)| format!("user {user}: {words}")).collect();
    let report = Report::of(&orders.internal, &wanted, words, missing);
    if let Some(wait) = report.changes_in(all_took, job.now) {
        outcome.again_in(wait);
    }
    outcome.users = Some(report);
}

/// The rules that no server refused.
fn taken_rules(wanted: &Wanted, refused: &BTreeMap<String, String>) -> BTreeMap<String, Rules> {
    let of_default = wanted.application_rules.iter().map(|rules| (DEFAULT_USER.to_owned(), rules.clone()));
    let of_users = wanted.users.iter().map(|(name, (_, rules))| (name.clone(), rules.clone()));
    of_default.chain(of_users).filter(|(name, _)| !refused.contains_key(name)).collect()
}

/// What came of telling one server.
#[derive(Default)]
struct Said {
    /// Users that somebody else had changed.
    repaired: Vec<String>,
    /// Users whose rules it refuses, with its words.
    refused: Vec<(String, String)>,
    /// Why it does not take what the Secrets say.
    refuses: Option<String>,
}

/// At rest: one question a user.
async fn tell(
    connection: &mut Connection,
    orders: &Orders,
    is_unlinked: bool,
    told: &mut ToldServer,
) -> Result<Said, ProbeFailure> {
    let mut said = Said::default();
    for user in &orders.users {
        if let Err(words) = give(connection, user, told, &mut said).await? {
            said.refused.push((user.name.clone(), words));
            if let Some(instead) = orders.instead(&user.name) {
                give(connection, &instead, told, &mut said).await?.ok();
            }
        }
    }
    for name in orders.internal.removed.keys() {
        connection.remove_user(name).await?;
        told.users.remove(name);
    }
    if told.took.as_ref() == Some(&orders.mark) && said.repaired.is_empty() && !is_unlinked {
        return Ok(said);
    }
    told.took = None;
    connection.set_masterauth(&orders.replica).await?;
    for login in &orders.logins {
        // Of a user that is let in by no rules of before there is nothing to try.
        let is_refused = said.refused.iter().any(|(user, _)| *user == login.user);
        if !connection.takes(login).await? && !is_refused {
            said.refuses = Some(format!("it does not take the password of user {}", login.user));
        }
    }
    if said.refuses.is_none() {
        told.took = Some(orders.mark.clone());
    }
    Ok(said)
}

/// Gives the server a user, unless it has said of it what it said after it was given that. The inner error is the server's refusal.
async fn give(
    connection: &mut Connection,
    user: &User,
    told: &mut ToldServer,
    said: &mut Said,
) -> Result<Result<(), String>, ProbeFailure> {
    let reading = connection.user(&user.name).await?;
    let known = told.users.get(&user.name).filter(|(known, _)| known == user);
    if known.is_some_and(|(_, known)| *known == reading) {
        return Ok(Ok(()));
    }
    let was_known = known.is_some();
    if let Err(words) = connection.set_user(user).await? {
        return Ok(Err(words));
    }
    if was_known {
        said.repaired.push(user.name.clone());
    }
    let reading = connection.user(&user.name).await?;
    told.users.insert(user.name.clone(), (user.clone(), reading));
    Ok(Ok(()))
}
