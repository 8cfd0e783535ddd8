//! Text as somebody writes it who wants more than a value: another directive, another user, another argument, another line of a log.
//!
//! Strategies for `proptest`, and Redis' own reading of redis.conf, written here once more. What the product renders is held against that.

use proptest::{
    collection::vec,
    prelude::*,
    sample::select,
    strategy::ValueTree as _,
    test_runner::{Config, TestRunner},
};

/// How many values a property is tried with.
pub const CASES: u32 = 10_000;

/// What has a meaning to somebody on the way: Redis' and the shell's quotes, ends of lines, Kubernetes' variables, terminals.
const PIECES: [&str; 52] = [
    "\"",
    "'",
    "\\",
    "\\\"",
    "\\'",
    "\\\\",
    "\\x",
    "\\x0",
    "\\x00",
    "\\x0a",
    "\\xzz",
    "\\n",
    "\\r",
    "\\a",
    "\n",
    "\r\n",
    "\r",
    "\0",
    "\t",
    "\u{b}",
    "\u{c}",
    "\u{1b}[31m",
    "\u{7f}",
    " ",
    "  ",
    "#",
    "# ",
    "\u{85}",
    "\u{a0}",
    "\u{2028}",
    "\u{2029}",
    "\u{3000}",
    "\u{feff}",
    "\u{202e}",
    "\u{fffd}",
    "é",
    "密碼",
    "\u{1f600}",
    "$(POD_NAME)",
    "$$(X)",
    "`id`",
    "$(id)",
    ";",
    "|",
    "&",
    "../../",
    "--",
    "@",
    "%s%n",
    "{}",
    "{title}",
    "<!--",
];

/// What an attacker wants Redis to read as a line, or as words, of their own.
const LINES: [&str; 12] = [
    "user default on nopass ~* &* +@all",
    "requirepass x",
    "masterauth x",
    "masteruser x",
    "replicaof 203.0.113.9 6379",
    "slaveof no one",
    "aclfile /data/users.acl",
    "include /data/other.conf",
    "rename-command CONFIG \"\"",
    "loadmodule /data/evil.so",
    "on >known",
    "nopass ~* +@all",
];

/// Any text, and text made of pieces that have a meaning to somebody.
pub fn text() -> impl Strategy<Value = String> {
    let piece = || prop_oneof![5 => select(&PIECES[..]), 1 => select(&LINES[..]), 2 => select(&["a", "1gb", "yes", "x=y"][..])];
    prop_oneof![
        3 => vec(piece(), 0..8).prop_map(|pieces| pieces.concat()),
        1 => vec(any::<char>(), 0..24).prop_map(String::from_iter),
        1 => "[ -~]{0,40}",
    ]
}

/// The same with every quote closed and on one line: what admission lets through, mostly.
pub fn closed_text() -> impl Strategy<Value = String> {
    let inner = || {
        select(
            &[
                "a", " ", "\\\\", "\\n", "\\x00", "\\x0a", "\\xff", "\\xz", "#", "é", "user", "on", "$(X)",
                "\u{a0}",
            ][..],
        )
    };
    let quoted = (select(&["\"", "'"][..]), vec(inner(), 0..6))
        .prop_map(|(quote, inner)| format!("{quote}{}{quote}", inner.concat()));
    let plain = vec(select(&["a", "Z", "9", "\\", "#", "é", "-", "\u{a0}", "\u{3000}", "$(X)"][..]), 1..5)
        .prop_map(|pieces| pieces.concat());
    let word = prop_oneof![
        plain.clone(),
        quoted.clone(),
        (plain, quoted).prop_map(|(plain, quoted)| plain + &quoted)
    ];
    vec(word, 0..4).prop_map(|words| words.join(" "))
}

/// Any bytes, for what a Secret may hold: up to 4 KiB, with and without a meaning.
pub fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => text().prop_map(String::into_bytes),
        4 => vec(any::<u8>(), 1..64),
        1 => (any::<u8>(), select(&[255_usize, 1024, 4096][..])).prop_map(|(byte, length)| vec![byte; length]),
    ]
}

/// Tries a property with so many values, or stops at the first that it does not hold for, made as small as it gets.
pub fn holds<S: Strategy>(cases: u32, values: S, property: impl Fn(S::Value) -> Result<(), TestCaseError>)
where
    S::Value: std::fmt::Debug,
{
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    if let Err(failure) = TestRunner::new(config).run(&values, property) {
        panic!("{failure}");
    }
}

/// So many values of a strategy, the same ones in every run.
pub fn sample<S: Strategy>(values: S, count: usize) -> Vec<S::Value> {
    let mut runner = TestRunner::deterministic();
    (0..count).map(|_| values.new_tree(&mut runner).unwrap().current()).collect()
}

/// The words of one line, as `sdssplitargs` (sds.c) takes it apart; `None` where a quote is not closed, or no blank follows it.
pub fn words(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    let is_space = |byte: u8| byte == b' ' || (9..=13).contains(&byte);
    // C's strings end at the first NUL.
    let line = line.split(|byte| *byte == 0).next()?;
    let at = |index: usize| line.get(index).copied().unwrap_or(0);
    let (mut words, mut index) = (Vec::new(), 0);
    loop {
        while is_space(at(index)) {
            index += 1;
        }
        if at(index) == 0 {
            return Some(words);
        }
        let (mut word, mut quote) = (Vec::new(), 0_u8);
        loop {
            match (quote, at(index)) {
                (0, 0 | b' ' | b'\n' | b'\r' | b'\t') => break,
                (0, open @ (b'"' | b'\'')) => quote = open,
                (0, plain) => word.push(plain),
                (_, 0) => return None,
                (open, close) if close == open => {
                    if at(index + 1) != 0 && !is_space(at(index + 1)) {
                        return None;
                    }
                    index += 1;
                    break;
                }
                (b'"', b'\\') if at(index + 1) == b'x' && is_hex(at(index + 2)) && is_hex(at(index + 3)) => {
                    word.push(16 * hex(at(index + 2)) + hex(at(index + 3)));
                    index += 3;
                }
                (b'"', b'\\') if at(index + 1) != 0 => {
                    index += 1;
                    word.push(match at(index) {
                        b'n' => b'\n',
                        b'r' => b'\r',
                        b't' => b'\t',
                        b'b' => 8,
                        b'a' => 7,
                        other => other,
                    });
                }
                (b'\'', b'\\') if at(index + 1) == b'\'' => {
                    index += 1;
                    word.push(b'\'');
                }
                (_, plain) => word.push(plain),
            }
            index += 1;
        }
        words.push(word);
    }
}

fn is_hex(byte: u8) -> bool {
    byte.is_ascii_hexdigit()
}

fn hex(byte: u8) -> u8 {
    char::from(byte).to_digit(16).unwrap().try_into().unwrap()
}

/// The directives of a redis.conf, each as its words, as Redis reads the file (`loadServerConfigFromString`).
pub fn directives(conf: &str) -> Option<Vec<Vec<Vec<u8>>>> {
    // `fgets` and what joins its pieces are C's strings too: nothing after a NUL would be read of its line.
    conf.split('\n')
        .map(|line| line.trim_matches([' ', '\t', '\r', '\n']))
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| words(line.as_bytes()))
        .collect()
}

/// Whether a text would write to a terminal, begin a line of its own in a log, or turn the text around it.
pub fn has_controls(text: &str) -> bool {
    text.chars().any(|c| {
        c.is_control()
            || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What redis-server 7.0.15 itself made of these lines (`CONFIG GET` of a server that had them in its file).
    #[test]
    fn lines_are_read_as_redis_reads_them() {
        for (line, read) in [
            (r#"a "b c" d"#, Some(vec!["a", "b c", "d"])),
            (r#"a b"c d""#, Some(vec!["a", "bc d"])),
            (r#"a "\x41\n\q""#, Some(vec!["a", "A\nq"])),
            (r"a 'b\'\n'", Some(vec!["a", "b'\\n"])),
            (r#"a "b"c"#, None),
            (r#"a "b"#, None),
            ("a \"b\"\u{a0}", None),
            (r#"a """#, Some(vec!["a", ""])),
            ("a b\u{0}c", Some(vec!["a", "b"])),
        ] {
            let found = words(line.as_bytes());
            let read =
                read.map(|words| words.iter().map(|word| word.as_bytes().to_vec()).collect::<Vec<_>>());
            assert_eq!(found, read, "{line:?}");
        }
    }

    #[test]
    fn a_file_is_read_line_by_line() {
        let read = directives("# user x\n\n  a b \r\n\tc 'd'\n").unwrap();
        assert_eq!(read, [[b"a".to_vec(), b"b".to_vec()], [b"c".to_vec(), b"d".to_vec()]]);
        assert_eq!(directives("a \"b\nc d\n"), None);
    }
}
