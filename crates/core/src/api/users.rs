//! `spec.users`: ACL users for applications, beside `default`.

use kube_derive::KubeSchema;
use schemars::{Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// Most users in a spec: each costs one read of its Secret a minute.
pub const MAX_USERS: usize = 32;

/// Most rules of a user.
const MAX_RULES: usize = 64;

/// Longest rule.
const MAX_RULE_LENGTH: usize = 256;

/// What a rule looks like: a command or category, a key or channel pattern, a word for all or none of them, or a selector. Passwords and
/// `on` or `off` are none: these the operator keeps.
pub const RULE_PATTERN: &str = "^([+-]@?[A-Za-z0-9_.|-]+|(~|%[RW]{1,2}~|&)[!-~]+|allkeys|allchannels|allcommands|resetkeys|resetchannels|nocommands|clearselectors|[(][ -~]+[)])$";

/// What a name looks like.
pub const NAME_PATTERN: &str = "^[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}$";

/// One ACL user. The operator gives it to every server while Redis runs, and at each start; what somebody changes by hand is set back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("self.name == 'default' ? !has(self.secretName) : has(self.secretName)", "users: each user but default needs secretName; the password of default is that of spec.auth"),
    validation = ("!self.name.startsWith('redis-operator')", "users: names that begin with redis-operator are the operator's")
)]
pub struct AclUser {
    /// Name with which applications log in. `default` is the user of applications that name none: without rules of its own it may
    /// do everything.
    #[schemars(schema_with = "name_schema")]
    pub name: String,

    /// Secret of the same namespace whose key `password` holds the password. A change of it reaches the servers as with `spec.auth`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub secret_name: Option<String>,

    /// What the user may do, in Redis' own words: `+@read`, `-@dangerous`, `~orders:*`, `&news`. Without any rule it may do nothing. A rule
    /// that a server refuses is named in the condition `CredentialsCurrent`, and the user stays as it was.
    #[serde(default)]
    #[schemars(schema_with = "rules_schema")]
    pub rules: Vec<String>,

    /// Let nobody log in as this user. Connections that have logged in stay.
    #[serde(default)]
    pub off: bool,
}

fn name_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "minLength": 1, "maxLength": 64, "pattern": NAME_PATTERN})
}

fn rules_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": MAX_RULES,
        "items": {"type": "string", "minLength": 1, "maxLength": MAX_RULE_LENGTH, "pattern": RULE_PATTERN},
    })
}

impl AclUser {
    /// What is wrong with it, for a resource that was admitted by an older definition.
    pub fn problem(&self) -> Option<String> {
        let is_name = !self.name.is_empty()
            && self.name.len() <= 64
            && self.name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.@-".contains(&b));
        if !is_name || self.name.starts_with("redis-operator") {
            return Some(
                "a name has letters, digits and _.@- only, and does not begin with redis-operator".to_owned(),
            );
        }
        let bad = self.rules.iter().find(|rule| !is_rule(rule))?;
        Some(format!(
            "the user {} has {bad:?} among its rules, which is none; passwords come from Secrets",
            self.name
        ))
    }
}

/// Whether this is a rule, and neither a password nor `on` or `off`. The same as [`RULE_PATTERN`].
pub fn is_rule(rule: &str) -> bool {
    const WORDS: [&str; 7] = [
        "allkeys",
        "allchannels",
        "allcommands",
        "resetkeys",
        "resetchannels",
        "nocommands",
        "clearselectors",
    ];
    let is_graphic = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic());
    let is_command = |text: &str| {
        let text = text.strip_prefix('@').unwrap_or(text);
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.|-".contains(&b))
    };
    if let Some(command) = rule.strip_prefix(['+', '-']) {
        return is_command(command);
    }
    if let Some(inner) = rule.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')) {
        return !inner.is_empty() && inner.bytes().all(|b| (b' '..=b'~').contains(&b));
    }
    for prefix in ["~", "&", "%R~", "%W~", "%RW~", "%WR~"] {
        if let Some(pattern) = rule.strip_prefix(prefix) {
            return is_graphic(pattern);
        }
    }
    WORDS.contains(&rule)
}
