//! What became of the users of a set's servers, for the status.

use std::time::Duration;

use jiff::Timestamp;

use super::{Internal, Taken};

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
    /// The application's Secret could not be read, or has no password.
    pub unknown: bool,
    /// Since when the operator's own passwords are what they are, where those before are taken as well; and until when.
    pub own: Option<(Timestamp, Option<Timestamp>)>,
    /// The servers that do not take it all.
    pub missing: Vec<Missing>,
}

impl Report {
    /// Of what the operator's own Secret says, and of the servers.
    pub fn of(internal: &Internal, unknown: bool, missing: Vec<Missing>) -> Self {
        let former = internal.former.as_ref().filter(|former| former.taken);
        Self {
            application: internal.application.clone(),
            unknown,
            own: former.map(|former| (internal.since, former.until)),
            missing,
        }
    }

    /// When the next step of a change is due.
    pub fn changes_in(&self, all_took: bool, now: Timestamp) -> Option<Duration> {
        let is_changing = !self.application.former.is_empty() || self.own.is_some();
        if !is_changing || !all_took {
            return None;
        }
        let ends = [self.application.until, self.own.and_then(|(_, until)| until)];
        let waits = ends.into_iter().flatten().map(|until| until.duration_since(now));
        // Where no end is noted yet, it is now.
        Some(waits.min().map_or(Duration::ZERO, |wait| wait.try_into().unwrap_or(Duration::ZERO)))
    }
}
