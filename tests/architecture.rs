//! What holds the code together as `src/lib.rs` draws it: pure modules stay pure, files stay short, and the
//! documentation names exactly what the code can say.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a step that fails is the test's failure"
)]

#[path = "support/rust_source.rs"]
mod rust_source;

use std::collections::BTreeSet;

use operator_core::{
    api::{ConditionType, Reason},
    events::EventReason,
};
use redis_operator::metrics::STATUS_WRITE;
use rust_source::{code_only, file, paths, rust_files, without_tests};
use strum::VariantArray;

/// The pure modules, with their folders.
const PURE: [&str; 28] = [
    "src/config.rs",
    "src/config",
    "src/image.rs",
    "src/plan.rs",
    "src/plan",
    "src/desired.rs",
    "src/desired",
    "src/immutable.rs",
    "src/drift.rs",
    "src/topology.rs",
    "src/topology",
    "src/decide.rs",
    "src/decide",
    "src/record.rs",
    "src/status.rs",
    "src/subject.rs",
    "src/status",
    "src/events.rs",
    "src/requeue.rs",
    "src/roles.rs",
    "src/quantity.rs",
    "src/names.rs",
    "src/observed.rs",
    "src/volumes.rs",
    "src/volumes",
    "src/redis/info.rs",
    "src/agent/decide.rs",
    "src/agent/config.rs",
];

/// Files in those folders that are not pure, or not part of the product.
const NOT_PURE: [&str; 2] = ["src/status/patch.rs", "src/decide/tests.rs"];

/// What has a clock, a connection or the world behind it.
const FORBIDDEN: [&str; 32] = [
    "kube",
    "tokio",
    "futures",
    "tower",
    "axum",
    "redis",
    "getrandom",
    "tracing",
    "std::time::SystemTime",
    "std::time::Instant",
    "std::fs",
    "std::net",
    "std::process",
    "std::env",
    "std::io",
    "std::thread",
    "crate::act",
    "crate::apply",
    "crate::claims",
    "crate::context",
    "crate::controller",
    "crate::lease",
    "crate::metrics",
    "crate::monitor",
    "crate::observe",
    "crate::reconcile",
    "crate::redis::connection",
    "crate::redis::probe::probe",
    "crate::run",
    "crate::status::patch",
    "crate::store",
    "crate::agent::ask",
];

/// A trait without a client.
const ALLOWED: [(&str, &str); 1] = [("src/subject.rs", "kube::Resource")];

/// What a pure source must not name.
fn offences(path: &str, source: &str) -> Vec<String> {
    let is_below = |path: &str, parent: &str| {
        path.strip_prefix(parent).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    };
    paths(source)
        .into_iter()
        .filter(|named| {
            let reads_a_clock = named.ends_with("::now");
            // A single word is a local name, unless an import wrote it out.
            let leaves_the_pure =
                named.contains("::") && FORBIDDEN.iter().any(|parent| is_below(named, parent));
            reads_a_clock || leaves_the_pure
        })
        .filter(|named| !ALLOWED.iter().any(|(file, allowed)| *file == path && is_below(named, allowed)))
        .collect()
}

#[test]
fn pure_modules_know_no_client_clock_or_connection() {
    let files: Vec<String> = PURE.iter().flat_map(|path| rust_files(path)).collect();
    for skipped in NOT_PURE {
        assert!(files.iter().any(|path| path == skipped), "{skipped} is not there any more");
    }
    for path in files.iter().filter(|path| !NOT_PURE.contains(&path.as_str())) {
        let offences = offences(path, &file(path));
        assert!(offences.is_empty(), "{path} is a pure module and names {offences:?}");
    }
}

#[test]
fn the_scan_finds_what_it_looks_for() {
    for (source, found) in [
        ("use kube::Client;", "kube::Client"),
        ("use kube::{\n    Api,\n    api::{ListParams, PostParams as P},\n};", "kube::api::PostParams"),
        ("fn f(c: &kube::Client) {}", "kube::Client"),
        ("use tokio::time as clock;\nasync fn f() { clock::sleep(D).await }", "tokio::time::sleep"),
        ("fn f() -> T { jiff::Timestamp::now() }", "jiff::Timestamp::now"),
        ("use jiff::Timestamp;\nfn f() -> T { Timestamp::now() }", "jiff::Timestamp::now"),
        ("use std::time::{Duration, Instant};", "std::time::Instant"),
        ("fn f() { std::fs::read(p) }", "std::fs::read"),
        ("use std::{collections::BTreeMap, env};", "std::env"),
        ("fn f() { ::redis::cmd(name) }", "redis::cmd"),
        (
            "use crate::{names::SetName, redis::{connection::Connection, info::Info}};",
            "crate::redis::connection::Connection",
        ),
        ("use crate::store;", "crate::store"),
        (
            "use crate::redis::probe::{self, Answer};\nfn f() { probe::probe(t) }",
            "crate::redis::probe::probe",
        ),
        (
            "fn f(text: &'static str, c: char) -> bool { c == '\"' || std::env::var(text).is_ok() }",
            "std::env::var",
        ),
    ] {
        let offences = offences("src/subject.rs", source);
        assert!(offences.iter().any(|named| named == found), "{source}: {offences:?}");
    }
    for source in [
        "use kube::Resource;",
        "//! redis::Role and tokio::time are not used.\nuse crate::redis::{PARKED, probe::Answer};",
        "fn f() -> &'static str { \"std::fs::read\" }",
        "fn f() -> &'static str { r#\"say \"kube::Client\"\"# }",
        "use std::time::Duration;",
        "fn known(now: Timestamp) -> Timestamp { now }",
        "fn f() {}\n\n#[cfg(test)]\nmod tests {\n    use std::fs;\n}",
    ] {
        assert_eq!(offences("src/subject.rs", source), Vec::<String>::new(), "{source}");
    }
    assert_eq!(
        offences("src/requeue.rs", "use kube::Resource;"),
        ["kube::Resource"],
        "allowed in one file only"
    );
}

#[test]
fn the_picture_shows_modules_that_exist() {
    let library = file("src/lib.rs");
    let picture = library.split("```").nth(1).unwrap();
    // What flows between the stages is written with a capital letter, or is one of these words.
    let stages: BTreeSet<&str> = picture
        .split(|c: char| !c.is_ascii_alphabetic())
        .filter(|word| !word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase()))
        .filter(|word| !["text", "pure", "pods", "record", "redis"].contains(word))
        .collect();
    let wanted =
        ["act", "api", "apply", "decide", "desired", "observe", "patch", "plan", "status", "topology"];
    assert_eq!(stages, wanted.into());
    let files = rust_files("src");
    for stage in &stages {
        let module =
            if *stage == "patch" { "src/status/patch.rs".to_owned() } else { format!("src/{stage}.rs") };
        assert!(files.contains(&module), "the picture shows {stage}, and {module} does not exist");
    }
    for path in files.iter().filter(|path| path.matches('/').count() == 1 && *path != "src/lib.rs") {
        let module = path.trim_start_matches("src/").trim_end_matches(".rs");
        assert!(library.contains(&format!("mod {module};")), "src/lib.rs does not list {module}");
    }
}

/// Lines that are neither empty nor comments, tests left out.
fn code_lines(source: &str) -> usize {
    code_only(without_tests(source)).lines().filter(|line| !line.trim().is_empty()).count()
}

#[test]
fn files_stay_short() {
    const LONGEST: usize = 400;
    for path in rust_files("src").iter().filter(|path| !path.ends_with("/tests.rs")) {
        let lines = code_lines(&file(path));
        assert!(
            lines <= LONGEST,
            "{path} has {lines} lines of code, {LONGEST} are allowed: split it by ideas"
        );
    }
    assert_eq!(
        code_lines("//! Text.\n\nfn f() {\n    // why\n    g();\n}\n\n#[cfg(test)]\nmod tests {}\n"),
        3
    );
}

/// What stands in backticks in one column (counted from 1) of the tables of a section.
fn documented(page: &str, section: &str, column: usize) -> BTreeSet<String> {
    let text = file(page);
    let section = text
        .split("\n## ")
        .find(|part| part.starts_with(section))
        .unwrap_or_else(|| panic!("{page} has no section {section}"));
    let cells =
        section.lines().filter(|line| line.starts_with('|')).filter_map(|line| line.split('|').nth(column));
    let names: BTreeSet<String> =
        cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).map(str::to_owned).collect();
    assert!(!names.is_empty(), "{page}, {section}: no table with names in column {column}");
    names
}

fn variants(path: &str, name: &str) -> BTreeSet<String> {
    let source = file(path);
    let body = source.split(&format!("pub enum {name} {{")).nth(1).unwrap().split("\n}").next().unwrap();
    code_only(body)
        .split([',', '\n'])
        .map(str::trim)
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}

/// A reason that stands in no condition that the code knows would never be shown.
#[test]
fn every_reason_says_where_it_stands() {
    for reason in Reason::VARIANTS {
        for place in reason.stands_in().split(' ') {
            let (type_, status) = place.split_once('=').unwrap_or_else(|| panic!("{reason:?}: {place}"));
            let is_type = ConditionType::VARIANTS.iter().any(|known| known.as_str() == type_);
            assert!(is_type || type_ == "Any", "{reason:?}: {place}");
            assert!(["True", "False", "Unknown"].contains(&status), "{reason:?}: {place}");
        }
        assert!(reason.meaning().contains("What to do: "), "{reason:?} does not say what to do");
    }
}

#[test]
fn every_state_is_documented_and_no_other() {
    assert_eq!(
        documented("docs/status.md", "States of an instance", 1),
        variants("src/api/status.rs", "InstanceState")
    );
}

/// Reasons of Events: their own, and those of the conditions Degraded=True and SpecValid=False, which they repeat.
#[test]
fn every_event_is_documented_and_no_other() {
    let own: BTreeSet<String> = EventReason::VARIANTS
        .iter()
        .map(|reason| <&str>::from(*reason).to_owned())
        // One that warns beside a spec that can be carried out.
        .chain([Reason::MemoryTight.as_str().to_owned()])
        .collect();
    assert_eq!(documented("docs/events.md", "Catalogue", 2), own);
    let is_repeated = |reason: &&Reason| {
        ["Degraded=True", "SpecValid=False"].iter().any(|place| reason.stands_in().contains(place))
    };
    let repeated: BTreeSet<String> =
        Reason::VARIANTS.iter().filter(is_repeated).map(|reason| reason.as_str().to_owned()).collect();
    assert_eq!(documented("docs/events.md", "Repeated from conditions", 1), repeated);
}

#[test]
fn every_metric_is_documented_and_no_other() {
    let source = file("src/metrics.rs");
    let registered: BTreeSet<String> = code_and_texts(&source)
        .split("registry.register")
        .skip(1)
        .map(|call| {
            let name = call.split('"').nth(1).unwrap();
            let unit = if call.starts_with("_with_unit") { "_seconds" } else { "" };
            format!("redis_operator_{name}{unit}")
        })
        .collect();
    assert!(registered.len() >= 8, "{registered:?}");
    // A counter's samples carry a suffix that its family does not.
    let documented: BTreeSet<String> = documented("docs/metrics.md", "Figures", 1)
        .into_iter()
        .map(|name| name.split('{').next().unwrap().trim_end_matches("_total").to_owned())
        .collect();
    assert_eq!(documented, registered);
    let named = rust_source::file("docs/metrics.md");
    let of_spec = [Reason::InvalidSpec, Reason::Unreadable, Reason::NameTaken, Reason::ImmutableFieldChanged];
    let of_stages =
        Reason::VARIANTS.iter().filter(|reason| reason.stands_in() == "Any=Unknown Degraded=True");
    let reasons = of_spec.iter().chain(of_stages).map(|reason| reason.as_str());
    for category in reasons.chain([STATUS_WRITE]) {
        assert!(
            named.contains(&format!("`{category}`")),
            "docs/metrics.md does not name the category {category}"
        );
    }
}

fn code_and_texts(source: &str) -> String {
    without_tests(source).lines().filter(|line| !line.trim_start().starts_with("//")).collect()
}
