//! Directives that a user cannot set at all, by the reason they have in common. Pure.

use kube_core::{Message, Rule};
use strum::EnumIter;

use super::verdicts::{self, Verdict};

/// Why a directive is refused. Which ones are, the table says (`verdicts`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumIter)]
pub enum Group {
    /// Who follows whom.
    Role,
    /// Passwords and users.
    Credentials,
    /// Encryption.
    Tls,
    /// Where the server listens.
    Addresses,
    /// What a replica calls itself.
    AnnouncedNames,
    /// The process, its files and what may change it from within.
    Process,
    /// What elections compare data by.
    History,
    /// Redis Cluster and Sentinel.
    OtherModes,
    /// Switches for the tests of Redis itself.
    Tests,
}

impl Group {
    /// Beginnings of names that are refused too, also those that a later version brings.
    pub const fn prefixes(self) -> &'static [&'static str] {
        match self {
            Self::Tls => &["tls-"],
            Self::Addresses => &["rdma-"],
            Self::AnnouncedNames => &["replica-announce", "slave-announce"],
            Self::Process => &["enable-", "syslog-"],
            Self::OtherModes => &["cluster-", "sentinel"],
            Self::Role | Self::Credentials | Self::History | Self::Tests => &[],
        }
    }

    /// Why, and what to do instead.
    pub const fn why(self) -> &'static str {
        match self {
            Self::Role => {
                "the operator decides who is primary and whom each replica follows; see status.primary"
            }
            Self::Credentials => {
                "a password does not belong into a resource that many can read; it comes from the Secret <name>-auth"
            }
            Self::Tls => {
                "TLS is not offered by this version: operator, probes and replicas speak plain Redis on port 6379"
            }
            Self::Addresses => {
                "the operator sets where Redis listens: port 6379 on every address of the pod; use a Service for another port"
            }
            Self::AnnouncedNames => {
                "each pod announces its own stable DNS name, and the operator verifies replication by it"
            }
            Self::Process => {
                "the pod fixes how Redis runs, logs to standard output, where it keeps its data and which commands it knows"
            }
            Self::History => {
                "elections compare data by the replication history, which a primary would drop with its backlog"
            }
            Self::OtherModes => {
                "a RedisReplicaSet is one primary with replicas; Redis Cluster and Sentinel are other ways to run Redis"
            }
            Self::Tests => {
                "it is a switch for tests of Redis itself: such servers never end a save, a load or a full copy, fill their disk, or end"
            }
        }
    }

    /// The names in the table that no prefix covers.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        verdicts::names(Verdict::Refused(self)).filter(move |name| !self.begins(name))
    }

    /// Whether a directive belongs to this group.
    pub(super) fn holds(self, name: &str) -> bool {
        self.begins(name) || self.names().any(|of_group| of_group == name)
    }

    fn begins(self, name: &str) -> bool {
        self.prefixes().iter().any(|prefix| name.starts_with(prefix))
    }

    /// The same as a CEL rule over the map of directives; its message names the offenders.
    ///
    /// It asks for each refused name whether the map has it, and puts only texts of its own into the message: the
    /// API server knows no bound for the length of a key, and would find the rule too expensive.
    pub fn rule(self) -> Rule {
        let begins = |prefix: &str| format!("self.exists(k, k.startsWith('{prefix}'))");
        let names: Vec<&str> = self.names().collect();
        let words = names.iter().map(|name| format!("('{name}' in self ? '{name} ' : '')"));
        let more = self.prefixes().iter().map(|prefix| format!("({} ? '{prefix}* ' : '')", begins(prefix)));
        let words: Vec<String> = words.chain(more).collect();
        let mut found: Vec<String> = self.prefixes().iter().map(|prefix| begins(prefix)).collect();
        if !names.is_empty() {
            found.insert(0, format!("['{}'].exists(k, k in self)", names.join("', '")));
        }
        let why = self.why().replace('\'', r"\'");
        Rule::new(format!("!({})", found.join(" || ")))
            .message(Message::Expression(format!("{} + 'cannot be set: {why}'", words.join(" + "))))
    }
}
