//! What holds the code together as `src/lib.rs` draws it: pure modules stay pure, files stay short, and the
//! documentation names exactly what the code can say.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a step that fails is the test's failure"
)]

mod rust_source;

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
};

use operator_core::{
    api::{ConditionType, Reason},
    events::EventReason,
};
use redis_operator::metrics::STATUS_WRITE;
use rust_source::{code_only, file, paths, rust_files, without_tests};
use strum::VariantArray;

/// Clients and runtimes, by the names of their crates.
const CLIENTS: [&str; 10] =
    ["tokio", "kube", "kube-client", "kube-runtime", "hyper", "tower", "axum", "reqwest", "futures", "redis"];

/// Crates that a package of this repository depends on, in the end.
fn dependencies(package: &str) -> BTreeSet<String> {
    let told = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "--package", package, "--edges", "normal", "--prefix", "none"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    let lines = String::from_utf8(told.stdout).unwrap();
    lines.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

#[test]
fn the_core_has_no_client_and_no_runtime() {
    for package in ["operator-core", "redis-node"] {
        let found = dependencies(package);
        assert!(found.contains("thiserror"), "{package}: {found:?}");
        let clients: Vec<&str> = CLIENTS.into_iter().filter(|client| found.contains(*client)).collect();
        assert!(clients.is_empty(), "{package} depends on {clients:?}");
    }
}

/// PID 1 of each pod: a person can read what it is made of.
#[test]
fn the_agent_knows_no_kubernetes_and_no_runtime() {
    let found = dependencies("redis-agent");
    for unwanted in ["tokio", "kube-core", "k8s-openapi", "operator-core"] {
        assert!(!found.contains(unwanted), "redis-agent depends on {unwanted}");
    }
    assert!(found.len() < 100, "{} crates: {found:?}", found.len());
}

/// What the standard library has of the world, and what reads a clock.
const WORLD: [&str; 9] = [
    "std::time::SystemTime",
    "std::time::Instant",
    "std::fs",
    "std::net",
    "std::process",
    "std::env",
    "std::io",
    "std::thread",
    "std::sync",
];

/// What a pure source must not name.
fn offences(source: &str) -> Vec<String> {
    let is_below = |path: &str, parent: &str| {
        path.strip_prefix(parent).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    };
    let is_offence =
        |named: &String| named.ends_with("::now") || WORLD.iter().any(|parent| is_below(named, parent));
    paths(source).into_iter().filter(is_offence).collect()
}

#[test]
fn the_core_reads_no_clock_and_no_file() {
    let files = rust_files("crates/core/src");
    assert!(files.len() > 40, "{files:?}");
    for path in &files {
        let offences = offences(&file(path));
        assert!(offences.is_empty(), "{path} names {offences:?}");
    }
}

#[test]
fn the_scan_finds_what_it_looks_for() {
    for (source, found) in [
        ("fn f() -> T { jiff::Timestamp::now() }", "jiff::Timestamp::now"),
        ("use jiff::Timestamp;\nfn f() -> T { Timestamp::now() }", "jiff::Timestamp::now"),
        ("use std::time as clock;\nfn f() { clock::SystemTime::now() }", "std::time::SystemTime::now"),
        ("use std::time::{Duration, Instant};", "std::time::Instant"),
        ("fn f() { std::fs::read(p) }", "std::fs::read"),
        ("use std::{collections::BTreeMap, env};", "std::env"),
        (
            "fn f(text: &'static str, c: char) -> bool { c == '\"' || std::env::var(text).is_ok() }",
            "std::env::var",
        ),
    ] {
        let offences = offences(source);
        assert!(offences.iter().any(|named| named == found), "{source}: {offences:?}");
    }
    for source in [
        "//! std::fs and Timestamp::now are not used.\nuse crate::names::SetName;",
        "fn f() -> &'static str { \"std::fs::read\" }",
        "fn f() -> &'static str { r#\"say \"std::fs\"\"# }",
        "use std::time::Duration;",
        "fn known(now: Timestamp) -> Timestamp { now }",
        "fn f() {}\n\n#[cfg(test)]\nmod tests {\n    use std::fs;\n}",
    ] {
        assert_eq!(offences(source), Vec::<String>::new(), "{source}");
    }
}

/// The sources of each crate that the product is made of.
const SOURCES: [&str; 4] = ["src", "crates/agent/src", "crates/core/src", "crates/redis-node/src"];

/// Which modules of a crate name which others, by their first name.
fn imports(folder: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let modules: BTreeSet<String> =
        rust_files(folder).iter().filter_map(|path| module(folder, path)).collect();
    for path in rust_files(folder) {
        let Some(own) = module(folder, &path).filter(|_| !path.contains("/tests")) else { continue };
        let named = paths(&file(&path)).into_iter().filter_map(|path| {
            let first = path.strip_prefix("crate::")?.split("::").next()?.to_owned();
            (modules.contains(&first) && first != own).then_some(first)
        });
        found.entry(own.clone()).or_default().extend(named);
    }
    found
}

/// The first name of the module that a file belongs to; none for the roots.
fn module(folder: &str, path: &str) -> Option<String> {
    let rest = path.strip_prefix(folder)?.strip_prefix('/')?;
    let first = rest.split('/').next()?.trim_end_matches(".rs");
    (!["lib", "bin"].contains(&first)).then(|| first.to_owned())
}

/// A module of a circle, if there is one: taken away are, again and again, those that import nothing that is left.
fn circle(mut imports: BTreeMap<String, BTreeSet<String>>) -> BTreeSet<String> {
    loop {
        let free: Vec<String> =
            imports.iter().filter(|(_, named)| named.is_empty()).map(|(own, _)| own.clone()).collect();
        if free.is_empty() {
            return imports.into_keys().collect();
        }
        for own in free {
            imports.remove(&own);
            for named in imports.values_mut() {
                named.remove(&own);
            }
        }
    }
}

#[test]
fn imports_form_no_circle() {
    for folder in SOURCES {
        let imports = imports(folder);
        assert!(imports.values().any(|named| !named.is_empty()), "{folder}: {imports:?}");
        let left = circle(imports.clone());
        assert!(
            left.is_empty(),
            "{folder}: a circle in {:?}",
            left.iter().map(|own| (own, &imports[own])).collect::<Vec<_>>()
        );
    }
    let of = |pairs: &[(&str, &[&str])]| -> BTreeMap<String, BTreeSet<String>> {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        pairs.iter().map(|(own, named)| ((*own).to_owned(), owned(named))).collect()
    };
    assert_eq!(circle(of(&[("a", &["b", "c"]), ("b", &["c"]), ("c", &[])])).len(), 0);
    assert_eq!(circle(of(&[("a", &["b"]), ("b", &["a", "c"]), ("c", &[])])).len(), 2);
}

/// `src/lib.rs` draws a reconcile: each stage is a file, and beside it stand modules of the core.
#[test]
fn the_picture_is_what_the_code_does() {
    let library = file("src/lib.rs");
    let picture = library.split("```").nth(1).unwrap();
    let lines = picture.lines().filter_map(|line| line.strip_prefix("//! "));
    let stages: Vec<&str> = lines.filter(|line| line.starts_with(char::is_alphabetic)).collect();
    assert!(stages.len() >= 8, "{stages:?}");
    let core: BTreeSet<String> =
        rust_files("crates/core/src").iter().filter_map(|path| module("crates/core/src", path)).collect();
    let mut at = 0;
    let reconcile = file("src/reconcile.rs");
    for line in stages {
        let stage = line.split(' ').next().unwrap();
        assert!(rust_files("src").contains(&format!("src/reconcile/{stage}.rs")), "no file for {stage}");
        let decide: Vec<&str> = line.rsplit("  ").next().unwrap().split_whitespace().collect();
        for module in decide {
            assert!(core.contains(module), "{stage}: the core has no module {module}");
        }
        at += usize::from(reconcile.contains(&format!("mod {stage};")));
    }
    assert_eq!(at, 8, "src/reconcile.rs has other stages");
    for path in
        rust_files("src").iter().filter(|path| path.matches('/').count() == 1 && *path != "src/lib.rs")
    {
        let module = path.trim_start_matches("src/").trim_end_matches(".rs");
        assert!(library.contains(&format!("mod {module};")), "src/lib.rs does not list {module}");
    }
}

/// Pages that name a source name one that is there.
#[test]
fn sources_that_pages_name_are_there() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let pages = ["docs", "docs/use", "docs/design", "docs/evidence"]
        .into_iter()
        .flat_map(|folder| std::fs::read_dir(root.join(folder)).unwrap().map(|entry| entry.unwrap().path()));
    let mut named = 0;
    for page in pages.filter(|page| page.extension().is_some_and(|end| end == "md")) {
        let text = std::fs::read_to_string(&page).unwrap();
        for word in text.split('`').filter(|word| word.contains('/') && word.rsplit('.').next() == Some("rs"))
        {
            assert!(root.join(word).exists(), "{} names {word}, which is not there", page.display());
            named += 1;
        }
    }
    assert!(named > 20, "{named}");
}

/// Each line of the tables of what tenants can and cannot cause names a test that is there.
#[test]
fn every_line_about_tenants_names_its_test() {
    let page = file("docs/use/tenancy.md");
    let lines = page.lines().filter(|line| line.starts_with("| ") && !line.contains("| tests |"));
    let mut checked = 0;
    for line in lines {
        let (mut source, mut named) = (String::new(), 0);
        for word in line.rsplit(" | ").next().unwrap().split('`').skip(1).step_by(2) {
            if word.contains('/') {
                source = file(word);
            } else {
                assert!(source.contains(&format!("fn {word}(")), "{word} is not where the page says: {line}");
                named += 1;
            }
        }
        assert!(named > 0, "no test: {line}");
        checked += 1;
    }
    assert!(checked > 20, "{checked}");
}

/// Lines that are neither empty nor comments, tests left out.
fn code_lines(source: &str) -> usize {
    code_only(without_tests(source)).lines().filter(|line| !line.trim().is_empty()).count()
}

#[test]
fn files_stay_short() {
    const LONGEST: usize = 450;
    let files = SOURCES.iter().flat_map(|folder| rust_files(folder));
    for path in files.filter(|path| !path.contains("/tests")) {
        let path = &path;
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
        documented("docs/use/status.md", "States of an instance", 1),
        variants("crates/core/src/api/status.rs", "InstanceState")
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
    assert_eq!(documented("docs/use/events.md", "Catalogue", 2), own);
    let is_repeated = |reason: &&Reason| {
        ["Degraded=True", "SpecValid=False"].iter().any(|place| reason.stands_in().contains(place))
    };
    let repeated: BTreeSet<String> =
        Reason::VARIANTS.iter().filter(is_repeated).map(|reason| reason.as_str().to_owned()).collect();
    assert_eq!(documented("docs/use/events.md", "Repeated from conditions", 1), repeated);
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
    let documented: BTreeSet<String> = documented("docs/use/metrics.md", "Figures", 1)
        .into_iter()
        .map(|name| name.split('{').next().unwrap().trim_end_matches("_total").to_owned())
        .collect();
    assert_eq!(documented, registered);
    let named = rust_source::file("docs/use/metrics.md");
    let of_spec = [Reason::InvalidSpec, Reason::Unreadable, Reason::NameTaken, Reason::ImmutableFieldChanged];
    let of_stages =
        Reason::VARIANTS.iter().filter(|reason| reason.stands_in() == "Any=Unknown Degraded=True");
    let reasons = of_spec.iter().chain(of_stages).map(|reason| reason.as_str());
    for category in reasons.chain([STATUS_WRITE]) {
        assert!(
            named.contains(&format!("`{category}`")),
            "docs/use/metrics.md does not name the category {category}"
        );
    }
}

fn code_and_texts(source: &str) -> String {
    without_tests(source).lines().filter(|line| !line.trim_start().starts_with("//")).collect()
}
