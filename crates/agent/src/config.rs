//! The final redis.conf: the user's directives first, then the operator's own, which win. Pure.
//!
//! Only directives that Redis 6.2 knows, in redis.conf's own quoting.

use std::fmt::Write;

use thiserror::Error;

use redis_node::{
    conf::quote,
    files::REDIS_PORT,
    login::{DEFAULT_USER, REPLICA_USER},
    password::Password,
};

/// What the operator's part of the configuration is made of.
#[derive(Clone, Copy, Debug)]
pub struct Managed<'a> {
    /// DNS name of this pod, which Redis announces.
    pub announce: &'a str,
    /// Redis' working directory.
    pub data_dir: &'a str,
    /// All users, as lines of redis.conf. Every pod has all of them, because any may become primary.
    pub users: &'a Users,
    /// With what this Redis logs in to its primary.
    pub replica_password: &'a Password,
    /// Whom to name as primary at start: host and port.
    pub replica_of: (&'a str, u16),
    /// Redis keeps append-only files.
    pub appends: bool,
}

/// All users of a Redis, as lines of redis.conf.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Users(String);

/// What is no list of users. Redis would let everybody in as a user that no line speaks of.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NoUsers {
    /// Another directive.
    #[error("line {0} of the users is not `user …`; the operator writes them again within a minute")]
    NotAUser(usize),
    /// The user that clients are before they name another one is missing.
    #[error("the users lack the user default; the operator writes them again within a minute")]
    NoDefault,
}

impl Users {
    /// Checks the lines that the operator wrote into the Secret.
    pub fn check(text: &str) -> Result<Self, NoUsers> {
        let mut has_default = false;
        for (index, line) in text.lines().enumerate() {
            let name = line.strip_prefix("user ").and_then(|rest| rest.split(' ').next());
            if name.is_none() || line.bytes().any(|byte| byte.is_ascii_control()) {
                return Err(NoUsers::NotAUser(index + 1));
            }
            has_default |= name == Some(DEFAULT_USER);
        }
        if !has_default {
            return Err(NoUsers::NoDefault);
        }
        Ok(Self(text.lines().map(|line| format!("{line}\n")).collect()))
    }
}

/// A line of the user's configuration that must not reach Redis.
///
/// Admission refuses these already; this is the last gate. The value is not shown: it may be a secret.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum UnsafeDirective {
    /// It would outlive the operator's own directives, which come later in the file.
    #[error(
        "line {line} of the configuration: {name} would undo what the operator sets; remove it from spec.config"
    )]
    Overrides {
        /// Line number, from 1.
        line: usize,
        /// Directive.
        name: String,
    },
    /// It is not `name value`.
    #[error("line {line} of the configuration is not `name value`; correct spec.config")]
    NotADirective {
        /// Line number, from 1.
        line: usize,
    },
}

/// Directives that a later line of the same file does not undo: other files, ACL users beside the operator's, the user for the
/// link to the primary, commands that the operator needs.
///
/// Shorter than admission's list (`api::directives`) on purpose: a rule that admission learns later must not keep
/// the pods of a set that was admitted before from starting again.
const OVERRIDES: [&str; 6] = ["aclfile", "include", "masteruser", "primaryuser", "rename-command", "user"];

/// A primary that pings each second is missed within three, and one that has lost its replicas refuses writes five seconds later
/// at most (`docs/design/protocol.md`, rule 12).
const DEFAULTS: &str = "min-replicas-max-lag 3\nrepl-ping-replica-period 1\n";

/// Renders redis.conf.
pub fn render(user: &str, managed: Managed<'_>) -> Result<String, UnsafeDirective> {
    let mut conf = format!("# Unless spec.config says otherwise\n{DEFAULTS}# From spec.config\n");
    for (index, line) in user.lines().enumerate() {
        if let Some(directive) = directive(index + 1, line)? {
            let _ = writeln!(conf, "{directive}");
        }
    }
    let (host, port) = managed.replica_of;
    let _ = write!(
        conf,
        "\
# From the operator
port {REDIS_PORT}
bind * -::*
protected-mode no
dir {dir}
daemonize no
supervised no
pidfile \"\"
logfile \"\"
replica-announce-ip {announce}
replica-announce-port {REDIS_PORT}
masteruser {REPLICA_USER}
masterauth {password}
{users}replica-read-only yes
repl-backlog-ttl 0
appendonly {appends}
replicaof {host} {port}
",
        dir = quote(managed.data_dir.as_bytes()),
        password = quote(managed.replica_password.as_bytes()),
        users = managed.users.0,
        announce = managed.announce,
        appends = if managed.appends { "yes" } else { "no" },
    );
    Ok(conf)
}

/// The directive in a line of the user's configuration, or `None` for an empty line or a comment.
fn directive(line: usize, text: &str) -> Result<Option<&str>, UnsafeDirective> {
    let text = text.trim_ascii();
    if text.is_empty() || text.starts_with('#') {
        return Ok(None);
    }
    let not_a_directive = UnsafeDirective::NotADirective { line };
    // Control characters: a NUL would cut the file short in Redis' reader.
    let (name, _value) = text.split_once([' ', '\t']).ok_or(not_a_directive.clone())?;
    let name_is_plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if !name_is_plain || text.bytes().any(|b| b.is_ascii_control() && b != b'\t') {
        return Err(not_a_directive);
    }
    // Redis compares names without regard to case.
    let lower = name.to_ascii_lowercase();
    if OVERRIDES.contains(&lower.as_str()) {
        return Err(UnsafeDirective::Overrides { line, name: lower });
    }
    Ok(Some(text))
}

/// Whether this can be a DNS name: only such names are put into redis.conf and asked for.
pub fn is_dns_name(name: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;
    use redis_node::PARKED;

    const HOST: &str = "redis-1.redis-headless.default.svc.cluster.local";

    fn rendered(user: &str, replica_of: (&str, u16)) -> Result<String, UnsafeDirective> {
        let password = Password::from_bytes(b"p\"w\\ \xff").unwrap();
        let users = Users::check("user default on #aa ~* &* +@all\nuser b off\n").unwrap();
        let managed = Managed {
            announce: HOST,
            data_dir: "/data",
            users: &users,
            replica_password: &password,
            replica_of,
            appends: false,
        };
        render(user, managed)
    }

    #[test]
    fn golden() {
        let user = "# mine\nmaxmemory 100mb\n\nport 7000\n  save 60 1  \n";
        let primary = "redis-0.redis-headless.default.svc.cluster.local";
        insta::assert_snapshot!(rendered(user, (primary, REDIS_PORT)).unwrap(), @r#"
        # Unless spec.config says otherwise
        min-replicas-max-lag 3
        repl-ping-replica-period 1
        # From spec.config
        maxmemory 100mb
        port 7000
        save 60 1
        # From the operator
        port 6379
        bind * -::*
        protected-mode no
        dir "/data"
        daemonize no
        supervised no
        pidfile ""
        logfile ""
        replica-announce-ip redis-1.redis-headless.default.svc.cluster.local
        replica-announce-port 6379
        masteruser redis-operator-replica
        masterauth "p\"w\\ \xff"
        user default on #aa ~* &* +@all
        user b off
        replica-read-only yes
        repl-backlog-ttl 0
        appendonly no
        replicaof redis-0.redis-headless.default.svc.cluster.local 6379
        "#);
    }

    #[test]
    fn parked() {
        assert!(rendered("", PARKED).unwrap().ends_with("\nreplicaof 127.0.0.1 1\n"));
    }

    #[test]
    fn what_would_outlive_our_directives_is_refused() {
        for line in
            ["user default on nopass", "INCLUDE /x", "rename-command INFO \"\"", "aclfile /a", "masteruser u"]
        {
            let refused = rendered(&format!("maxmemory 1\n{line}\n"), PARKED);
            assert!(
                matches!(refused, Err(UnsafeDirective::Overrides { line: 2, .. })),
                "{line}: {refused:?}"
            );
        }
    }

    #[test]
    fn what_is_no_directive_is_refused() {
        for line in ["appendonly", "\"user\" default on", "a\u{0}b c", "save 1\u{0} 2", "maxmemory 1\rport 1"]
        {
            assert_eq!(rendered(line, PARKED), Err(UnsafeDirective::NotADirective { line: 1 }), "{line:?}");
        }
    }

    #[test]
    fn refusals_do_not_show_values() {
        let refused = rendered("user secret", PARKED).unwrap_err();
        assert!(!format!("{refused} {refused:?}").contains("secret"));
    }

    #[test]
    fn users_are_nothing_but_users_and_have_a_default() {
        for (text, expected) in [
            ("user default on #aa +@all\nuser redis-operator on #bb +info", Ok(())),
            ("user default off", Ok(())),
            ("", Err(NoUsers::NoDefault)),
            ("user defaults on nopass", Err(NoUsers::NoDefault)),
            ("user default off\nport 7000", Err(NoUsers::NotAUser(2))),
            ("user default off\n\n", Err(NoUsers::NotAUser(2))),
            ("user default off\rport 7000", Err(NoUsers::NotAUser(1))),
            ("user default off\0", Err(NoUsers::NotAUser(1))),
        ] {
            assert_eq!(Users::check(text).map(|_| ()), expected, "{text:?}");
        }
    }

    #[test]
    fn dns_names() {
        for good in ["redis-0", "a.b.svc.cluster.local", "0"] {
            assert!(is_dns_name(good), "{good}");
        }
        for bad in ["", ".", "a.", "-a", "a-", "a b", "a\nb", "a\"", "ä"] {
            assert!(!is_dns_name(bad), "{bad}");
        }
    }
}
