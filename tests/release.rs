//! How the project is released: the workflow, the published chart, and what SECURITY.md promises.
//!
//! Needs `helm` (environment HELM, else from PATH) and `shellcheck`, and installs cargo-cyclonedx. No cluster.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test; clippy.toml excuses only the #[test] functions themselves"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use serde_json::Value;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("cannot read {path}: {e}"))
}

fn workflows() -> Vec<(PathBuf, String)> {
    let files = fs::read_dir(root().join(".github/workflows")).unwrap().map(|entry| entry.unwrap().path());
    let texts: Vec<_> = files
        .map(|path| (path.clone(), read(path.strip_prefix(root()).unwrap().to_str().unwrap())))
        .collect();
    assert!(!texts.is_empty());
    texts
}

/// Whether a line that uses an action names a commit, which nobody can move, and beside it the version that it is.
fn is_pinned(line: &str) -> bool {
    let Some((_, rest)) = line.split_once('@') else { return false };
    let Some((commit, version)) = rest.split_once(" # v") else { return false };
    let is_hex = commit.chars().all(|c| c.is_ascii_digit() || ('a'..='f').contains(&c));
    commit.len() == 40 && is_hex && version.split('.').count() == 3
}

#[test]
fn every_action_is_pinned_to_a_commit() {
    let mut seen = 0;
    for (path, text) in workflows() {
        for line in text.lines().filter(|line| line.contains("uses:")) {
            assert!(is_pinned(line), "{}: {line}", path.display());
            seen += 1;
        }
    }
    assert!(seen >= 5, "{seen}");
    for line in [
        "uses: actions/checkout@v4",
        "uses: actions/checkout@de0fac2e4500dabe0009e67214ff5f5447ce83dd",
        "uses: actions/checkout@de0fac2 # v6.0.2",
        "uses: ./here",
    ] {
        assert!(!is_pinned(line), "{line}");
    }
}

/// The jobs of a workflow; each has its own rights.
fn jobs(text: &str) -> Vec<(String, Value)> {
    let workflow: Value = serde_saphyr::from_str(text).unwrap();
    assert_eq!(workflow["permissions"], serde_json::json!({ "contents": "read" }));
    workflow["jobs"].as_object().unwrap().clone().into_iter().collect()
}

/// What runs the code of dependencies cannot write; what can write builds nothing, and waits for every check.
#[test]
fn one_job_alone_may_publish_and_it_waits_for_all_others() {
    let jobs = jobs(&read(".github/workflows/release.yaml"));
    let names: BTreeSet<&str> = jobs.iter().map(|(name, _)| name.as_str()).collect();
    for (name, job) in &jobs {
        if name == "publish" {
            let needs: BTreeSet<&str> =
                job["needs"].as_array().unwrap().iter().map(|need| need.as_str().unwrap()).collect();
            assert_eq!(needs, names.iter().copied().filter(|other| *other != "publish").collect());
            for script in job["steps"].as_array().unwrap().iter().filter_map(|step| step["run"].as_str()) {
                let words = script.split_whitespace();
                let builders: Vec<&str> = words.filter(|word| ["cargo", "make"].contains(word)).collect();
                assert!(builders.is_empty(), "{name} builds: {script}");
            }
        } else {
            assert_eq!(job["permissions"], Value::Null, "{name} has rights of its own");
        }
    }
    assert!(names.contains("publish"), "{names:?}");
}

fn run_with_input(program: &str, args: &[&str], input: &str) -> Output {
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("cannot run {program}: {e}"));
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

/// What others can choose, for example the name of a tag, comes as a variable and never as a part of the script.
#[test]
fn scripts_of_the_workflows_are_clean() {
    let mut seen = 0;
    for (path, text) in workflows() {
        for (job, content) in jobs(&text) {
            for step in content["steps"].as_array().unwrap() {
                let Some(script) = step["run"].as_str() else { continue };
                assert!(!script.contains("${{"), "{}, {job}: {script}", path.display());
                let said = run_with_input("shellcheck", &["--shell=bash", "-"], script);
                let findings = String::from_utf8_lossy(&said.stdout);
                assert!(said.status.success(), "{}, {job}: {findings}", path.display());
                seen += 1;
            }
        }
    }
    assert!(seen >= 8, "{seen}");
}

/// A tool of another version may check or make something else than what was tried here.
#[test]
fn each_tool_is_installed_in_one_version() {
    let scripts = ["static", "sbom"].map(|name| read(&format!("hack/release/{name}.sh")));
    let texts = workflows().into_iter().map(|(_, text)| text).chain(scripts).chain([read("Makefile")]);
    let mut versions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in texts.collect::<String>().lines().filter(|line| line.contains("cargo install")) {
        let (tool, version) = line.split(' ').find_map(|word| word.split_once('@')).unwrap();
        versions.entry(tool.to_owned()).or_default().insert(version.to_owned());
    }
    assert!(versions.len() >= 3, "{versions:?}");
    assert!(versions.values().all(|versions| versions.len() == 1), "{versions:?}");
}

#[test]
fn the_published_chart_runs_the_released_image_by_its_digest() {
    let helm = std::env::var("HELM").unwrap_or_else(|_| "helm".to_owned());
    let dir = tempfile::tempdir().unwrap();
    let digest = format!("sha256:{}", "0123456789abcdef".repeat(4));
    let said = Command::new(root().join("hack/release/chart.sh"))
        .args(["registry.example/operator", &digest])
        .arg(dir.path())
        .env("HELM", &helm)
        .output()
        .unwrap();
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    let chart = dir.path().join(format!("redis-operator-{}.tgz", env!("CARGO_PKG_VERSION")));
    let rendered = Command::new(&helm)
        .args(["template", "redis-operator", "--kube-version", "1.35.0"])
        .arg(&chart)
        .output()
        .unwrap();
    assert!(rendered.status.success(), "{}", String::from_utf8_lossy(&rendered.stderr));
    let text = String::from_utf8(rendered.stdout).unwrap();
    let image = format!("\"registry.example/operator@{digest}\"");
    // The container, and AGENT_IMAGE.
    assert_eq!(text.matches(&image).count(), 2, "{text}");
    assert!(!text.contains("localhost/redis-operator"));
}

/// The release attaches it to the image: a crate that it leaves out is one that nobody looks for.
#[test]
fn the_sbom_names_every_crate_of_the_image() {
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("sbom.json");
    let said = Command::new(root().join("hack/release/sbom.sh")).arg(&output).output().unwrap();
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    let text = fs::read_to_string(output).unwrap();
    let own = ["path+file:///#", "path+file:///crates/", "path+file://#"];
    let mut paths = text.match_indices("path+file:").map(|(at, _)| &text[at..]);
    let foreign = paths.find(|path| !own.iter().any(|own| path.starts_with(own)));
    assert_eq!(foreign.map(|path| path.split('"').next().unwrap()), None, "a path of this machine");
    let sbom: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&sbom["bomFormat"], &sbom["specVersion"]), (&"CycloneDX".into(), &"1.5".into()));
    let mut named = BTreeSet::from([format!("redis-operator v{}", env!("CARGO_PKG_VERSION"))]);
    for component in sbom["components"].as_array().unwrap() {
        assert!(component["licenses"].is_array(), "{component}");
        let part = |name: &str| component[name].as_str().unwrap().to_owned();
        named.insert(format!("{} v{}", part("name"), part("version")));
    }
    let told = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "--package", "redis-operator", "--edges", "normal", "--prefix", "none"])
        .current_dir(root())
        .output()
        .unwrap();
    let tree = String::from_utf8(told.stdout).unwrap();
    let linked: BTreeSet<String> =
        tree.lines().map(|line| line.split(' ').take(2).collect::<Vec<_>>().join(" ")).collect();
    assert!(linked.len() > 200, "{}", linked.len());
    assert_eq!(linked.difference(&named).collect::<Vec<_>>(), Vec::<&String>::new());
}

/// The names of test functions in a file, or in all files of a folder.
fn functions(path: &Path) -> BTreeSet<String> {
    if path.is_dir() {
        return fs::read_dir(path).unwrap().flat_map(|entry| functions(&entry.unwrap().path())).collect();
    }
    let text = fs::read_to_string(path).unwrap();
    let tests = text.split("test").skip(1).filter_map(|after| after.split_once("fn ").map(|(_, rest)| rest));
    tests.filter_map(|rest| rest.split_once('(')).map(|(name, _)| name.to_owned()).collect()
}

/// In SECURITY.md a file is named with its path, and after it, in the same cell, its tests; `make` with its target.
#[test]
fn tests_that_the_threat_model_names_are_there() {
    let (text, makefile) = (read("SECURITY.md"), read("Makefile"));
    let (mut files, mut tests) = (0, 0);
    for cell in text.lines().filter(|line| line.starts_with('|')).flat_map(|line| line.split('|')) {
        let mut known = BTreeSet::new();
        for word in cell.split('`').skip(1).step_by(2) {
            if let Some(target) = word.strip_prefix("make ") {
                assert!(
                    makefile.contains(&format!("\n{target}:")),
                    "SECURITY.md names {word}: no such target"
                );
            } else if word.contains('/') && !word.contains(['<', ' ', ':']) {
                assert!(root().join(word).exists(), "SECURITY.md names {word}, which is not there");
                known = functions(&root().join(word));
                files += 1;
            } else if !known.is_empty() {
                assert!(
                    known.contains(word),
                    "SECURITY.md names the test {word}, which is not there: {cell}"
                );
                tests += 1;
            }
        }
    }
    assert!(files > 15 && tests > 15, "{files} files, {tests} tests");
}
