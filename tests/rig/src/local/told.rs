//! Whether a secret was told: in a text, or in the arguments and the environment of a process.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use k8s_openapi::ByteString;
use redis_node::conf::quote;

/// A secret in every form in which it may be told.
#[derive(Clone)]
pub struct Secret {
    /// What the form is, and the text.
    forms: Vec<(&'static str, String)>,
}

impl Secret {
    /// Of a text that is long enough not to be found by chance.
    pub fn new(secret: &str) -> Self {
        assert!(secret.len() >= 16, "too short to be told from other text");
        let bytes = secret.as_bytes();
        let each = |form: &dyn Fn(u8) -> String| bytes.iter().map(|byte| form(*byte)).collect::<Vec<_>>();
        let percent = |byte: u8| {
            let is_plain = byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
            if is_plain { char::from(byte).to_string() } else { format!("%{byte:02X}") }
        };
        let inner = |quoted: String| quoted.trim_matches('"').to_owned();
        let mut forms = vec![
            ("as it is", secret.to_owned()),
            ("hexadecimal", each(&|byte| format!("{byte:02x}")).concat()),
            ("hexadecimal, upper case", each(&|byte| format!("{byte:02X}")).concat()),
            ("as in a URL", each(&percent).concat()),
            ("as a list of bytes", each(&|byte| byte.to_string()).join(", ")),
            ("as a list of bytes without blanks", each(&|byte| byte.to_string()).join(",")),
            ("as in redis.conf", inner(quote(bytes))),
            ("as in JSON", inner(serde_json::to_string(secret).unwrap())),
            ("as Rust escapes text", secret.escape_debug().to_string()),
            ("as Rust escapes bytes", bytes.escape_ascii().to_string()),
        ];
        // By itself, and anywhere in a longer text: its first byte may be the first, second or third of a group.
        for before in 0..3_usize {
            let whole = base64(&[&vec![b'x'; before][..], bytes].concat());
            let end = (before + bytes.len()) / 3 * 4;
            forms.push(("base64", whole[before.div_ceil(3) * 4..end].to_owned()));
        }
        Self { forms }
    }

    /// The form in which a text tells it.
    pub fn found_in(&self, text: &str) -> Option<&'static str> {
        self.forms.iter().find(|(_, form)| text.contains(form.as_str())).map(|(name, _)| *name)
    }

    /// Every form with its name, to see that each is found.
    pub fn forms(&self) -> &[(&'static str, String)] {
        &self.forms
    }
}

fn base64(bytes: &[u8]) -> String {
    serde_json::to_value(ByteString(bytes.to_vec())).unwrap().as_str().unwrap().to_owned()
}

/// Looks at the arguments and the environment of every process that this one has started, directly or not, again and again.
pub struct Watch {
    ends: Arc<AtomicBool>,
    thread: JoinHandle<Seen>,
}

/// What a [`Watch`] has seen.
#[derive(Debug, Default)]
pub struct Seen {
    /// Names of the programs.
    pub programs: BTreeSet<String>,
    /// Process and program, where the secret was, which one by its number, and its form.
    pub told: BTreeSet<String>,
}

impl Watch {
    /// Begins.
    pub fn start(secrets: Vec<Secret>) -> Self {
        let ends = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&ends);
        let thread = thread::spawn(move || {
            let mut seen = Seen::default();
            while !until.load(Ordering::Relaxed) {
                for process in descendants() {
                    look(process, &secrets, &mut seen);
                }
                thread::sleep(Duration::from_millis(20));
            }
            seen
        });
        Self { ends, thread }
    }

    /// Ends, and tells.
    pub fn end(self) -> Seen {
        self.ends.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

fn look(process: u32, secrets: &[Secret], seen: &mut Seen) {
    // It may have ended meanwhile.
    let read = |file: &str| fs::read(format!("/proc/{process}/{file}")).unwrap_or_default();
    let program = String::from_utf8_lossy(&read("comm")).trim().to_owned();
    for file in ["cmdline", "environ"] {
        let text = String::from_utf8_lossy(&read(file)).replace('\0', "\n");
        for (number, secret) in secrets.iter().enumerate() {
            if let Some(form) = secret.found_in(&text) {
                let mut told = String::new();
                let _ = write!(told, "{file} of {program}: secret {number} {form}");
                seen.told.insert(told);
            }
        }
    }
    seen.programs.insert(program);
}

/// This process and all that come from it.
fn descendants() -> Vec<u32> {
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(process) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        // proc(5): the program's name, in parentheses, may hold blanks; its parent is the second field after it.
        let parent = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1)?.parse().ok());
        if let Some(parent) = parent {
            children.entry(parent).or_default().push(process);
        }
    }
    let mut found = vec![std::process::id()];
    let mut next = 0;
    while let Some(process) = found.get(next).copied() {
        found.extend(children.get(&process).into_iter().flatten());
        next += 1;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_is_found_and_no_other_text() {
        let secret = Secret::new("Zq7/horse+\"battery\"=%&é~");
        for (name, form) in secret.forms() {
            assert!(secret.found_in(&format!("before {form} after")).is_some(), "{name}: {form}");
        }
        for before in ["", "a", "ab", "abc", "user:"] {
            let whole = base64(format!("{before}Zq7/horse+\"battery\"=%&é~ and more").as_bytes());
            assert_eq!(secret.found_in(&whole), Some("base64"), "{whole}");
        }
        assert_eq!(secret.found_in("Zq7/horse+battery=%&é~ and 5a71"), None);
    }
}
