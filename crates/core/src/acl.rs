//! ACL users, as redis.conf and `ACL SETUSER` spell them. Pure.

use redis_node::login::{AGENT_USER, DEFAULT_USER, OPERATOR_USER, REPLICA_USER};

/// What the operator asks and does (`redis::connection`). All of CLIENT: Redis 7.0 refuses a rule that names a subcommand which it
/// does not know, and CLIENT NO-TOUCH is newer. The key is that of the write test.
const OPERATOR_RULES: [&str; 12] = [
    "~redis-operator:write-test",
    "+ping",
    "+info",
    "+client",
    "+config|get",
    "+config|set",
    "+replicaof",
    "+failover",
    "+replconf",
    "+setrange",
    "+acl|setuser",
    "+acl|getuser",
];
/// What a replica sends to its primary (experiment E12), and SYNC for the second connection of a dual channel sync (Valkey 8).
const REPLICA_RULES: [&str; 4] = ["+ping", "+replconf", "+psync", "+sync"];
/// What the agent asks: whom a server follows, and which name it announces.
const AGENT_RULES: [&str; 3] = ["+ping", "+info", "+config|get"];
/// An application may do everything, as with `requirepass`.
const APPLICATION_RULES: [&str; 3] = ["~*", "&*", "+@all"];

/// Who is let in as a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Whoever has one of these passwords, given as SHA-256 in hexadecimal. Nobody, where there is none.
    Passwords(Vec<String>),
    /// Everybody.
    Anybody,
}

/// A user as each server is to have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Its name.
    pub name: &'static str,
    /// Who is let in.
    pub entry: Entry,
    rules: &'static [&'static str],
}

impl User {
    /// The user as whom the operator asks and acts.
    pub fn operator(hashes: Vec<String>) -> Self {
        Self { name: OPERATOR_USER, entry: Entry::Passwords(hashes), rules: &OPERATOR_RULES }
    }

    /// The user as whom replicas copy from their primary.
    pub fn replica(hashes: Vec<String>) -> Self {
        Self { name: REPLICA_USER, entry: Entry::Passwords(hashes), rules: &REPLICA_RULES }
    }

    /// The user as whom the agent asks.
    pub fn agent(hashes: Vec<String>) -> Self {
        Self { name: AGENT_USER, entry: Entry::Passwords(hashes), rules: &AGENT_RULES }
    }

    /// The user of applications.
    pub fn application(entry: Entry) -> Self {
        Self { name: DEFAULT_USER, entry, rules: &APPLICATION_RULES }
    }

    /// What follows the name in `ACL SETUSER`. Begins from nothing, so what somebody else added is gone.
    pub fn rules(&self) -> Vec<String> {
        let mut rules = vec!["reset".to_owned()];
        match &self.entry {
            Entry::Passwords(hashes) if hashes.is_empty() => return rules,
            Entry::Passwords(hashes) => rules.extend(hashes.iter().map(|hash| format!("#{hash}"))),
            Entry::Anybody => rules.push("nopass".to_owned()),
        }
        rules.push("on".to_owned());
        rules.push("resetchannels".to_owned());
        rules.extend(self.rules.iter().map(|rule| (*rule).to_owned()));
        rules
    }

    /// The line of redis.conf. No rule and no name has a space or a quote.
    pub fn line(&self) -> String {
        format!("user {} {}\n", self.name, self.rules().join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_redis_conf() {
        let hashes = || vec!["aa".to_owned(), "bb".to_owned()];
        insta::assert_snapshot!(
            [
                User::operator(hashes()),
                User::replica(hashes()),
                User::agent(hashes()),
                User::application(Entry::Passwords(hashes())),
                User::application(Entry::Passwords(Vec::new())),
                User::application(Entry::Anybody),
            ]
            .map(|user| user.line())
            .concat(),
            @r"
        user redis-operator reset #aa #bb on resetchannels ~redis-operator:write-test +ping +info +client +config|get +config|set +replicaof +failover +replconf +setrange +acl|setuser +acl|getuser
        user redis-operator-replica reset #aa #bb on resetchannels +ping +replconf +psync +sync
        user redis-operator-agent reset #aa #bb on resetchannels +ping +info +config|get
        user default reset #aa #bb on resetchannels ~* &* +@all
        user default reset
        user default reset nopass on resetchannels ~* &* +@all
        "
        );
    }
}
