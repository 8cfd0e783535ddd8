//! What a person needs to see why a scenario failed.

use std::{fmt::Write as _, path::Path};

use crate::stage::kubectl;
use rig::cluster::lab::{Lab, OPERATOR_NAMESPACE};

/// Writes objects, events and logs into a file.
pub async fn collect(lab: &Lab, set: &str, file: &Path) -> std::io::Result<()> {
    let ns = lab.namespace;
    let operator =
        ["-n", OPERATOR_NAMESPACE, "logs", "-l", "app.kubernetes.io/name=redis-operator", "--prefix"];
    let mut wanted: Vec<Vec<String>> = Vec::new();
    let mut want = |words: &[&str]| wanted.push(words.iter().map(|word| (*word).to_owned()).collect());
    want(&["-n", ns, "get", "rrs", set, "-o", "yaml"]);
    want(&["-n", ns, "get", "cm", &format!("{set}-record"), "-o", "yaml"]);
    want(&["-n", ns, "get", "pods,pvc,sts,svc,pdb", "-o", "wide", "--show-labels"]);
    want(&["-n", ns, "get", "events", "--sort-by=.lastTimestamp"]);
    want(&[&operator[..], &["--tail=400"]].concat());
    want(&[&operator[..], &["--tail=400", "--previous"]].concat());
    for ordinal in 0..3 {
        let pod = format!("{set}-{ordinal}");
        want(&["-n", ns, "logs", &pod, "-c", "redis", "--tail=200", "--timestamps"]);
        want(&["-n", ns, "logs", &pod, "-c", "redis", "--tail=200", "--timestamps", "--previous"]);
    }
    let mut text = String::new();
    for words in wanted {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let said = kubectl(lab, &words).await.unwrap_or_else(|error| error.to_string());
        // Writing to a String cannot fail.
        let _ = write!(text, "--- kubectl {}\n{said}\n", words.join(" "));
    }
    std::fs::write(file, text)
}
