//! Which redis.conf directives a user may set, and why the others are refused.
//!
//! One table for both guards: the CRD's CEL rules, which answer at `kubectl apply`, and the plan, which holds
//! where the rules of an older CRD let something through. Pure.

use std::collections::BTreeMap;

use kube_core::{Message, Rule};

/// Directives that one user may set at most.
pub const MAX_DIRECTIVES: usize = 128;
/// Characters of one directive's value at most.
pub const MAX_VALUE_LENGTH: usize = 1024;
/// The primary pings its replicas this often (seconds) by default; a replica silent for longer than one and a
/// half of it counts as out of sync (experiment E4), so a slower ping would be reported as a fault.
const MAX_PING_PERIOD_SECONDS: u32 = 10;

/// Directives that are refused for one common reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Whole names.
    pub names: &'static [&'static str],
    /// Beginnings of names.
    pub prefixes: &'static [&'static str],
    /// Why, and what to do instead.
    pub why: &'static str,
}

/// Who follows whom.
pub const ROLE: Refused = Refused {
    names: &["replicaof", "slaveof", "replica-read-only", "slave-read-only"],
    prefixes: &[],
    why: "the operator decides who is primary and whom each replica follows; see status.primary",
};

/// Passwords and users.
pub const CREDENTIALS: Refused = Refused {
    names: &["requirepass", "masterauth", "masteruser", "primaryauth", "primaryuser", "user", "aclfile"],
    prefixes: &[],
    why: "a password does not belong into a resource that many can read; it comes from the Secret <name>-auth",
};

/// Encryption.
pub const TLS: Refused = Refused {
    names: &[],
    prefixes: &["tls-"],
    why: "TLS is not offered by this version: operator, probes and replicas speak plain Redis on port 6379",
};

/// Where the server listens.
pub const ADDRESSES: Refused = Refused {
    names: &["port", "bind", "bind-source-addr", "unixsocket", "unixsocketperm", "protected-mode"],
    prefixes: &["rdma-"],
    why: "the operator sets where Redis listens: port 6379 on every address of the pod; use a Service for another port",
};

/// What a replica calls itself.
pub const ANNOUNCED_NAMES: Refused = Refused {
    names: &[],
    prefixes: &["replica-announce", "slave-announce"],
    why: "each pod announces its own stable DNS name, and the operator verifies replication by it",
};

/// The process, its files and what may change it from within.
pub const PROCESS: Refused = Refused {
    names: &[
        "dir",
        "dbfilename",
        "appenddirname",
        "appendfilename",
        "daemonize",
        "pidfile",
        "logfile",
        "supervised",
        "include",
        "loadmodule",
        "loadmodule-ex",
        "rename-command",
    ],
    prefixes: &["enable-", "syslog-"],
    why: "the pod fixes how Redis runs, logs to standard output, where it keeps its data and which commands it knows",
};

/// What elections compare data by.
pub const HISTORY: Refused = Refused {
    names: &["repl-backlog-ttl"],
    prefixes: &[],
    why: "elections compare data by the replication history, which a primary would drop with its backlog",
};

/// Redis Cluster and Sentinel.
pub const OTHER_MODES: Refused = Refused {
    names: &[],
    prefixes: &["cluster-", "sentinel"],
    why: "a RedisReplicaSet is one primary with replicas; Redis Cluster and Sentinel are other ways to run Redis",
};

/// Every group of refused directives.
pub const REFUSED: &[Refused] =
    &[ROLE, CREDENTIALS, TLS, ADDRESSES, ANNOUNCED_NAMES, PROCESS, HISTORY, OTHER_MODES];

impl Refused {
    /// Whether a directive belongs to this group.
    fn holds(&self, name: &str) -> bool {
        self.names.contains(&name) || self.prefixes.iter().any(|prefix| name.starts_with(prefix))
    }

    /// The same as a CEL rule over the map of directives; its message names the offenders.
    ///
    /// It asks for each refused name whether the map has it, and puts only texts of its own into the message: the
    /// API server knows no bound for the length of a key, and would find the rule too expensive.
    pub fn rule(&self) -> Rule {
        let names = self.names.iter().map(|name| (format!("'{name}' in self"), format!("{name} ")));
        let prefixes = self
            .prefixes
            .iter()
            .map(|prefix| (format!("self.exists(k, k.startsWith('{prefix}'))"), format!("{prefix}* ")));
        let (found, words): (Vec<_>, Vec<_>) = names
            .chain(prefixes)
            .map(|(found, word)| (found.clone(), format!("({found} ? '{word}' : '')")))
            .unzip();
        let why = self.why.replace('\'', r"\'");
        Rule::new(format!("!({})", found.join(" || ")))
            .message(Message::Expression(format!("{} + 'cannot be set: {why}'", words.join(" + "))))
    }
}

const NAME_RULE: &str =
    "a directive's name is lower-case letters, digits and dashes, as in redis.conf: maxmemory-policy";
const CONTROL_RULE: &str =
    "a value is one line without control characters: it becomes the line `name value` of redis.conf";
const QUOTES_RULE: &str =
    "quotes in a value must be closed, and a blank must follow: Redis does not start otherwise";
const DISKLESS_RULE: &str = "repl-diskless-load must be disabled or on-empty-db: the other modes throw the replica's \
                             data away before the primary's has arrived whole";
const APPENDONLY_RULE: &str = "appendonly must be yes or no";
const PING_RULE: &str = "repl-ping-replica-period must be 1 to 10 seconds: a replica that hears nothing for 15 s counts as out of sync";

/// Quotes as Redis' own splitter takes them (`sdssplitargs`): either kind opens anywhere, a closing quote ends
/// its word, and a backslash escapes.
const CLOSED_QUOTES: &str =
    r#"^([^"']|"(\\\\.|[^"\\\\])*"(\\s|$)|'([^'\\\\]|\\\\+'|\\\\+[^'\\\\])*'(\\s|$))*$"#;

/// CEL: names as redis.conf spells them.
pub fn name_rule() -> Rule {
    Rule::new("self.all(k, k.matches('^[a-z][a-z0-9-]{0,62}$'))").message(NAME_RULE)
}

/// CEL: one line a value.
pub fn control_rule() -> Rule {
    Rule::new(r"self.all(k, !self[k].matches('[\\x00-\\x1f\\x7f]'))").message(CONTROL_RULE)
}

/// CEL: closed quotes.
pub fn quotes_rule() -> Rule {
    let pattern = CLOSED_QUOTES.replace('\'', r"\'");
    Rule::new(format!("self.all(k, self[k].matches('{pattern}'))")).message(QUOTES_RULE)
}

/// CEL: no sync mode that can lose data (experiments E18, E23).
pub fn diskless_rule() -> Rule {
    Rule::new("!('repl-diskless-load' in self) || self['repl-diskless-load'] in ['disabled', 'on-empty-db']")
        .message(DISKLESS_RULE)
}

/// CEL: one spelling of `appendonly`, so that its change can be told.
pub fn appendonly_rule() -> Rule {
    Rule::new("!('appendonly' in self) || self['appendonly'] in ['yes', 'no']").message(APPENDONLY_RULE)
}

/// CEL: a ping period that the verdict on replicas allows for.
pub fn ping_rule() -> Rule {
    Rule::new(
        "['repl-ping-replica-period', 'repl-ping-slave-period'].all(k, !(k in self) || self[k].matches('^([1-9]|10)$'))",
    )
    .message(PING_RULE)
}

/// The rules above, for the plan.
pub fn check(directives: &BTreeMap<String, String>) -> Result<(), String> {
    if directives.len() > MAX_DIRECTIVES {
        return Err(format!("at most {MAX_DIRECTIVES} directives can be set"));
    }
    directives.iter().try_for_each(|(name, value)| check_one(name, value))
}

fn check_one(name: &str, value: &str) -> Result<(), String> {
    let spelled = name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.len() <= 63
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    if !spelled {
        return Err(format!("{name:?}: {NAME_RULE}"));
    }
    if let Some(group) = REFUSED.iter().find(|group| group.holds(name)) {
        return Err(format!("{name} cannot be set: {}", group.why));
    }
    if value.chars().count() > MAX_VALUE_LENGTH {
        return Err(format!("{name}: a value has at most {MAX_VALUE_LENGTH} characters"));
    }
    if value.chars().any(|c| c.is_ascii_control()) {
        return Err(format!("{name}: {CONTROL_RULE}"));
    }
    if !quotes_closed(value) {
        return Err(format!("{name}: {QUOTES_RULE}"));
    }
    match name {
        "repl-diskless-load" if !["disabled", "on-empty-db"].contains(&value) => {
            Err(DISKLESS_RULE.to_owned())
        }
        "appendonly" if !["yes", "no"].contains(&value) => Err(APPENDONLY_RULE.to_owned()),
        "repl-ping-replica-period" | "repl-ping-slave-period" if !good_ping_period(value) => {
            Err(PING_RULE.to_owned())
        }
        _ => Ok(()),
    }
}

fn good_ping_period(value: &str) -> bool {
    value.parse::<u32>().is_ok_and(|seconds| (1..=MAX_PING_PERIOD_SECONDS).contains(&seconds))
}

/// Whether every quote closes, as Redis' splitter reads a line.
fn quotes_closed(value: &str) -> bool {
    let mut rest = value.chars().peekable();
    while let Some(open) = rest.next() {
        if open != '"' && open != '\'' {
            continue;
        }
        loop {
            match rest.next() {
                None => return false,
                Some('\\') if open == '"' => {
                    rest.next();
                }
                Some('\\') if rest.peek() == Some(&'\'') => {
                    rest.next();
                }
                Some(c) if c == open => break,
                Some(_) => {}
            }
        }
        if rest.peek().is_some_and(|next| !next.is_whitespace()) {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_directives_pass() {
        for (name, value) in [
            ("maxmemory-policy", "allkeys-lru"),
            ("save", "900 1 300 10"),
            ("save", ""),
            ("save", r#""""#),
            ("appendonly", "yes"),
            ("repl-diskless-load", "on-empty-db"),
            ("repl-ping-replica-period", "10"),
            ("client-output-buffer-limit", "replica 256mb 64mb 60"),
            ("portable", "x"),
            ("maxmemory", "100mb"),
        ] {
            assert_eq!(check_one(name, value), Ok(()), "{name} {value}");
        }
    }

    #[test]
    fn every_group_refuses_its_own() {
        for group in REFUSED {
            for name in group
                .names
                .iter()
                .map(ToString::to_string)
                .chain(group.prefixes.iter().map(|p| format!("{p}x")))
            {
                let refusal = check_one(&name, "1").unwrap_err();
                assert!(refusal.contains(group.why), "{name}: {refusal}");
            }
        }
    }

    #[test]
    fn malformed_is_refused() {
        for (name, value) in [
            ("MaxMemory", "1"),
            ("", "1"),
            ("9x", "1"),
            ("a b", "1"),
            ("maxmemory", "1\nreplicaof x 1"),
            ("maxmemory", "1\r"),
            ("save", "\"900 1"),
            ("save", "'a\\'"),
            ("save", "\"a\"b"),
            ("appendonly", "Yes"),
            ("repl-diskless-load", "swapdb"),
            ("repl-ping-replica-period", "60"),
        ] {
            assert!(check_one(name, value).is_err(), "{name} {value}");
        }
    }
}
