//! ACL users, as redis.conf and `ACL SETUSER` spell them. Pure.

use redis_node::{
    conf::quote,
    login::{AGENT_USER, OPERATOR_USER, REPLICA_USER},
};
use serde::{Deserialize, Serialize};

/// What the operator asks and does (`redis::connection`). All of CLIENT: Redis 7.0 refuses a rule that names a subcommand which it
/// does not know, and CLIENT NO-TOUCH is newer. The key is that of the write test.
const OPERATOR_RULES: [&str; 13] = [
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
    "+acl|deluser",
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

/// What a user may do, and whether it may come in at all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rules {
    /// In Redis' words.
    #[serde(default)]
    pub rules: Vec<String>,
    /// Nobody is let in.
    #[serde(default)]
    pub off: bool,
}

impl Rules {
    /// Everything, as with `requirepass`.
    pub fn everything() -> Self {
        Self { rules: APPLICATION_RULES.map(str::to_owned).to_vec(), off: false }
    }
}

/// A user as each server is to have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Its name.
    pub name: String,
    /// Who is let in.
    pub entry: Entry,
    rules: Rules,
}

impl User {
    /// The user as whom the operator asks and acts.
    pub fn operator(hashes: Vec<String>) -> Self {
        Self::own(OPERATOR_USER, hashes, &OPERATOR_RULES)
    }

    /// The user as whom replicas copy from their primary.
    pub fn replica(hashes: Vec<String>) -> Self {
        Self::own(REPLICA_USER, hashes, &REPLICA_RULES)
    }

    /// The user as whom the agent asks.
    pub fn agent(hashes: Vec<String>) -> Self {
        Self::own(AGENT_USER, hashes, &AGENT_RULES)
    }

    fn own(name: &str, hashes: Vec<String>, rules: &[&str]) -> Self {
        let rules = rules.iter().map(|rule| (*rule).to_owned()).collect();
        Self::of_application(name, Entry::Passwords(hashes), Rules { rules, off: false })
    }

    /// A user of applications.
    pub fn of_application(name: &str, entry: Entry, rules: Rules) -> Self {
        Self { name: name.to_owned(), entry, rules }
    }

    /// Whether nobody is let in.
    pub fn is_off(&self) -> bool {
        self.rules.off || self.entry == Entry::Passwords(Vec::new())
    }

    /// What follows the name in `ACL SETUSER`. Begins from nothing, so what somebody else added is gone.
    pub fn rules(&self) -> Vec<String> {
        let mut rules = vec!["reset".to_owned()];
        match &self.entry {
            Entry::Passwords(hashes) => rules.extend(hashes.iter().map(|hash| format!("#{hash}"))),
            Entry::Anybody => rules.push("nopass".to_owned()),
        }
        if !self.is_off() {
            rules.push("on".to_owned());
        }
        rules.push("resetchannels".to_owned());
        rules.extend(self.rules.rules.iter().cloned());
        rules
    }

    /// The line of redis.conf.
    pub fn line(&self) -> String {
        let words: Vec<String> = self.rules().iter().map(|rule| word(rule)).collect();
        format!("user {} {}\n", self.name, words.join(" "))
    }
}

/// A rule as one word of redis.conf.
fn word(rule: &str) -> String {
    let is_plain = rule.bytes().all(|b| b.is_ascii_graphic() && !b"\"'\\".contains(&b));
    if is_plain { rule.to_owned() } else { quote(rule.as_bytes()) }
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
                User::of_application("default", Entry::Passwords(hashes()), Rules::everything()),
                User::of_application("default", Entry::Passwords(Vec::new()), Rules::everything()),
                User::of_application("default", Entry::Anybody, Rules::everything()),
                User::of_application("a", Entry::Passwords(hashes()), Rules { rules: Vec::new(), off: true }),
                User::of_application(
                    "b",
                    Entry::Passwords(hashes()),
                    Rules { rules: ["~a\"b", "(+@read ~c)"].map(str::to_owned).to_vec(), off: false }
                ),
            ]
            .map(|user| user.line())
            .concat(),
            @r#"
        user redis-operator reset #aa #bb on resetchannels ~redis-operator:write-test +ping +info +client +config|get +config|set +replicaof +failover +replconf +setrange +acl|setuser +acl|getuser +acl|deluser
        user redis-operator-replica reset #aa #bb on resetchannels +ping +replconf +psync +sync
        user redis-operator-agent reset #aa #bb on resetchannels +ping +info +config|get
        user default reset #aa #bb on resetchannels ~* &* +@all
        user default reset resetchannels ~* &* +@all
        user default reset nopass on resetchannels ~* &* +@all
        user a reset #aa #bb resetchannels
        user b reset #aa #bb on resetchannels "~a\"b" "(+@read ~c)"
        "#
        );
    }
}
