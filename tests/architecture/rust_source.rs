//! Reads Rust source as far as tests of the architecture need: which paths a file names, and which text it holds.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    dead_code,
    reason = "test code; each test file uses a part of it"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// A file of the repository.
pub fn file(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All `.rs` files of a folder of the repository, or the one file, as paths from its root.
pub fn rust_files(path: &str) -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut waiting = vec![root.join(path)];
    let mut found = Vec::new();
    while let Some(next) = waiting.pop() {
        if next.is_dir() {
            waiting.extend(fs::read_dir(next).unwrap().map(|entry| entry.unwrap().path()));
        } else if next.extension().is_some_and(|end| end == "rs") {
            found.push(next.strip_prefix(root).unwrap().to_path_buf());
        }
    }
    found.sort();
    found.iter().map(|path: &PathBuf| path.to_str().unwrap().to_owned()).collect()
}

/// The part of a source that is no test: rustfmt puts `#[cfg(test)]` at the start of a line, and here it comes last.
pub fn without_tests(source: &str) -> &str {
    source.split("\n#[cfg(test)]").next().unwrap()
}

/// The source with comments and the contents of texts and characters blanked out.
pub fn code_only(source: &str) -> String {
    let mut code = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |at| at + 2)
        } else if let Some(raw) = raw_text(rest) {
            raw
        } else if first == '"' {
            text_length(rest)
        } else if let Some(character) = character_length(rest) {
            character
        } else {
            code.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        };
        code.push(' ');
        rest = &rest[length..];
    }
    code
}

fn raw_text(rest: &str) -> Option<usize> {
    let hashes = rest.strip_prefix('r')?.bytes().take_while(|byte| *byte == b'#').count();
    let body = rest.get(1 + hashes..)?.strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    Some(2 + hashes + body.find(&end)? + end.len())
}

fn text_length(rest: &str) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            '"' if !escaped => return at + 1,
            '\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    rest.len()
}

/// `'x'` and `'\n'`, but not the lifetime `'x`.
fn character_length(rest: &str) -> Option<usize> {
    let body = rest.strip_prefix('\'')?;
    let first = body.chars().next()?;
    let length = if first == '\\' { 1 + body[1..].find('\'')? } else { first.len_utf8() };
    body[length..].starts_with('\'').then_some(length + 2)
}

/// Every path that a source names, with what its `use` declarations abbreviate written out.
pub fn paths(source: &str) -> BTreeSet<String> {
    let code = code_only(without_tests(source));
    let mut imported = BTreeSet::new();
    let mut names = BTreeMap::new();
    let mut body = String::new();
    let mut rest = code.as_str();
    while let Some(at) = find_use(rest) {
        body.push_str(&rest[..at]);
        let statement = &rest[at + 4..];
        let end = statement.find(';').unwrap_or(statement.len());
        flatten("", &statement[..end], &mut imported, &mut names);
        rest = &statement[end..];
    }
    body.push_str(rest);
    let mut all = imported;
    for path in path_expressions(&body) {
        let (first, others) = path.split_once("::").unwrap_or((&path, ""));
        match names.get(first) {
            Some(full) if others.is_empty() => all.insert(String::clone(full)),
            Some(full) => all.insert(format!("{full}::{others}")),
            None => all.insert(path.clone()),
        };
    }
    all
}

/// Where the next `use` declaration begins.
fn find_use(code: &str) -> Option<usize> {
    code.match_indices("use ").map(|(at, _)| at).find(|at| {
        code[..*at].chars().next_back().is_none_or(|before| !(before.is_alphanumeric() || before == '_'))
    })
}

fn flatten(prefix: &str, tree: &str, paths: &mut BTreeSet<String>, names: &mut BTreeMap<String, String>) {
    let tree = tree.trim();
    if let Some((head, group)) = tree.split_once('{') {
        let prefix = format!("{prefix}{}", head.trim());
        let group = group.trim_end().strip_suffix('}').unwrap_or(group);
        let mut depth = 0;
        let mut start = 0;
        for (at, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    flatten(&prefix, &group[start..at], paths, names);
                    start = at + 1;
                }
                _ => {}
            }
        }
        flatten(&prefix, &group[start..], paths, names);
    } else if !tree.is_empty() {
        let (path, alias) = tree.split_once(" as ").unwrap_or((tree, ""));
        let full = format!("{prefix}{}", path.trim());
        let full = full.strip_suffix("::self").unwrap_or(&full).to_owned();
        let last = full.rsplit("::").next().unwrap().to_owned();
        let name = if alias.is_empty() { last } else { alias.trim().to_owned() };
        names.insert(name, full.clone());
        paths.insert(full);
    }
}

/// Words joined by `::`, and single words.
fn path_expressions(code: &str) -> Vec<String> {
    code.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'))
        .map(|word| word.trim_matches(':').to_owned())
        .filter(|word| word.starts_with(|c: char| c.is_alphabetic() || c == '_'))
        .collect()
}
