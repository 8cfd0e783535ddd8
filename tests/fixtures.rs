//! INFO as seven real servers printed it (`tests/fixtures/info/README.md` is the index).

use std::{fs, path::Path};

use redis_operator::redis::info;

/// Files by what they hold. The numbers are those of the directory: a file that no rule takes fails the test.
#[derive(Debug, Default, PartialEq, Eq)]
struct Count {
    replication: usize,
    server: usize,
    persistence: usize,
    memory: usize,
    errors: usize,
}

fn fixtures() -> Vec<(String, String)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/info");
    let mut files: Vec<(String, String)> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .map(|path| {
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            (name, fs::read_to_string(&path).unwrap())
        })
        .collect();
    files.sort();
    files
}

#[test]
fn every_fixture_parses() {
    let mut count = Count::default();
    for (name, text) in fixtures() {
        if name.ends_with("-info-server") {
            let server = info::parse_server(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
            let valkey = name.starts_with("valkey");
            assert_eq!(server.flavour == info::Flavour::Valkey, valkey, "{name}");
            // redis806 is 8.0.6, valkey91 is 9.1.2: Valkey's own version, not the one that it forked from.
            let digits: String = server.version.chars().filter(char::is_ascii_digit).collect();
            let major_minor = name.trim_start_matches(|c: char| c.is_ascii_alphabetic());
            assert!(major_minor.starts_with(&digits[..2]), "{name}: {}", server.version);
            assert_eq!(server.run_id.len(), 40, "{name}");
            count.server += 1;
        } else if name.contains("persistence") {
            let persistence =
                info::parse_persistence(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(persistence.loading, name.ends_with("-loading-persistence"), "{name}");
            count.persistence += 1;
        } else if name.ends_with("-info-memory") {
            count.memory += 1;
        } else if name.ends_with("-primary-busy-script") {
            assert!(text.starts_with("(error) BUSY"), "{name}");
            assert_eq!(
                info::parse_replication(&text),
                Err(info::ParseError::NoSection("Replication")),
                "{name}"
            );
            count.errors += 1;
        } else {
            assert!(text.contains("\r\n"), "{name}: the bytes of the server were changed");
            let replication =
                info::parse_replication(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(replication.upstream.is_none(), text.contains("role:master\r\n"), "{name}");
            assert_eq!(replication.replid.len(), 40, "{name}");
            count.replication += 1;
        }
    }
    assert_eq!(count, Count { replication: 288, server: 7, persistence: 15, memory: 7, errors: 5 });
}
