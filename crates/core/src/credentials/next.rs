//! What the Secret `<name>-internal` is to say next.

use std::{collections::BTreeMap, time::Duration};

use jiff::{SignedDuration, Timestamp};

use super::{
    Internal, Own,
    internal::{FormerOwn, Granted, Taken},
};
use crate::{acl::Rules, api::auth::Auth, hash::sha256};
use redis_node::{login::DEFAULT_USER, password::Password};

/// For how long the former passwords of the operator's own users are taken: kubelets bring a changed Secret into running pods
/// within two minutes, and the agent there logs in with what is mounted.
const OWN_GRACE: Duration = Duration::from_secs(300);

/// How many passwords of before applications can log in with at most.
const MOST_FORMER: usize = 8;

/// How many of them the operator keeps.
const MOST_PLAIN: usize = 2;

/// What applications are to log in with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Application {
    /// The password in the Secret.
    Password(Password),
    /// None: `spec.auth.disabled`.
    Open,
    /// The Secret or its key is not there, or empty, or could not be read: what is taken stays.
    #[default]
    Unknown,
}

/// What the Secrets and the spec ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// What applications that name no user log in with.
    pub application: Application,
    /// What they may do; everything, where the spec says nothing.
    pub application_rules: Option<Rules>,
    /// The users of the spec, by name, each with its password and what it may do.
    pub users: BTreeMap<String, (Application, Rules)>,
}

/// What the servers have taken, as far as it matters here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Took {
    /// Every member was told what the Secret says, and took a login with each current password.
    pub all: bool,
    /// Rules that every server which answered has taken, by user: a server does not start with a line that it refuses.
    pub rules: BTreeMap<String, Rules>,
}

/// What the Secret is to say now; `None` where it says so already. `fresh` makes passwords.
pub fn next<E>(
    internal: &Internal,
    wanted: &Wanted,
    auth: &Auth,
    took: &Took,
    now: Timestamp,
    fresh: impl FnOnce() -> Result<Own, E>,
) -> Result<Option<Internal>, E> {
    let taken =
        |taken: &Taken, application: &Application| taken_next(taken, application, auth, took.all, now);
    let mut next = internal.clone();
    next.application = taken(&internal.application, &wanted.application);
    next.application_rules = wanted.application_rules.as_ref().map(|rules| {
        let known = internal.application_rules.clone().unwrap_or_else(Rules::everything);
        rules_next(known, rules, took.rules.get(DEFAULT_USER))
    });
    // A pod may start with a Secret that its kubelet has not renewed yet.
    let gone = internal.users.keys().filter(|name| !wanted.users.contains_key(*name));
    next.removed.extend(gone.map(|name| (name.clone(), after(now, OWN_GRACE))));
    next.removed.retain(|name, until| !wanted.users.contains_key(name) && (*until > now || !took.all));
    next.users = wanted
        .users
        .iter()
        .map(|(name, (password, rules))| {
            let known = internal.users.get(name).cloned().unwrap_or_default();
            let rules = rules_next(known.rules, rules, took.rules.get(name));
            (name.clone(), Granted { taken: taken(&known.taken, password), rules })
        })
        .collect();
    keep_plain(&mut next, &wanted.application);
    match &mut next.former {
        Some(former) if former.taken => match former.until {
            Some(until) if until <= now && took.all => (former.taken, former.until) = (false, None),
            None if took.all => former.until = Some(after(now, OWN_GRACE)),
            _ => {}
        },
        // A member that is not told would be left behind, with everybody who copies from it.
        _ if took.all && is_old(internal, auth, now) => {
            let own = std::mem::replace(&mut next.own, fresh()?);
            next.former = Some(FormerOwn { own, taken: true, until: None });
            next.since = now;
        }
        _ => {}
    }
    Ok((next != *internal).then_some(next))
}

/// Keeps the application's passwords themselves, the newest first: a server of an earlier version takes nothing else after it has
/// restarted.
fn keep_plain(next: &mut Internal, application: &Application) {
    let Application::Password(password) = application else { return };
    if next.application_passwords.first() != Some(password) {
        next.application_passwords.retain(|known| known != password);
        next.application_passwords.insert(0, password.clone());
        next.application_passwords.truncate(MOST_PLAIN);
    }
}

/// Whether the operator's own passwords are to be changed.
fn is_old(internal: &Internal, auth: &Auth, now: Timestamp) -> bool {
    let days = auth.internal_rotation_days.map(i64::from);
    days.is_some_and(|days| now.duration_since(internal.since) >= SignedDuration::from_hours(24 * days))
}

fn taken_next(
    taken: &Taken,
    application: &Application,
    auth: &Auth,
    all_took: bool,
    now: Timestamp,
) -> Taken {
    let mut next = match application {
        Application::Unknown => taken.clone(),
        // The password is kept: it is the one to go back to.
        Application::Open => Taken { open: true, ..taken.clone() },
        Application::Password(password) => {
            let hash = sha256(password.as_bytes());
            if taken.current.as_ref() != Some(&hash) {
                let before = taken.current.iter().chain(&taken.former).filter(|known| **known != hash);
                return Taken {
                    open: false,
                    former: before.take(MOST_FORMER).cloned().collect(),
                    current: Some(hash),
                    since: Some(now),
                    until: None,
                };
            }
            Taken { open: false, ..taken.clone() }
        }
    };
    if next.former.is_empty() || !all_took {
        return next;
    }
    match next.until {
        None => next.until = Some(after(now, auth.grace())),
        Some(until) if until <= now => {
            next.former.clear();
            next.until = None;
        }
        Some(_) => {}
    }
    next
}

/// What a server is to start with: rules that every server has taken. Nobody is let in whom the spec locks out, at once.
fn rules_next(known: Rules, wanted: &Rules, took: Option<&Rules>) -> Rules {
    let next = if took == Some(wanted) { wanted.clone() } else { known };
    Rules { off: next.off || wanted.off, ..next }
}

/// A time that the calendar does not reach is as good as never.
fn after(now: Timestamp, wait: Duration) -> Timestamp {
    now.checked_add(wait).unwrap_or(Timestamp::MAX)
}
