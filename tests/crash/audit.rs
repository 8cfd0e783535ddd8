//! How often each object was created, by whomever, and how often the operator deleted one, by the API server's audit log.

use std::{
    collections::{BTreeMap, HashMap},
    fs::File,
    io::{Read, Seek, SeekFrom},
    sync::Mutex,
};

use serde_json::Value;

use crate::state::{LISTS, text};
use rig::local::control_plane::ControlPlane;

/// Times by what was done.
pub type Counts = BTreeMap<String, usize>;

/// Reads the log as it grows: all runs write into one.
pub struct Audit {
    plane: &'static ControlPlane,
    /// Whose deletes count.
    user: String,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    /// Bytes of the log that were read.
    until: u64,
    /// The beginning of a line whose end was not written yet.
    rest: Vec<u8>,
    by_namespace: HashMap<String, Counts>,
}

impl Audit {
    /// Nothing was read yet.
    pub fn new(plane: &'static ControlPlane, user: String) -> Self {
        Self { plane, user, seen: Mutex::default() }
    }

    /// What was done in this namespace until now.
    pub fn counts(&self, namespace: &str) -> Counts {
        let mut seen = self.seen.lock().unwrap();
        let mut log = File::open(self.plane.audit_log()).unwrap();
        log.seek(SeekFrom::Start(seen.until)).unwrap();
        let mut read = std::mem::take(&mut seen.rest);
        seen.until += u64::try_from(log.read_to_end(&mut read).unwrap()).unwrap();
        let whole = read.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        seen.rest = read.split_off(whole);
        for line in read.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let event: Value = serde_json::from_slice(line).unwrap();
            if let Some(what) = self.what(&event) {
                let counts = seen.by_namespace.entry(text(&event["objectRef"]["namespace"])).or_default();
                *counts.entry(what).or_default() += 1;
            }
        }
        seen.by_namespace.get(namespace).cloned().unwrap_or_default()
    }

    fn what(&self, event: &Value) -> Option<String> {
        let object = &event["objectRef"];
        let (plural, name) = (text(&object["resource"]), text(&object["name"]));
        let is_object = LISTS.iter().any(|(_, of)| *of == plural) && object["subresource"].is_null();
        let done = match (event["verb"].as_str(), event["responseStatus"]["code"].as_i64()) {
            (Some("create" | "patch"), Some(201)) => "created",
            (Some("delete"), Some(200 | 202)) if event["user"]["username"] == self.user => "deleted",
            _ => return None,
        };
        is_object.then(|| format!("{done} {plural}/{name}"))
    }
}
