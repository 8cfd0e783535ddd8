//! redis.conf directives of a set: what its `ConfigMap` says, and which of it only a start of the server brings about.
//!
//! Pure. Most directives can be changed while Redis runs, and are (`live`, `act::config`); the file has them all, so
//! that the next start has them too. A directive that Redis reads only at its start, and one that was taken away (only
//! a start gives a server its own default back: no command does), is part of the pod template's hash: its change rolls
//! the pods.
//!
//! A line of the file that can be set live is changed only once every verified server has taken it: a server does not
//! start with a file that it refuses, and then the first restart would cost what no change may cost. Until then the
//! line stays as it was.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::ConfigMap;

use crate::{labels, live_config::Report};
use redis_node::files::CONFIG_KEY;

/// Directives that the operator prefers to Redis' own defaults; the user's win.
///
/// `repl-diskless-sync-delay` 0: Redis waits 5 s before a full sync so that more replicas may join it (experiment
/// E2). Members of a set come one at a time, so that wait would only delay each of them.
const PREFERRED: [(&str, &str); 1] = [("repl-diskless-sync-delay", "0")];

/// What the operator's own part of redis.conf says (`agent::config`), and a server can be told: set back where somebody
/// changes it by hand. `appendonly` is the user's where the spec names it.
///
/// A primary that pings each second is missed within three, and one that has lost its replicas refuses writes five seconds later
/// (`docs/design/protocol.md`, rule 12).
const OWNED: [(&str, &str); 5] = [
    ("appendonly", "no"),
    ("min-replicas-max-lag", "3"),
    ("repl-backlog-ttl", "0"),
    ("repl-ping-replica-period", "1"),
    ("replica-read-only", "yes"),
];

/// Former names under which a user may set what is in [`OWNED`].
const FORMER_NAMES: [(&str, &str); 2] =
    [("min-slaves-max-lag", "min-replicas-max-lag"), ("repl-ping-slave-period", "repl-ping-replica-period")];

/// What Redis 7.0 to 8.0 and Valkey 9.1 refuse to change at run time (experiment E14), without what a user cannot set
/// at all (`api::directives`). The union over the versions: `io-threads` is live in Valkey 9.1 and rolls the pods there
/// too, which costs a roll and never a value that is not in effect. What is missing here the servers say themselves
/// ([`File::start_only`]).
const START_ONLY: [&str; 16] = [
    "always-show-logo",
    "aof-rewrite-cpulist",
    "bgsave-cpulist",
    "bio-cpulist",
    "databases",
    "disable-thp",
    "hash-seed",
    "io-threads",
    "io-threads-do-reads",
    "mptcp",
    "rdbchecksum",
    "repl-mptcp",
    "server-cpulist",
    "set-proc-title",
    "socket-mark-id",
    "tcp-backlog",
];

/// The file that the pods mount, and what the operator has noted beside it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct File {
    /// Value by directive, as redis.conf spells it.
    pub lines: BTreeMap<String, String>,
    /// Directives of the file that a server called immutable, beside those known to be.
    pub start_only: BTreeSet<String>,
    /// `metadata.generation` of the spec that took a directive away last; the pods have to start after that.
    pub restart: Option<String>,
}

impl File {
    /// What a spec asks for, with nothing noted: the file of a set that begins.
    pub fn first(directives: &BTreeMap<String, String>) -> Self {
        let mut lines: BTreeMap<String, String> = PREFERRED.map(owned).into();
        lines.extend(directives.iter().map(|(name, value)| (name.clone(), spelled(value))));
        Self { lines, ..Self::default() }
    }

    /// What a live `ConfigMap` says.
    pub fn read(config_map: &ConfigMap) -> Self {
        let text = config_map.data.as_ref().and_then(|data| data.get(CONFIG_KEY)).map_or("", String::as_str);
        let lines = text.lines().filter_map(|line| line.trim_ascii().split_once(' '));
        let note = |key| config_map.metadata.annotations.as_ref().and_then(|notes| notes.get(key));
        Self {
            lines: lines.map(|(name, value)| (name.to_owned(), value.trim_ascii().to_owned())).collect(),
            start_only: note(labels::START_ONLY)
                .map(|names| names.split(',').map(str::to_owned).collect())
                .unwrap_or_default(),
            restart: note(labels::RESTART).cloned(),
        }
    }

    /// Whether it switches append-only files on.
    pub fn appendonly(&self) -> bool {
        self.lines.get("appendonly").is_some_and(|value| value.trim_matches(['"', '\'']) == "yes")
    }

    /// The text of the file: one line a directive, by name.
    pub fn text(&self) -> String {
        self.lines.iter().map(|(name, value)| format!("{name} {value}\n")).collect()
    }

    /// What only a start brings about, as text; its change has to roll the pods.
    pub fn needs_start(&self) -> String {
        let lines = self.lines.iter().filter(|(name, _)| self.is_start_only(name));
        let lines = lines.map(|(name, value)| format!("{name} {value}\n"));
        lines.chain(self.restart.iter().map(|generation| format!("# restart {generation}\n"))).collect()
    }

    /// The notes, as annotations of the `ConfigMap`: in one write with the lines that they belong to.
    pub fn notes(&self) -> Option<BTreeMap<String, String>> {
        let names: Vec<&str> = self.start_only.iter().map(String::as_str).collect();
        let start_only = (!names.is_empty()).then(|| (labels::START_ONLY.to_owned(), names.join(",")));
        let restart = self.restart.clone().map(|generation| (labels::RESTART.to_owned(), generation));
        let notes: BTreeMap<String, String> = start_only.into_iter().chain(restart).collect();
        (!notes.is_empty()).then_some(notes)
    }

    /// The directives that running servers can be told.
    pub fn live(&self) -> BTreeMap<String, String> {
        let of_user = self.lines.iter().filter(|(name, _)| !self.is_start_only(name));
        let mut live: BTreeMap<String, String> = OWNED.map(owned).into();
        // Under both names the later one would be set back for ever.
        for (former, name) in FORMER_NAMES {
            if self.lines.contains_key(former) {
                live.remove(name);
            }
        }
        live.extend(of_user.map(|(name, value)| (name.clone(), value.clone())));
        live
    }

    fn is_start_only(&self, name: &str) -> bool {
        START_ONLY.contains(&name) || self.start_only.contains(name)
    }
}

/// What the servers said to a changed file.
#[derive(Clone, Copy, Debug)]
pub enum ConfigOutcome<'a> {
    /// All verified servers were told: what they did not refuse is in effect.
    Told(&'a Report),
    /// They could not be told yet.
    NotTold,
    /// Nobody can say: none ever served, or a pod cannot start, maybe because of the file as it is.
    Nobody,
}

/// The file to mount from now on, from what the spec asks for (`wanted`), the live one (`former`) and the servers'
/// word.
pub fn next(wanted: &File, former: Option<&File>, vetted: ConfigOutcome<'_>, generation: i64) -> File {
    let Some(former) = former else { return wanted.clone() };
    let learned = match vetted {
        ConfigOutcome::Told(report) => report.start_only.clone(),
        ConfigOutcome::NotTold | ConfigOutcome::Nobody => BTreeSet::new(),
    };
    let start_only: BTreeSet<String> =
        former.start_only.union(&learned).filter(|name| wanted.lines.contains_key(*name)).cloned().collect();
    let noted = File { start_only, ..File::default() };
    let is_accepted = |name: &str| match vetted {
        ConfigOutcome::Told(report) => !report.declines(name),
        ConfigOutcome::NotTold => false,
        ConfigOutcome::Nobody => true,
    };
    let line = |(name, value): (&String, &String)| {
        let old = former.lines.get(name);
        let changes = noted.is_start_only(name) || is_accepted(name);
        let value = if changes { Some(value) } else { old };
        value.map(|value| (name.clone(), value.clone()))
    };
    // A line that somebody added to the ConfigMap by hand counts too: a server may have started with it.
    let removes =
        former.lines.keys().any(|name| !wanted.lines.contains_key(name) && !former.is_start_only(name));
    let restart = if removes { Some(generation.to_string()) } else { former.restart.clone() };
    File { lines: wanted.lines.iter().filter_map(line).collect(), restart, ..noted }
}

/// A value as redis.conf has it: an empty one has to be written as `""`, since Redis refuses a bare name. Blanks of Unicode are part
/// of a value: to Redis they are none.
fn spelled(value: &str) -> String {
    let value = value.trim_ascii();
    if value.is_empty() { r#""""#.to_owned() } else { value.to_owned() }
}

fn owned((name, value): (&str, &str)) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live_config::Refused;

    fn file(lines: &[(&str, &str)]) -> File {
        File::first(&lines.iter().copied().map(owned).collect())
    }

    fn told(refused: &[&str], start_only: &[&str]) -> Report {
        let refused = refused.iter().map(|name| Refused {
            pod: "redis-2".into(),
            name: (*name).into(),
            words: "ERR no".into(),
        });
        Report {
            refused: refused.collect(),
            start_only: start_only.iter().map(ToString::to_string).collect(),
            ..Report::default()
        }
    }

    #[test]
    fn the_text_of_the_file() {
        let file = file(&[("save", " "), ("maxmemory", "1gb"), ("repl-diskless-sync-delay", "5")]);
        assert_eq!(file.text(), "maxmemory 1gb\nrepl-diskless-sync-delay 5\nsave \"\"\n");
        assert_eq!(File::first(&BTreeMap::new()).text(), "repl-diskless-sync-delay 0\n");
    }

    #[test]
    fn what_was_written_is_read_again() {
        let mut written = file(&[("save", ""), ("client-output-buffer-limit", "replica 1mb 1mb 60")]);
        written.start_only = ["made-up".to_owned(), "other".to_owned()].into();
        written.restart = Some("7".into());
        let mut config_map = ConfigMap {
            data: Some([(CONFIG_KEY.to_owned(), written.text())].into()),
            ..ConfigMap::default()
        };
        config_map.metadata.annotations = written.notes();
        assert_eq!(File::read(&config_map), written);
        assert_eq!(File::read(&ConfigMap::default()), File::default());
        assert_eq!(file(&[]).notes(), None);
    }

    /// (what changed, the spec before and after, whether the pods have to start again)
    #[test]
    fn only_what_needs_a_start_rolls_the_pods() {
        for (before, after, rolls) in [
            (vec![], vec![("maxmemory", "1gb")], false),
            (vec![("maxmemory", "1gb")], vec![("maxmemory", "2gb")], false),
            (vec![("maxmemory", "1gb")], vec![], true),
            (vec![], vec![("databases", "32")], true),
            (vec![("databases", "32")], vec![("databases", "64")], true),
            (vec![("databases", "32")], vec![], true),
            (vec![("repl-diskless-sync-delay", "5")], vec![], false),
            (vec![("slave-priority", "1")], vec![("replica-priority", "1")], true),
        ] {
            let (before, after) = (file(&before), file(&after));
            let next = next(&after, Some(&before), ConfigOutcome::Told(&told(&[], &[])), 4);
            assert_eq!(next.lines, after.lines);
            assert_eq!(before.needs_start() != next.needs_start(), rolls, "{before:?} {after:?}");
            // Nothing rolls twice.
            let again = super::next(&after, Some(&next), ConfigOutcome::Told(&told(&[], &[])), 5);
            assert_eq!(again, next);
        }
    }

    #[test]
    fn what_is_refused_or_not_told_yet_stays_as_it_was() {
        let before = file(&[("maxmemory", "1gb"), ("databases", "16")]);
        let after = file(&[("maxmemory", "1gx"), ("hz", "20"), ("nonsense", "1"), ("databases", "32")]);
        let report = told(&["maxmemory", "nonsense"], &[]);
        let next_file = |vetted| next(&after, Some(&before), vetted, 2).text();
        assert_eq!(
            next_file(ConfigOutcome::Told(&report)),
            "databases 32\nhz 20\nmaxmemory 1gb\nrepl-diskless-sync-delay 0\n"
        );
        assert_eq!(
            next_file(ConfigOutcome::NotTold),
            "databases 32\nmaxmemory 1gb\nrepl-diskless-sync-delay 0\n"
        );
        // A pod that cannot start may need just this change.
        assert_eq!(next_file(ConfigOutcome::Nobody), after.text());
        assert_eq!(next(&after, None, ConfigOutcome::NotTold, 2), after, "a set that begins");
    }

    #[test]
    fn what_a_server_calls_immutable_is_for_the_roll_from_then_on() {
        let before = file(&[("made-up", "1")]);
        let learned = next(&before, Some(&before), ConfigOutcome::Told(&told(&[], &["made-up"])), 2);
        assert_ne!(learned.needs_start(), before.needs_start(), "its servers may not have it");
        assert!(!learned.live().contains_key("made-up"));
        // Known for good, also where nobody was told in this reconcile; a new value rolls.
        let kept = next(&before, Some(&learned), ConfigOutcome::NotTold, 3);
        assert_eq!(kept, learned);
        let changed = next(&file(&[("made-up", "2")]), Some(&learned), ConfigOutcome::NotTold, 4);
        assert_eq!(changed.lines["made-up"], "2");
        assert_ne!(changed.needs_start(), learned.needs_start());
        let gone = next(&file(&[]), Some(&changed), ConfigOutcome::NotTold, 5);
        assert_eq!((gone.start_only.len(), gone.restart.clone()), (0, None), "its line's end rolls already");
        assert_ne!(gone.needs_start(), changed.needs_start());
    }
}
