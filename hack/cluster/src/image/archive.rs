//! Writes an image as a docker-archive: one layer, its configuration and a manifest. The same tree and
//! configuration give the same bytes.

use std::fmt::Write as _;

use anyhow::{Context as _, Result};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use tar::{Builder, EntryType, Header};

use super::tree::{Entry, Kind, Tree};

/// How a container of the image runs when the Pod does not say otherwise.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// `USER`.
    pub user: String,
    /// `WORKDIR`.
    pub directory: String,
    /// `ENTRYPOINT`.
    pub entrypoint: Vec<String>,
    /// `CMD`.
    pub command: Vec<String>,
    /// `ENV`, as `NAME=value`.
    pub environment: Vec<String>,
    /// `LABEL`.
    pub labels: Vec<(String, String)>,
}

/// An image ready to be written or loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archive {
    /// Name and tag.
    pub reference: String,
    /// The docker-archive.
    pub bytes: Vec<u8>,
}

impl Archive {
    /// Packs a tree.
    pub fn new(reference: &str, settings: &Settings, tree: &Tree) -> Result<Self> {
        let bytes =
            pack(reference, settings, tree).with_context(|| format!("cannot pack the image {reference}"))?;
        Ok(Self { reference: reference.to_owned(), bytes })
    }

    /// Digest of the archive.
    pub fn digest(&self) -> String {
        digest(&self.bytes)
    }
}

fn pack(reference: &str, settings: &Settings, tree: &Tree) -> Result<Vec<u8>> {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let layer = tar(tree)?;
    let config = config(settings, &digest(&layer), architecture).to_string();
    let config_name = format!("{}.json", digest(config.as_bytes()));
    let manifest = json!([{ "Config": config_name, "RepoTags": [reference], "Layers": ["layer.tar"] }]);

    let mut archive = Builder::new(Vec::new());
    for (name, content) in [
        (config_name.as_str(), config.into_bytes()),
        ("layer.tar", layer),
        ("manifest.json", manifest.to_string().into()),
    ] {
        append(&mut archive, name, &Entry { kind: Kind::File(content), mode: 0o644, owner: 0 })?;
    }
    Ok(archive.into_inner()?)
}

/// A tree as a tar file: no time, no owner's name, sorted.
pub(super) fn tar(tree: &Tree) -> Result<Vec<u8>> {
    let mut layer = Builder::new(Vec::new());
    for (path, entry) in tree.entries() {
        append(&mut layer, path, entry)?;
    }
    Ok(layer.into_inner()?)
}

/// The configuration of an image of one layer; the architecture as Go names it.
pub(super) fn config(settings: &Settings, layer: &str, architecture: &str) -> Value {
    let labels: Map<String, Value> =
        settings.labels.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
    json!({
        "architecture": architecture,
        "os": "linux",
        // A fixed time: an image is known by its content.
        "created": "1970-01-01T00:00:00Z",
        "config": {
            "User": settings.user,
            "WorkingDir": settings.directory,
            "Entrypoint": settings.entrypoint,
            "Cmd": settings.command,
            "Env": settings.environment,
            "Labels": labels,
        },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{layer}")] },
    })
}

fn append(builder: &mut Builder<Vec<u8>>, path: &str, entry: &Entry) -> Result<()> {
    let mut header = Header::new_gnu();
    header.set_mode(entry.mode);
    header.set_uid(entry.owner.into());
    header.set_gid(entry.owner.into());
    header.set_mtime(0);
    header.set_size(0);
    match &entry.kind {
        Kind::Directory => {
            header.set_entry_type(EntryType::Directory);
            builder.append_data(&mut header, format!("{path}/"), std::io::empty())?;
        }
        Kind::File(content) => {
            header.set_entry_type(EntryType::Regular);
            header.set_size(u64::try_from(content.len())?);
            builder.append_data(&mut header, path, content.as_slice())?;
        }
        Kind::Link(target) => {
            header.set_entry_type(EntryType::Symlink);
            builder.append_link(&mut header, path, target)?;
        }
    }
    Ok(())
}

/// SHA-256 as hexadecimal digits.
pub(super) fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    fn sample(order: [&str; 2]) -> Archive {
        let mut tree = Tree::default();
        for path in order {
            tree.file(path, 0o755, path);
        }
        tree.link("/bin/sh", "busybox");
        let settings = Settings { user: "999".into(), entrypoint: vec!["/a".into()], ..Settings::default() };
        Archive::new("localhost/sample:1", &settings, &tree).unwrap()
    }

    fn file(archive: &[u8], wanted: &str) -> Vec<u8> {
        let mut archive = tar::Archive::new(archive);
        let mut entries = archive.entries().unwrap().map(Result::unwrap);
        let mut entry = entries.find(|entry| entry.path().unwrap().to_str() == Some(wanted)).unwrap();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn the_same_content_gives_the_same_bytes() {
        assert_eq!(sample(["/a", "/opt/b"]).digest(), sample(["/opt/b", "/a"]).digest());
        assert_ne!(sample(["/a", "/opt/b"]).digest(), sample(["/a", "/opt/c"]).digest());
    }

    #[test]
    fn the_manifest_leads_to_the_settings_and_to_the_layer_by_its_digest() {
        let bytes = sample(["/a", "/b"]).bytes;
        let manifest: Value = serde_json::from_slice(&file(&bytes, "manifest.json")).unwrap();
        assert_eq!(manifest[0]["RepoTags"], json!(["localhost/sample:1"]));
        let config: Value =
            serde_json::from_slice(&file(&bytes, manifest[0]["Config"].as_str().unwrap())).unwrap();
        assert_eq!(config["config"]["User"], "999");
        assert_eq!(config["config"]["Entrypoint"], json!(["/a"]));
        let layer = file(&bytes, manifest[0]["Layers"][0].as_str().unwrap());
        assert_eq!(config["rootfs"]["diff_ids"][0], format!("sha256:{}", digest(&layer)));
        assert_eq!(file(&layer, "b"), b"/b");
    }
}
