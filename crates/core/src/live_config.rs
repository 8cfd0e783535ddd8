//! What to tell a running server, and what its answers mean. Pure; `act::config` does the talking.
//!
//! A value is never compared with the spec's text: Redis spells values its own way (`1gb` is read back as 1073741824,
//! `Ex` as `xE`). What is compared is what a server reads back now with what the same process read back right after it
//! was set. A process that this operator has not told yet is told once; that changes nothing where it started with the
//! value.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use crate::{api::status::InstanceState, election::snapshot::Snapshot};
use redis_node::memory_size::bytes;

/// What a process reads back, by directive.
pub type Readings = BTreeMap<String, String>;

/// What this operator has told the processes of a set, by `run_id`.
pub type AppliedConfig = BTreeMap<String, BTreeMap<String, Setting>>;

/// One directive as one process took it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The value in the spec's words.
    pub value: String,
    /// The value in the server's words; `None` where it does not read the directive back.
    pub reading: Option<String>,
}

/// What telling the servers has come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Values that a server refused.
    pub refused: Vec<Refused>,
    /// Directives that a server knows and takes only at its start.
    pub start_only: BTreeSet<String>,
    /// Values that somebody else had changed.
    pub repaired: Vec<Repaired>,
}

impl Report {
    /// Whether a server said no to a directive, for this reason or that.
    pub fn declines(&self, name: &str) -> bool {
        self.start_only.contains(name) || self.refused.iter().any(|refused| refused.name == name)
    }
}

/// A value that a server refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The pod that refused first; those after it were not asked.
    pub pod: String,
    /// The directive.
    pub name: String,
    /// The server's words.
    pub words: String,
}

/// A value that somebody changed by hand, and that the operator has set back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repaired {
    /// The pod.
    pub pod: String,
    /// The directive.
    pub name: String,
    /// What the server read back before and after, in its words.
    pub readings: (String, String),
}

/// A server that can be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Name of its pod.
    pub pod: String,
    /// `run_id` of the process.
    pub run_id: String,
}

/// The verified servers, the primary last: a value that it takes is in effect for writers, so a replica tries it
/// first. Nobody while the primary of record is not verified itself.
pub fn servers(look: &Snapshot) -> Vec<Server> {
    let verified = look.topology.instances.iter().filter(|verdict| verdict.is_verified());
    let mut order: Vec<_> =
        verified.map(|v| (v.state == InstanceState::Primary, Reverse(v.ordinal), &v.pod)).collect();
    order.sort_unstable();
    if !order.iter().any(|(is_primary, ..)| *is_primary) {
        return Vec::new();
    }
    let server = |pod: &String| {
        let run_id = look.member(pod)?.answer.info.server.run_id.clone();
        Some(Server { pod: pod.clone(), run_id })
    };
    order.into_iter().filter_map(|(.., pod)| server(pod)).collect()
}

/// The directives to set on one process, in the order in which to set them.
pub fn due(
    wanted: &BTreeMap<String, String>,
    told: Option<&BTreeMap<String, Setting>>,
    readings: &Readings,
) -> Vec<String> {
    let is_due = |name: &str, value: &str| {
        let setting = told.and_then(|told| told.get(name));
        setting.is_none_or(|s| s.value != value || s.reading.as_ref() != readings.get(name))
    };
    let mut due: Vec<String> =
        wanted.iter().filter(|(name, value)| is_due(name, value)).map(|(name, _)| name.clone()).collect();
    // Never more memory-bound than before and after: with a larger bound the policy changes under it, with a smaller
    // one before it. Otherwise the old policy could evict what the new one keeps.
    due.sort_by_key(|name| match name.as_str() {
        "maxmemory" if grows(readings.get(name), wanted.get(name)) => -1,
        "maxmemory" => 1,
        _ => 0,
    });
    due
}

/// Whether a memory bound is widened; 0 is no bound.
fn grows(from: Option<&String>, to: Option<&String>) -> bool {
    let bound = |text: Option<&String>| match text.and_then(|text| bytes(text)) {
        Some(0) => Some(u64::MAX),
        other => other,
    };
    bound(to) > bound(from)
}

/// What somebody else had changed: the process had read back one value, then another, and setting it changed that.
pub fn repaired(
    pod: &str,
    told: Option<&BTreeMap<String, Setting>>,
    before: &Readings,
    after: &BTreeMap<String, Setting>,
) -> Vec<Repaired> {
    let repaired = |(name, now): (&String, &Setting)| {
        let then = told?.get(name)?;
        let (found, left) = (before.get(name)?, now.reading.as_ref()?);
        let by_others = then.value == now.value && then.reading.as_ref() != Some(found) && found != left;
        by_others.then(|| Repaired {
            pod: pod.to_owned(),
            name: name.clone(),
            readings: (found.clone(), left.clone()),
        })
    };
    after.iter().filter_map(repaired).collect()
}

/// Whether a refusal means that the server takes the directive only at its start. Redis 7 and Valkey say so; Redis 6.2
/// uses the words for an unknown directive, and reads back what it knows.
pub fn is_start_only(words: &str, is_read_back: bool) -> bool {
    is_read_back && (words.contains("immutable config") || words.contains("Unsupported CONFIG parameter"))
}

/// A value of redis.conf as the one argument that CONFIG SET takes: the words of the line, unquoted, with one blank
/// between them (`sdssplitargs` in Redis' sds.c; admission has checked that quotes are closed).
pub fn argument(value: &str) -> Vec<u8> {
    let mut words: Vec<Vec<u8>> = Vec::new();
    let mut rest = value.trim_ascii().bytes().peekable();
    while rest.peek().is_some() {
        let mut word = Vec::new();
        while let Some(byte) = rest.next_if(|byte| !byte.is_ascii_whitespace()) {
            match byte {
                b'"' => double_quoted(&mut rest, &mut word),
                b'\'' => single_quoted(&mut rest, &mut word),
                plain => word.push(plain),
            }
        }
        words.push(word);
        while rest.next_if(u8::is_ascii_whitespace).is_some() {}
    }
    words.join(&b' ')
}

type Bytes<'a> = std::iter::Peekable<std::str::Bytes<'a>>;

fn double_quoted(rest: &mut Bytes<'_>, word: &mut Vec<u8>) {
    while let Some(byte) = rest.next() {
        match byte {
            b'"' => return,
            b'\\' => match rest.next() {
                Some(b'x') => word.push(hexadecimal(rest)),
                Some(b'n') => word.push(b'\n'),
                Some(b'r') => word.push(b'\r'),
                Some(b't') => word.push(b'\t'),
                Some(b'b') => word.push(8),
                Some(b'a') => word.push(7),
                Some(other) => word.push(other),
                None => {}
            },
            plain => word.push(plain),
        }
    }
}

/// The byte after `\x`; a lone `x` where no two digits follow.
fn hexadecimal(rest: &mut Bytes<'_>) -> u8 {
    let mut ahead = rest.clone();
    let mut digit =
        || ahead.next().and_then(|byte| char::from(byte).to_digit(16)).and_then(|d| u8::try_from(d).ok());
    match (digit(), digit()) {
        (Some(high), Some(low)) => {
            *rest = ahead;
            high * 16 + low
        }
        _ => b'x',
    }
}

fn single_quoted(rest: &mut Bytes<'_>, word: &mut Vec<u8>) {
    while let Some(byte) = rest.next() {
        match byte {
            b'\'' => return,
            b'\\' => word.push(rest.next_if_eq(&b'\'').unwrap_or(b'\\')),
            plain => word.push(plain),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
        entries.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn settings(entries: &[(&str, &str, &str)]) -> BTreeMap<String, Setting> {
        let setting =
            |value: &str, reading: &str| Setting { value: value.into(), reading: Some(reading.into()) };
        entries.iter().map(|(name, value, reading)| ((*name).to_owned(), setting(value, reading))).collect()
    }

    #[test]
    fn a_process_is_told_once_and_again_when_it_or_the_spec_changed() {
        let wanted = map(&[("hz", "20"), ("maxmemory", "1gb"), ("save", "900 1")]);
        let read = map(&[("hz", "20"), ("maxmemory", "1073741824"), ("save", "900 1"), ("other", "x")]);
        assert_eq!(due(&wanted, None, &read), ["hz", "save", "maxmemory"], "a process nobody has told");
        let told =
            settings(&[("hz", "20", "20"), ("maxmemory", "1gb", "1073741824"), ("save", "900 1", "900 1")]);
        assert_eq!(due(&wanted, Some(&told), &read), [""; 0]);
        let by_hand = map(&[("hz", "20"), ("maxmemory", "5"), ("save", "900 1")]);
        assert_eq!(due(&wanted, Some(&told), &by_hand), ["maxmemory"]);
        let edited = map(&[("hz", "30"), ("maxmemory", "1gb")]);
        assert_eq!(due(&edited, Some(&told), &read), ["hz"]);
    }

    #[test]
    fn memory_is_widened_before_the_policy_and_narrowed_after_it() {
        for (from, to, first) in [
            ("100", "1gb", "maxmemory"),
            ("100", "0", "maxmemory"),
            ("1073741824", "1mb", "maxmemory-policy"),
            ("0", "1gb", "maxmemory-policy"),
            ("100", "nonsense", "maxmemory-policy"),
        ] {
            let wanted = map(&[("maxmemory", to), ("maxmemory-policy", "allkeys-lru")]);
            let order = due(&wanted, None, &map(&[("maxmemory", from)]));
            assert_eq!((order[0].as_str(), order.len()), (first, 2), "{from} to {to}");
        }
    }

    #[test]
    fn only_what_others_changed_is_called_repaired() {
        let told = settings(&[
            ("hz", "20", "20"),
            ("save", "900 1", "900 1"),
            ("timeout", "1", "1"),
            ("buffers", "a", "a b"),
        ]);
        // The spec changed hz, somebody changed save, timeout is as it was; of the buffers another part was changed.
        let before = map(&[("hz", "20"), ("save", ""), ("timeout", "1"), ("buffers", "a c"), ("new", "0")]);
        let after = settings(&[
            ("hz", "30", "30"),
            ("save", "900 1", "900 1"),
            ("timeout", "1", "1"),
            ("buffers", "a", "a c"),
            ("new", "1", "1"),
        ]);
        let found = repaired("redis-1", Some(&told), &before, &after);
        let save = Repaired {
            pod: "redis-1".into(),
            name: "save".into(),
            readings: (String::new(), "900 1".into()),
        };
        assert_eq!(found, [save]);
        assert_eq!(repaired("redis-1", None, &before, &after), [], "nothing is known of this process");
    }

    #[test]
    fn words_of_servers() {
        for (words, known, start_only) in [
            (
                "ERR CONFIG SET failed (possibly related to argument 'databases') - can't set immutable config",
                true,
                true,
            ),
            ("ERR Unsupported CONFIG parameter: databases", true, true),
            ("ERR Unsupported CONFIG parameter: nonsense", false, false),
            ("ERR Unknown option or number of arguments for CONFIG SET - 'nonsense'", false, false),
            (
                "ERR CONFIG SET failed (possibly related to argument 'hz') - argument couldn't be parsed into an integer",
                true,
                false,
            ),
        ] {
            assert_eq!(is_start_only(words, known), start_only, "{words}");
        }
    }

    #[test]
    fn values_become_one_argument() {
        for (value, expected) in [
            ("1gb", "1gb"),
            (r#""""#, ""),
            ("''", ""),
            ("", ""),
            ("  900  1\t300 10 ", "900 1 300 10"),
            (r#""900 1""#, "900 1"),
            (r#""a\"b" 'c\'d' e"#, r#"a"b c'd e"#),
            (r#""\x41\n\\\q" '\n'"#, "A\n\\q \\n"),
            (r#""\xzz""#, "xzz"),
            ("\"\u{e4}\"", "\u{e4}"),
        ] {
            assert_eq!(String::from_utf8(argument(value)).unwrap(), expected, "{value}");
        }
    }
}
