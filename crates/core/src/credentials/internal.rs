//! What the Secret `<name>-internal` says.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    acl::{Entry, Rules, User},
    hash::sha256,
};
use redis_node::{
    files::{AGENT_PASSWORD_KEY, OPERATOR_PASSWORD_KEY, REPLICA_PASSWORD_KEY, USERS_KEY},
    login::{AGENT_USER, DEFAULT_USER, Login, OPERATOR_USER, REPLICA_USER},
    password::Password,
};

/// Key of what the operator notes of changes.
const CHANGES_KEY: &str = "changes.json";

/// Keys of the application's password, and of the one before. No pod mounts them.
const APPLICATION_KEYS: [&str; 2] = ["application-password", "former-application-password"];

/// Passwords of the operator's own users.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Own {
    /// Of the operator.
    pub operator: Password,
    /// Of replicas at their primary.
    pub replica: Password,
    /// Of the agent.
    pub agent: Password,
}

impl Own {
    /// As whom the operator asks and acts.
    pub fn operator(&self) -> Login {
        Login::new(OPERATOR_USER, self.operator.clone())
    }

    /// As whom replicas copy.
    pub fn replica(&self) -> Login {
        Login::new(REPLICA_USER, self.replica.clone())
    }

    /// As whom the agent asks.
    pub fn agent(&self) -> Login {
        Login::new(AGENT_USER, self.agent.clone())
    }

    fn all(&self) -> [(&'static str, &Password); 3] {
        [
            (OPERATOR_PASSWORD_KEY, &self.operator),
            (REPLICA_PASSWORD_KEY, &self.replica),
            (AGENT_PASSWORD_KEY, &self.agent),
        ]
    }

    fn of(find: impl Fn(&'static str) -> Option<Password>) -> Option<Self> {
        Some(Self {
            operator: find(OPERATOR_PASSWORD_KEY)?,
            replica: find(REPLICA_PASSWORD_KEY)?,
            agent: find(AGENT_PASSWORD_KEY)?,
        })
    }
}

/// What applications log in with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Taken {
    /// No password is asked for.
    #[serde(default)]
    pub open: bool,
    /// SHA-256 of the password in the Secret; none while there never was one.
    #[serde(default)]
    pub current: Option<String>,
    /// Since when it is the password.
    #[serde(default)]
    pub since: Option<Timestamp>,
    /// SHA-256 of those before, which are taken as well.
    #[serde(default)]
    pub former: Vec<String>,
    /// Until when they are; none while not every server has taken the current one.
    #[serde(default)]
    pub until: Option<Timestamp>,
}

impl Taken {
    /// Who is let in.
    pub fn entry(&self) -> Entry {
        if self.open {
            return Entry::Anybody;
        }
        Entry::Passwords(self.current.iter().chain(&self.former).cloned().collect())
    }
}

/// A user of the spec, as each server starts with it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Granted {
    /// What it logs in with.
    pub taken: Taken,
    /// What it may do: rules that every server has taken.
    pub rules: Rules,
}

/// Own passwords of before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FormerOwn {
    /// They.
    pub own: Own,
    /// The servers take them as well.
    pub taken: bool,
    /// Until when; none while not every server has taken the current ones.
    pub until: Option<Timestamp>,
}

/// What the Secret says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Internal {
    /// The operator's own passwords.
    pub own: Own,
    /// Since when they are.
    pub since: Timestamp,
    /// Those before, kept to log in where a server has missed the change.
    pub former: Option<FormerOwn>,
    /// What applications log in with.
    pub application: Taken,
    /// What they may do: rules that every server has taken. Everything, where the spec says nothing.
    pub application_rules: Option<Rules>,
    /// The users of the spec, by name.
    pub users: BTreeMap<String, Granted>,
    /// Users that the spec had, and that some server may have still, or may start with until then.
    pub removed: BTreeMap<String, Timestamp>,
    /// The application's password, and the one before, as they are: with those the operator logs in to servers that know nothing else.
    pub application_passwords: Vec<Password>,
}

/// Why the Secret cannot be used as it is.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("it holds no password under one of the keys that the operator wrote")]
pub struct Unusable;

/// What the operator notes beside the passwords.
#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Changes {
    #[serde(default)]
    since: Option<Timestamp>,
    #[serde(default)]
    application: Taken,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    application_rules: Option<Rules>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    users: BTreeMap<String, Granted>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    removed: BTreeMap<String, Timestamp>,
    /// Passwords of before, by key. The operator makes its own of letters and digits.
    #[serde(default)]
    former: BTreeMap<String, String>,
    #[serde(default)]
    former_taken: bool,
    #[serde(default)]
    former_until: Option<Timestamp>,
}

impl Internal {
    /// With these passwords from now on.
    pub fn first(own: Own, now: Timestamp) -> Self {
        Self {
            own,
            since: now,
            former: None,
            application: Taken::default(),
            application_rules: None,
            users: BTreeMap::new(),
            removed: BTreeMap::new(),
            application_passwords: Vec::new(),
        }
    }

    /// Reads the Secret. What was noted of changes may be gone: then nothing is left of those before.
    pub fn read(data: &BTreeMap<String, ByteString>, now: Timestamp) -> Result<Self, Unusable> {
        let bytes = |key: &str| data.get(key).map(|value| value.0.as_slice());
        let own = Own::of(|key| bytes(key).and_then(Password::from_bytes)).ok_or(Unusable)?;
        let changes: Changes =
            bytes(CHANGES_KEY).and_then(|text| serde_json::from_slice(text).ok()).unwrap_or_default();
        let former =
            Own::of(|key| changes.former.get(key).and_then(|text| Password::from_bytes(text.as_bytes())));
        Ok(Self {
            own,
            since: changes.since.unwrap_or(now),
            former: former.map(|own| FormerOwn {
                own,
                taken: changes.former_taken,
                until: changes.former_until,
            }),
            application: changes.application,
            application_rules: changes.application_rules,
            users: changes.users,
            removed: changes.removed,
            application_passwords: APPLICATION_KEYS
                .iter()
                .filter_map(|key| bytes(key).and_then(Password::exact))
                .collect(),
        })
    }

    /// What the Secret is to hold.
    pub fn data(&self) -> BTreeMap<String, ByteString> {
        let text = |password: &Password| String::from_utf8_lossy(password.as_bytes()).into_owned();
        let former = self.former.iter().flat_map(|former| former.own.all());
        let changes = Changes {
            since: Some(self.since),
            application: self.application.clone(),
            application_rules: self.application_rules.clone(),
            users: self.users.clone(),
            removed: self.removed.clone(),
            former: former.map(|(key, password)| (key.to_owned(), text(password))).collect(),
            former_taken: self.former.as_ref().is_some_and(|former| former.taken),
            former_until: self.former.as_ref().and_then(|former| former.until),
        };
        // It has strings, a list and numbers only: it cannot fail.
        let changes = serde_json::to_vec(&changes).unwrap_or_default();
        let users: String = self.users().iter().map(User::line).collect();
        let own = self.own.all().map(|(key, password)| (key, password.as_bytes().to_vec()));
        let rest = [(USERS_KEY, users.into_bytes()), (CHANGES_KEY, changes)];
        let plain = APPLICATION_KEYS.into_iter().zip(&self.application_passwords);
        let plain = plain.map(|(key, password)| (key, password.as_bytes().to_vec()));
        own.into_iter()
            .chain(rest)
            .chain(plain)
            .map(|(key, value)| (key.to_owned(), ByteString(value)))
            .collect()
    }

    /// The users of the operator, as each server is to have them.
    pub fn own_users(&self) -> [User; 3] {
        let hashes = |of: fn(&Own) -> &Password| {
            let former = self.former.iter().filter(|former| former.taken).map(|former| &former.own);
            std::iter::once(&self.own).chain(former).map(|own| sha256(of(own).as_bytes())).collect()
        };
        [
            User::operator(hashes(|own| &own.operator)),
            User::replica(hashes(|own| &own.replica)),
            User::agent(hashes(|own| &own.agent)),
        ]
    }

    /// The user of applications that name none, as each server is to have it.
    pub fn application_user(&self) -> User {
        let rules = self.application_rules.clone().unwrap_or_else(Rules::everything);
        User::of_application(DEFAULT_USER, self.application.entry(), rules)
    }

    /// As whom replicas log in to their primary: with the password of before until every server takes the present one.
    pub fn replica(&self, all_took: bool) -> Login {
        let former = self.former.as_ref().filter(|former| former.taken && !all_took);
        former.map_or(&self.own, |former| &former.own).replica()
    }

    /// All users.
    pub fn users(&self) -> Vec<User> {
        let mut users = self.own_users().to_vec();
        users.push(self.application_user());
        users.extend(
            self.users
                .iter()
                .map(|(name, user)| User::of_application(name, user.taken.entry(), user.rules.clone())),
        );
        users
    }
}
