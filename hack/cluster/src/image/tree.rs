//! The file tree of an image, filled from files of this machine.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

use crate::command::run;

/// What is at one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A file and its content.
    File(Vec<u8>),
    /// A symbolic link and its target.
    Link(String),
}

/// One path of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What it is.
    pub kind: Kind,
    /// Permission bits.
    pub mode: u32,
    /// Owner and group.
    pub owner: u32,
}

/// Paths without their leading slash; sorted, so that an image of the same files is the same image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tree {
    entries: BTreeMap<String, Entry>,
}

impl Tree {
    /// All entries; a directory comes before what is in it.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.entries.iter().map(|(path, entry)| (path.as_str(), entry))
    }

    /// Adds a directory with the owner and mode.
    pub fn directory(&mut self, path: &str, owner: u32, mode: u32) {
        self.insert(path, Entry { kind: Kind::Directory, mode, owner });
    }

    /// Adds a file of root's with this content.
    pub fn file(&mut self, path: &str, mode: u32, content: impl Into<Vec<u8>>) {
        self.insert(path, Entry { kind: Kind::File(content.into()), mode, owner: 0 });
    }

    /// Adds a symbolic link.
    pub fn link(&mut self, path: &str, target: &str) {
        self.insert(path, Entry { kind: Kind::Link(target.to_owned()), mode: 0o777, owner: 0 });
    }

    /// Copies one file, following links, to `to`.
    pub fn copy(&mut self, from: &Path, to: &str) -> Result<()> {
        let what = || format!("cannot copy {} into an image", from.display());
        let mode = fs::metadata(from).with_context(what)?.permissions().mode() & 0o777;
        self.file(to, mode, fs::read(from).with_context(what)?);
        Ok(())
    }

    /// Copies a program and the shared libraries that it is linked with, all to the paths that they have here.
    pub fn program(&mut self, path: &str) -> Result<()> {
        self.copy(Path::new(path), path)?;
        for library in libraries(&run("ldd", [path])?)? {
            self.copy(Path::new(&library), &library)?;
        }
        Ok(())
    }

    /// Adds Busybox and a link for each of its commands that is not there yet.
    pub fn busybox(&mut self) -> Result<()> {
        let program = "/bin/busybox";
        self.copy(Path::new(program), program)?;
        for applet in run(program, ["--list"])?.lines() {
            let path = format!("/bin/{applet}");
            if !self.contains(&path) && !self.contains(&format!("/usr/bin/{applet}")) {
                self.link(&path, "busybox");
            }
        }
        Ok(())
    }

    /// Adds what the C library looks for: a user, a group, name lookup by file and DNS, and a temporary directory.
    pub fn base(&mut self, user: &str, id: u32) {
        let root = "root:x:0:0:root:/root:/bin/sh";
        self.file("/etc/passwd", 0o644, format!("{root}\n{user}:x:{id}:{id}:{user}:/tmp:/bin/sh\n"));
        self.file("/etc/group", 0o644, format!("root:x:0:\n{user}:x:{id}:\n"));
        self.file("/etc/nsswitch.conf", 0o644, "passwd: files\ngroup: files\nhosts: files dns\n");
        self.directory("/tmp", 0, 0o1777);
    }

    fn contains(&self, path: &str) -> bool {
        self.entries.contains_key(path.trim_start_matches('/'))
    }

    fn insert(&mut self, path: &str, entry: Entry) {
        let path = path.trim_matches('/');
        for (index, _) in path.match_indices('/') {
            let (parent, _) = path.split_at(index);
            let directory = Entry { kind: Kind::Directory, mode: 0o755, owner: 0 };
            self.entries.entry(parent.to_owned()).or_insert(directory);
        }
        self.entries.insert(path.to_owned(), entry);
    }
}

/// Paths of the libraries and the loader in what ldd prints.
pub fn libraries(ldd: &str) -> Result<Vec<String>> {
    let mut paths = Vec::new();
    for line in ldd.lines().map(str::trim) {
        if line.contains("not found") {
            bail!("a shared library is missing: {line}");
        }
        let target = line.split_once("=> ").map_or(line, |(_, target)| target);
        let path = target.split(" (").next().unwrap_or_default();
        if path.starts_with('/') {
            paths.push(path.to_owned());
        }
    }
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ldd_gives_libraries_and_the_loader_but_not_the_kernel_s() {
        let text =
            "\tlinux-vdso.so.1 (0x01)\n\tlibm.so.6 => /lib/x/libm.so.6 (0x02)\n\t/lib64/ld.so.2 (0x03)\n";
        assert_eq!(libraries(text).unwrap(), ["/lib/x/libm.so.6", "/lib64/ld.so.2"]);
        assert_eq!(libraries("\tstatically linked\n").unwrap(), [""; 0]);
    }

    #[test]
    fn a_missing_library_is_an_error() {
        assert!(libraries("\tlibx.so => not found\n").unwrap_err().to_string().contains("libx.so"));
    }

    #[test]
    fn parents_come_first_and_keep_what_was_set_on_them() {
        let mut tree = Tree::default();
        tree.directory("/data", 999, 0o700);
        tree.file("/data/a/b", 0o644, "x");
        let paths: Vec<_> = tree.entries().map(|(path, entry)| (path, entry.owner)).collect();
        assert_eq!(paths, [("data", 999), ("data/a", 0), ("data/a/b", 0)]);
    }
}
