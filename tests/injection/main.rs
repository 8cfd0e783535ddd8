//! Nothing that a user writes into a resource or a Secret becomes another directive, another user or another argument. Read back by
//! Redis' own rules, written once more in `rig::hostile_text`, and by real redis-servers.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a step that fails is the test's failure"
)]

mod children;
mod servers;

use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet},
    fs,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use operator_core::{
    api::directives::{self, quotes_rule},
    live_config::argument,
    redis_conf::File,
};
use proptest::{prelude::*, sample::select};
use redis_agent::config::{Managed, UnsafeDirective, Users, render};
use redis_node::{PARKED, conf::quote, files::REDIS_PORT, login::REPLICA_USER, password::Password};
use regex::Regex;
use rig::{
    hostile_text::{CASES, bytes, closed_text, directives as read, holds, sample, text, words},
    local::redis_server::{PATIENCE, RedisServer, free_address, probe},
};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use servers::hexadecimal;

const HOST: &str = "redis-1.redis-headless.default.svc.cluster.local";
const DATA: &str = "/data with a blank";

/// What the operator's own part of redis.conf holds before the user's lines, and after them, for a password.
fn owned(password: &[u8]) -> [Vec<Vec<Vec<u8>>>; 2] {
    let before = ["min-replicas-max-lag 3", "repl-ping-replica-period 1"];
    let hash = format!("#{}", hexadecimal(password));
    let [port, no] = [REDIS_PORT.to_string(), "no".to_owned()];
    let after: [(&str, Vec<&[u8]>); 17] = [
        ("port", vec![port.as_bytes()]),
        ("bind", vec![b"*", b"-::*"]),
        ("protected-mode", vec![no.as_bytes()]),
        ("dir", vec![DATA.as_bytes()]),
        ("daemonize", vec![no.as_bytes()]),
        ("supervised", vec![no.as_bytes()]),
        ("pidfile", vec![b""]),
        ("logfile", vec![b""]),
        ("replica-announce-ip", vec![HOST.as_bytes()]),
        ("replica-announce-port", vec![port.as_bytes()]),
        ("masteruser", vec![REPLICA_USER.as_bytes()]),
        ("masterauth", vec![password]),
        ("user", vec![b"default", b"on", hash.as_bytes(), b"~*", b"&*", b"+@all"]),
        ("replica-read-only", vec![b"yes"]),
        ("repl-backlog-ttl", vec![b"0"]),
        ("appendonly", vec![no.as_bytes()]),
        ("replicaof", vec![b"127.0.0.1", b"1"]),
    ];
    let before = before.map(|line| words(line.as_bytes()).unwrap()).to_vec();
    let after = after.map(|(name, values)| {
        std::iter::once(name.as_bytes()).chain(values).map(<[u8]>::to_vec).collect::<Vec<_>>()
    });
    [before, after.to_vec()]
}

/// Directives as they can be read in the words of a failure.
fn shown(directives: Vec<Vec<Vec<u8>>>) -> Vec<Vec<String>> {
    let words = |line: Vec<Vec<u8>>| line.iter().map(|word| word.escape_ascii().to_string()).collect();
    directives.into_iter().map(words).collect()
}

/// One user, with this password.
fn users(password: &Password) -> Users {
    let hash = hexadecimal(password.as_bytes());
    Users::check(&format!("user default on #{hash} ~* &* +@all\n")).unwrap()
}

/// What the agent makes of this configuration.
fn rendering(user: &str, password: &Password, data_dir: &str) -> Result<String, UnsafeDirective> {
    let users = users(password);
    let managed = Managed {
        announce: HOST,
        data_dir,
        users: &users,
        replica_password: password,
        replica_of: PARKED,
        appends: false,
    };
    render(user, managed)
}

fn rendered(user: &str, password: &Password, data_dir: &str) -> String {
    rendering(user, password, data_dir).unwrap_or_else(|refused| panic!("{refused}: {user:?}"))
}

/// Directives of which any text may be the value, as far as admission goes.
const FREE: [&str; 7] = [
    "proc-title-template",
    "notify-keyspace-events",
    "loglevel",
    "locale-collate",
    "log-format",
    "save",
    "a-new-one",
];

/// Specs of which admission takes most.
fn specs() -> impl Strategy<Value = BTreeMap<String, String>> {
    let name = prop_oneof![
        16 => select(&FREE[..]).prop_map(str::to_owned),
        1 => text(),
        1 => select(&["Save", "user", "include", "maxmemory\nuser", "save x", "-a", "#", "\u{212a}eep"][..])
            .prop_map(str::to_owned),
    ];
    let value = prop_oneof![6 => closed_text(), 1 => text()];
    proptest::collection::btree_map(name, value, 1..7)
}

#[test]
fn what_admission_takes_is_read_back_as_it_was_meant_and_nothing_else() {
    let (taken, values) = (Cell::new(0_u32), Cell::new(0_usize));
    holds(CASES, (specs(), bytes()), |(spec, secret)| {
        let Some(password) = Password::from_bytes(&secret) else { return Ok(()) };
        if directives::check(&spec).is_err() {
            return Ok(());
        }
        taken.set(taken.get() + 1);
        values.set(values.get() + spec.len());
        let file = File::first(&spec);
        let conf = rendered(&file.text(), &password, DATA);
        let [mut meant, after] = owned(password.as_bytes());
        meant.extend(file.lines.keys().map(|name| {
            let value = spec.get(name).map_or("0", String::as_str);
            let mut line = vec![name.as_bytes().to_vec()];
            let value = words(value.as_bytes()).expect("admission has seen to the quotes");
            // A bare name would be no directive.
            line.extend(if value.is_empty() { vec![Vec::new()] } else { value });
            line
        }));
        meant.extend(after);
        prop_assert_eq!(read(&conf).map(shown), Some(shown(meant)), "{}", conf);
        Ok(())
    });
    println!("{CASES} specs, of which admission took {}, with {} values", taken.get(), values.get());
    assert!(values.get() > usize::try_from(CASES).unwrap(), "too few get as far");
}

/// A file that did not come from the operator, or came from one that admission was wrong for.
#[test]
fn the_agent_adds_no_line_of_anybody() {
    let taken = Cell::new(0_u32);
    holds(CASES, (text(), text(), bytes()), |(name, value, secret)| {
        let Some(password) = Password::from_bytes(&secret) else { return Ok(()) };
        let user = format!("{name} {value}\n");
        let Ok(conf) = rendering(&user, &password, DATA) else { return Ok(()) };
        taken.set(taken.get() + 1);
        prop_assert!(!conf.contains('\0') && !conf.contains('\r'), "{:?}", conf);
        let [before, after] = owned(password.as_bytes());
        // One that does not close its quotes keeps Redis from starting: refused there, whole.
        if let Some(read) = read(&conf) {
            prop_assert!(read.starts_with(&before) && read.ends_with(&after), "{:?}", read);
            for line in &read[before.len()..read.len() - after.len()] {
                let name = String::from_utf8(line[0].to_ascii_lowercase()).unwrap();
                let gates = ["user", "aclfile", "include", "rename-command", "masteruser", "primaryuser"];
                prop_assert!(!gates.contains(&name.as_str()), "{:?}", line);
            }
        }
        Ok(())
    });
    assert!(taken.get() > CASES / 20, "too few get as far: {}", taken.get());
}

#[test]
fn any_bytes_survive_quoting() {
    holds(CASES, bytes(), |value| {
        let line = format!("requirepass {}", quote(&value));
        prop_assert!(line.is_ascii() && !line.bytes().any(|byte| byte.is_ascii_control()), "{}", line);
        prop_assert_eq!(words(line.as_bytes()), Some(vec![b"requirepass".to_vec(), value.clone()]));
        Ok(())
    });
}

/// The pattern of the CRD, the plan's check and Redis' own reading take the same values; what is told live is what the file says.
#[test]
fn quotes_are_closed_for_admission_for_the_plan_and_for_redis_alike() {
    let rule = serde_json::to_value(quotes_rule()).unwrap()["rule"].as_str().unwrap().to_owned();
    let pattern = rule.split_once("matches('").unwrap().1.strip_suffix("'))").unwrap().replace(r"\'", "'");
    // To RE2, which the API server has, only ASCII has blanks.
    let pattern = Regex::new(&pattern.replace(r"\\", r"\").replace(r"\s", r"[\t\n\f\r ]")).unwrap();
    let closed = Cell::new(0_u32);
    holds(CASES, prop_oneof![text(), closed_text()], |value| {
        if value.chars().any(|c| c.is_ascii_control()) {
            return Ok(());
        }
        let read = words(value.as_bytes());
        let spec = BTreeMap::from([("a-new-one".to_owned(), value.clone())]);
        prop_assert_eq!(directives::check(&spec).is_ok(), read.is_some(), "plan and Redis");
        prop_assert_eq!(pattern.is_match(&value), read.is_some(), "admission and Redis");
        if let Some(read) = read {
            closed.set(closed.get() + 1);
            prop_assert_eq!(argument(&value), read.join(&b' '));
        }
        Ok(())
    });
    assert!(closed.get() > CASES / 3, "{}", closed.get());
}

/// What others' operators let through: OT-CONTAINER-KIT/redis-operator#1763 (a newline in a field's value became lines of the file),
/// spotahome/redis-operator#716 (a quote in a value ended it, and Redis did not start; a field for `rename-command`).
#[test]
fn what_got_through_elsewhere_is_refused_by_the_plan_and_by_the_agent() {
    let password = Password::from_bytes(b"p").unwrap();
    for (name, value) in [
        ("hz", "10\nuser evil on nopass ~* +@all"),
        ("hz", "10\r\nrequirepass known"),
        ("hz", "10\nloadmodule /data/evil.so"),
        ("hz 10\nuser", "evil on nopass ~* +@all"),
        ("hz", "10\0\nuser evil on nopass ~* +@all"),
        ("rename-command", "CONFIG \"\""),
        ("rename-command \"CONFIG\" \"", "\""),
        ("include", "/data/other.conf"),
        ("USER", "evil on nopass ~* +@all"),
    ] {
        let spec = BTreeMap::from([(name.to_owned(), value.to_owned())]);
        let refusal = directives::check(&spec).unwrap_err();
        assert!(!rig::hostile_text::has_controls(&refusal), "{refusal:?}");
        let refused = rendering(&File::first(&spec).text(), &password, DATA);
        let kept = refused.as_ref().ok().and_then(|conf| read(conf));
        let kept: Vec<Vec<Vec<u8>>> = kept.into_iter().flatten().collect();
        assert!(!kept.iter().any(|line| line.contains(&b"evil".to_vec())), "{name:?} {value:?}");
        let names: Vec<Vec<u8>> = kept.into_iter().map(|line| line[0].to_ascii_lowercase()).collect();
        // `loadmodule` and a second `requirepass` are lines like others: the operator's own come later, and modules are the image's.
        for evil in [&b"rename-command"[..], b"include"] {
            assert!(!names.iter().any(|name| name == evil), "{name:?} {value:?}");
        }
    }
    for value in ["a\"b", "\"a", "a'b", "'a\\'", "\"a\"b"] {
        let spec = BTreeMap::from([("proc-title-template".to_owned(), value.to_owned())]);
        let refusal = directives::check(&spec).unwrap_err();
        assert!(refusal.contains("quotes in a value must be closed"), "{refusal}");
    }
}
