//! What became of the users of a set's servers, for the status.

use std::time::Duration;

use jiff::Timestamp;

use super::{Application, Internal, Taken, Wanted};
use redis_node::login::DEFAULT_USER;

/// No step of a change is tried sooner again: one that fails must not be tried without a pause.
const SOON: Duration = Duration::from_secs(1);

/// A server that does not take what the Secrets say, as far as is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// Its pod.
    pub pod: String,
    /// Why; `None` where it gives no answer.
    pub why: Option<String>,
}

/// What became of the users.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// What applications log in with.
    pub application: Taken,
    /// Users whose passwords are being changed: since when, and until when the former ones are taken.
    pub changing: Vec<(String, Option<Timestamp>, Option<Timestamp>)>,
    /// The application's Secret could not be read, or has no password.
    pub unknown: bool,
    /// Users of the spec whose Secrets could not be read, or have no password.
    pub without_password: Vec<String>,
    /// Users whose rules a server refuses, with its words.
    pub refused: Vec<String>,
    /// Since when the operator's own passwords are what they are, where those before are taken as well; and until when.
    pub own: Option<(Timestamp, Option<Timestamp>)>,
    /// The servers that do not take it all.
    pub missing: Vec<Missing>,
}

impl Report {
    /// Of what the operator's own Secret says, what the Secrets of the spec say, and of the servers.
    pub fn of(internal: &Internal, wanted: &Wanted, refused: Vec<String>, missing: Vec<Missing>) -> Self {
        let former = internal.former.as_ref().filter(|former| former.taken);
        let users = internal.users.iter().map(|(name, user)| (name.as_str(), &user.taken));
        let all = std::iter::once((DEFAULT_USER, &internal.application)).chain(users);
        let changing = all
            .filter(|(_, taken)| !taken.former.is_empty())
            .map(|(name, taken)| (name.to_owned(), taken.since, taken.until))
            .collect();
        let without_password = wanted
            .users
            .iter()
            .filter(|(_, (password, _))| *password == Application::Unknown)
            .map(|(name, _)| name.clone())
            .collect();
        Self {
            application: internal.application.clone(),
            changing,
            unknown: wanted.application == Application::Unknown,
            without_password,
            refused,
            own: former.map(|former| (internal.since, former.until)),
            missing,
        }
    }

    /// When the next step of a change is due.
    pub fn changes_in(&self, all_took: bool, now: Timestamp) -> Option<Duration> {
        let mut ends: Vec<Option<Timestamp>> = self.changing.iter().map(|(.., until)| *until).collect();
        ends.extend(self.own.map(|(_, until)| until));
        if !all_took {
            return None;
        }
        // Where no end is noted yet, it is soon.
        let wait = |end: Option<Timestamp>| end.map_or(SOON, |end| wait_until(end, now).max(SOON));
        ends.into_iter().map(wait).min()
    }
}

fn wait_until(end: Timestamp, now: Timestamp) -> Duration {
    end.duration_since(now).try_into().unwrap_or(Duration::ZERO)
}
