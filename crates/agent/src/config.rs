//! The final redis.conf: the user's directives first, then the operator's own, which win. Pure.
//!
//! Only directives that Redis 6.2 knows, in redis.conf's own quoting.

use std::fmt::Write;

use thiserror::Error;

use redis_node::{files::REDIS_PORT, password::Password};

/// What the operator's part of the configuration is made of.
#[derive(Clone, Copy, Debug)]
pub struct Managed<'a> {
    /// DNS name of this pod, which Redis announces.
    pub announce: &'a str,
    /// Redis' working directory.
    pub data_dir: &'a str,
    /// For clients, for replicas, and for our own link: every pod has both, because any may become primary.
    pub password: &'a Password,
    /// Whom to name as primary at start: host and port.
    pub replica_of: (&'a str, u16),
    /// Redis keeps append-only files.
    pub appends: bool,
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

/// Directives that a later line of the same file does not undo: other files, ACL users beside or in place of
/// `requirepass`, the user for the link to the primary, commands that the operator needs.
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
    let password = quote(managed.password.as_bytes());
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
masterauth {password}
requirepass {password}
replica-read-only yes
repl-backlog-ttl 0
appendonly {appends}
replicaof {host} {port}
",
        dir = quote(managed.data_dir.as_bytes()),
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

/// A value in redis.conf's double quotes, so that any byte survives (`sdssplitargs` in Redis' sds.c).
pub fn quote(value: &[u8]) -> String {
    let mut quoted = String::from("\"");
    for &byte in value {
        match byte {
            b'"' | b'\\' => quoted.extend(['\\', char::from(byte)]),
            b' '..=b'~' => quoted.push(char::from(byte)),
            _ => {
                let _ = write!(quoted, "\\x{byte:02x}");
            }
        }
    }
    quoted.push('"');
    quoted
}

/// The password that a redis.conf of this operator has Redis ask for; of more lines the last counts, as it does for Redis.
pub fn password_of(conf: &str) -> Option<Password> {
    let value = conf.lines().rev().find_map(|line| line.strip_prefix("requirepass "))?;
    Password::exact(&unquote(value.trim_ascii_end())?)
}

/// What stands in redis.conf's double quotes, as [`quote`] and Redis' own `CONFIG REWRITE` write it.
fn unquote(quoted: &str) -> Option<Vec<u8>> {
    let mut rest = quoted.strip_prefix('"')?.strip_suffix('"')?.bytes();
    let mut value = Vec::new();
    while let Some(byte) = rest.next() {
        value.push(match byte {
            b'\\' => match rest.next()? {
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                b'a' => 7,
                b'b' => 8,
                b'x' => 16 * digit(rest.next()?)? + digit(rest.next()?)?,
                escaped => escaped,
            },
            plain => plain,
        });
    }
    Some(value)
}

fn digit(hexadecimal: u8) -> Option<u8> {
    char::from(hexadecimal).to_digit(16).and_then(|digit| digit.try_into().ok())
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
        let managed =
            Managed { announce: HOST, data_dir: "/data", password: &password, replica_of, appends: false };
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
        masterauth "p\"w\\ \xff"
        requirepass "p\"w\\ \xff"
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
    fn quoting() {
        assert_eq!(quote(b"a b"), r#""a b""#);
        assert_eq!(quote(b"\"\\\n\0\x7f\xc3"), r#""\"\\\x0a\x00\x7f\xc3""#);
    }

    #[test]
    fn the_password_is_found_again() {
        for password in [&b"plain"[..], b"p\"w\\ \xff\n\r\t\x07\x08", b"\"", b"a b", b"two\n\n"] {
            let password = Password::from_bytes(password).unwrap();
            let managed = Managed {
                announce: HOST,
                data_dir: "/data",
                password: &password,
                replica_of: PARKED,
                appends: false,
            };
            let conf = render("requirepass other\nmaxmemory 1\n", managed).unwrap();
            assert_eq!(password_of(&conf), Some(password));
        }
        let rewritten = r#"requirepass "a\n\r\t\a\b\x00""#;
        assert_eq!(password_of(rewritten), Password::from_bytes(b"a\n\r\t\x07\x08\0"));
        for none in [
            "",
            "requirepass",
            "requirepass \"",
            "requirepass \"\"",
            r#"requirepass "\x0""#,
            "masterauth \"a\"",
        ] {
            assert_eq!(password_of(none), None, "{none}");
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
