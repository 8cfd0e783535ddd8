//! What the Secret `<name>-internal` is to say next.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::{
    Internal, Own,
    internal::{FormerOwn, Taken},
};
use crate::{api::auth::Auth, hash::sha256};
use redis_node::password::Password;

/// For how long the former passwords of the operator's own users are taken: kubelets bring a changed Secret into running pods
/// within two minutes, and the agent there logs in with what is mounted.
const OWN_GRACE: Duration = Duration::from_secs(300);

/// How many passwords of before applications can log in with at most.
const MOST_FORMER: usize = 8;

/// What applications are to log in with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Application {
    /// The password in the Secret.
    Password(Password),
    /// None: `spec.auth.disabled`.
    Open,
    /// The Secret or its key is not there, or empty, or could not be read: what is taken stays.
    Unknown,
}

/// What the servers have taken, as far as it matters here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Due {
    /// Every member was told what the Secret says, and took a login with each current password.
    pub all_took: bool,
}

/// What the Secret is to say now; `None` where it says so already. `fresh` makes passwords.
pub fn next<E>(
    internal: &Internal,
    application: &Application,
    auth: &Auth,
    due: Due,
    now: Timestamp,
    fresh: impl FnOnce() -> Result<Own, E>,
) -> Result<Option<Internal>, E> {
    let mut next = internal.clone();
    next.application = application_next(&internal.application, application, auth, due, now);
    match &mut next.former {
        Some(former) if former.taken => match former.until {
            Some(until) if until <= now && due.all_took => (former.taken, former.until) = (false, None),
            None if due.all_took => former.until = Some(after(now, OWN_GRACE)),
            _ => {}
        },
        _ if is_old(internal, auth, now) => {
            let own = std::mem::replace(&mut next.own, fresh()?);
            next.former = Some(FormerOwn { own, taken: true, until: None });
            next.since = now;
        }
        _ => {}
    }
    Ok((next != *internal).then_some(next))
}

/// Whether the operator's own passwords are to be changed.
fn is_old(internal: &Internal, auth: &Auth, now: Timestamp) -> bool {
    let days = auth.internal_rotation_days.map(i64::from);
    days.is_some_and(|days| now.duration_since(internal.since) >= SignedDuration::from_hours(24 * days))
}

fn application_next(
    taken: &Taken,
    application: &Application,
    auth: &Auth,
    due: Due,
    now: Timestamp,
) -> Taken {
    let hash = match application {
        Application::Unknown => return taken.clone(),
        // The password is kept: it is the one to go back to.
        Application::Open => return Taken { open: true, ..taken.clone() },
        Application::Password(password) => sha256(password.as_bytes()),
    };
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
    let mut next = Taken { open: false, ..taken.clone() };
    if next.former.is_empty() || !due.all_took {
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

/// A time that the calendar does not reach is as good as never.
fn after(now: Timestamp, wait: Duration) -> Timestamp {
    now.checked_add(wait).unwrap_or(Timestamp::MAX)
}
