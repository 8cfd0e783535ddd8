//! The operator's image as it is published: one index for all architectures, in an OCI layout, in one tar file.
//! Layers are not compressed: the digest would follow the compressor's version.

use anyhow::Result;
use serde_json::{Map, Value, json};

use super::archive::{Settings, config, digest, tar};
use super::tree::Tree;

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// An OCI layout and the digest by which a registry will know the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// `sha256:…` of the index.
    pub digest: String,
    /// The tar file.
    pub bytes: Vec<u8>,
}

impl Layout {
    /// Packs one tree for each architecture, named as Go names it.
    pub fn new(settings: &Settings, trees: &[(&str, Tree)]) -> Result<Self> {
        let mut files = Tree::default();
        let mut manifests = Vec::new();
        for (architecture, tree) in trees {
            let layer = tar(tree)?;
            let config = config(settings, &digest(&layer), architecture).to_string();
            let manifest = json!({
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "config": blob(&mut files, CONFIG, config.into_bytes()),
                "layers": [blob(&mut files, LAYER, layer)],
            });
            let mut entry = blob(&mut files, MANIFEST, manifest.to_string().into_bytes());
            entry.insert("platform".to_owned(), json!({ "architecture": architecture, "os": "linux" }));
            manifests.push(entry);
        }
        let index = index(&manifests).into_bytes();
        let digest = format!("sha256:{}", digest(&index));
        let entry = blob(&mut files, INDEX, index);
        files.file("/index.json", 0o644, self::index(&[entry]));
        files.file("/oci-layout", 0o644, json!({ "imageLayoutVersion": "1.0.0" }).to_string());
        Ok(Self { digest, bytes: tar(&files)? })
    }
}

fn index(manifests: &[Map<String, Value>]) -> String {
    json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests }).to_string()
}

/// Adds a blob and gives what refers to it.
fn blob(files: &mut Tree, media_type: &str, bytes: Vec<u8>) -> Map<String, Value> {
    let digest = digest(&bytes);
    let reference = Map::from_iter([
        ("mediaType".to_owned(), json!(media_type)),
        ("digest".to_owned(), json!(format!("sha256:{digest}"))),
        ("size".to_owned(), json!(bytes.len())),
    ]);
    files.file(&format!("/blobs/sha256/{digest}"), 0o644, bytes);
    reference
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::io::Read as _;

    fn sample() -> Layout {
        let tree = |content: &str| {
            let mut tree = Tree::default();
            tree.file("/program", 0o755, content);
            tree
        };
        let settings = Settings { user: "65532:65532".into(), ..Settings::default() };
        Layout::new(&settings, &[("amd64", tree("a")), ("arm64", tree("b"))]).unwrap()
    }

    fn files(bytes: &[u8]) -> BTreeMap<String, Vec<u8>> {
        let mut archive = tar::Archive::new(bytes);
        let entries = archive.entries().unwrap().map(Result::unwrap);
        entries
            .map(|mut entry| {
                let mut content = Vec::new();
                entry.read_to_end(&mut content).unwrap();
                (entry.path().unwrap().to_str().unwrap().to_owned(), content)
            })
            .collect()
    }

    /// What a reference leads to, after a look at its digest and its size.
    fn follow(files: &BTreeMap<String, Vec<u8>>, reference: &Value) -> Vec<u8> {
        let (algorithm, hash) = reference["digest"].as_str().unwrap().split_once(':').unwrap();
        let content = files.get(&format!("blobs/{algorithm}/{hash}")).unwrap().clone();
        assert_eq!((digest(&content).as_str(), json!(content.len())), (hash, reference["size"].clone()));
        content
    }

    #[test]
    fn the_index_leads_to_each_architecture_s_files() {
        let layout = sample();
        let files = files(&layout.bytes);
        let json = |bytes: Vec<u8>| -> Value { serde_json::from_slice(&bytes).unwrap() };
        let top = json(files["index.json"].clone());
        assert_eq!(top["manifests"][0]["digest"], layout.digest.as_str());
        let index = json(follow(&files, &top["manifests"][0]));
        assert_eq!(index["manifests"].as_array().unwrap().len(), 2);
        for (at, (architecture, content)) in [("amd64", "a"), ("arm64", "b")].into_iter().enumerate() {
            let entry = &index["manifests"][at];
            assert_eq!(entry["platform"], json!({ "architecture": architecture, "os": "linux" }));
            let manifest = json(follow(&files, entry));
            let config = json(follow(&files, &manifest["config"]));
            assert_eq!(config["architecture"], architecture);
            assert_eq!(config["config"]["User"], "65532:65532");
            let layer = follow(&files, &manifest["layers"][0]);
            assert_eq!(config["rootfs"]["diff_ids"][0], manifest["layers"][0]["digest"]);
            assert_eq!(self::files(&layer)["program"], content.as_bytes());
        }
    }

    /// Nothing of the machine or the moment: the digest is written here.
    #[test]
    fn the_same_files_give_the_same_digest_everywhere() {
        assert_eq!(
            sample().digest,
            "sha256:42c5a5686ba73a573aec677b66331a69958083298fef1753a6f5c7c34b230f06"
        );
    }
}
