//! The API server's audit log: which requests the operator made.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use serde::Deserialize;

/// Verbs that change something.
const MUTATING: [&str; 5] = ["create", "update", "patch", "delete", "deletecollection"];

/// One finished request, as far as it is read here.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    stage: String,
    verb: String,
    user: User,
    #[serde(default)]
    object_ref: Option<ObjectRef>,
    request_received_timestamp: Timestamp,
}

#[derive(Clone, Debug, Deserialize)]
struct User {
    username: String,
}

#[derive(Clone, Debug, Deserialize)]
struct ObjectRef {
    resource: String,
    #[serde(default)]
    subresource: Option<String>,
    #[serde(default)]
    namespace: Option<String>,
}

/// One request of the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// When the server received it.
    pub at: Timestamp,
    /// Verb, for example `patch`.
    pub verb: String,
    /// Resource, with the subresource: `redisreplicasets/status`.
    pub resource: String,
    /// Namespace of the object, if it has one.
    pub namespace: Option<String>,
}

impl Request {
    /// Whether it changes something that is not the operator's lease.
    pub fn is_write(&self) -> bool {
        MUTATING.contains(&self.verb.as_str()) && self.resource != "leases"
    }

    /// Whether it is a LIST.
    pub fn is_list(&self) -> bool {
        self.verb == "list"
    }
}

/// The requests of one user among these lines, without those that did not finish. Lines that are no entry are an
/// error: the figures would be wrong.
pub fn requests(lines: &str, username: &str) -> Result<Vec<Request>, serde_json::Error> {
    let mut found = Vec::new();
    for line in lines.lines() {
        let entry: Entry = serde_json::from_str(line)?;
        if entry.stage != "ResponseComplete" || entry.user.username != username {
            continue;
        }
        let (resource, namespace) = entry.object_ref.map_or_else(
            || ("(none)".to_owned(), None),
            |object| {
                let resource = match object.subresource {
                    Some(subresource) => format!("{}/{subresource}", object.resource),
                    None => object.resource,
                };
                (resource, object.namespace)
            },
        );
        found.push(Request { at: entry.request_received_timestamp, verb: entry.verb, resource, namespace });
    }
    Ok(found)
}

/// How many of each kind, `patch services` and the like.
pub fn tally<'a>(requests: impl IntoIterator<Item = &'a Request>) -> BTreeMap<String, usize> {
    let mut tally = BTreeMap::new();
    for request in requests {
        *tally.entry(format!("{} {}", request.verb, request.resource)).or_default() += 1;
    }
    tally
}

/// The log file, from a moment on.
#[derive(Clone, Debug)]
pub struct Tail {
    path: PathBuf,
    from: u64,
}

impl Tail {
    /// Everything that is written from now on.
    pub fn begin(path: &Path) -> std::io::Result<Self> {
        Ok(Self { path: path.to_owned(), from: std::fs::metadata(path)?.len() })
    }

    /// Whole lines written since; a line that is still being written is left out.
    pub fn read(&self) -> std::io::Result<String> {
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(self.from))?;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        let end = text.rfind('\n').map_or(0, |newline| newline + 1);
        text.truncate(end);
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const OPERATOR: &str = "system:serviceaccount:redis-operator-system:redis-operator";

    fn line(stage: &str, user: &str, verb: &str, resource: &str, subresource: &str) -> String {
        let subresource =
            if subresource.is_empty() { String::new() } else { format!(r#","subresource":"{subresource}""#) };
        format!(
            r#"{{"stage":"{stage}","verb":"{verb}","user":{{"username":"{user}"}},"objectRef":{{"resource":"{resource}","namespace":"lab"{subresource}}},"requestReceivedTimestamp":"2026-11-23T01:04:05.212647Z"}}"#
        ) + "\n"
    }

    #[test]
    fn only_finished_requests_of_the_user_count() {
        let lines = [
            line("ResponseComplete", OPERATOR, "patch", "redisreplicasets", "status"),
            line("RequestReceived", OPERATOR, "patch", "services", ""),
            line("ResponseComplete", "kubernetes-admin", "patch", "services", ""),
            line("ResponseComplete", OPERATOR, "update", "leases", ""),
            line("ResponseComplete", OPERATOR, "get", "secrets", ""),
            line("ResponseComplete", OPERATOR, "list", "pods", ""),
        ]
        .concat();
        let found = requests(&lines, OPERATOR).unwrap();
        assert_eq!(found.len(), 4);
        let writes: Vec<&Request> = found.iter().filter(|r| r.is_write()).collect();
        assert_eq!(tally(writes), BTreeMap::from([("patch redisreplicasets/status".to_owned(), 1)]));
        assert_eq!(found.iter().filter(|r| r.is_list()).count(), 1);
        assert_eq!(found.first().and_then(|r| r.namespace.as_deref()), Some("lab"));
    }

    #[test]
    fn a_broken_line_is_an_error() {
        assert!(requests("{\"stage\":\n", OPERATOR).is_err());
    }

    #[test]
    fn the_tail_is_whole_lines_since_the_beginning() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.log");
        std::fs::write(&path, "before\n").unwrap();
        let tail = Tail::begin(&path).unwrap();
        assert_eq!(tail.read().unwrap(), "");
        std::fs::write(&path, "before\nafter\nhal").unwrap();
        assert_eq!(tail.read().unwrap(), "after\n");
    }
}
