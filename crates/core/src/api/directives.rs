//! Which redis.conf directives a user may set, and why the others are refused.
//!
//! One table (`verdicts`) for both guards: the CRD's CEL rules, which answer at `kubectl apply`, and the plan, which holds
//! where the rules of an older CRD let something through. Pure.

mod bounded;
mod refused;
mod shape;
mod verdicts;

use std::collections::BTreeMap;

use kube_core::Rule;
use strum::IntoEnumIterator as _;

pub use self::{
    bounded::Bound,
    refused::Group,
    verdicts::{Verdict, names, verdict},
};

/// Directives that one user may set at most.
pub const MAX_DIRECTIVES: usize = 128;
/// Characters of one directive's value at most.
pub const MAX_VALUE_LENGTH: usize = 1024;

const NAME_RULE: &str =
    "a directive's name is lower-case letters, digits and dashes, as in redis.conf: maxmemory-policy";
const CONTROL_RULE: &str =
    "a value is one line without control characters: it becomes the line `name value` of redis.conf";
const QUOTES_RULE: &str =
    "quotes in a value must be closed, and a blank must follow: Redis does not start otherwise";

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
    if let Some(group) = Group::iter().find(|group| group.holds(name)) {
        return Err(format!("{name} cannot be set: {}", group.why()));
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
    match verdict(name) {
        Some(Verdict::Bounded(bound)) => bound.check(value),
        _ => Ok(()),
    }
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
        // To Redis only ASCII has blanks.
        if rest.peek().is_some_and(|next| !next.is_ascii_whitespace()) {
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
        for group in Group::iter() {
            let prefixes = group.prefixes().iter().map(|prefix| format!("{prefix}x"));
            for name in group.names().map(str::to_owned).chain(prefixes) {
                let refusal = check_one(&name, "1").unwrap_err();
                assert!(refusal.contains(group.why()), "{name}: {refusal}");
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
            ("save", "\"a\"\u{a0}b"),
            ("appendonly", "Yes"),
            ("repl-diskless-load", "swapdb"),
            ("repl-ping-replica-period", "60"),
        ] {
            assert!(check_one(name, value).is_err(), "{name} {value}");
        }
    }
}
