//! Kubeconfigs: the administrator's with everything inside, the components' with paths.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::layout::{self, Layout, make_dir, write};
use crate::topology::CONTROL_PLANE_IP;

/// Port of the API server in its namespace.
pub const API_PORT: u16 = 6443;

/// Writes the administrator's kubeconfig, which reaches the API by the relay on the host's loopback.
pub fn write_admin(layout: &Layout, port: u16) -> Result<()> {
    let data = |file: &str| -> Result<String> {
        let path = layout::pki(file);
        let pem = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(STANDARD.encode(pem))
    };
    let server = format!("https://127.0.0.1:{port}");
    let credentials = Credentials {
        suffix: "-data",
        authority: data("ca.crt")?,
        certificate: data("admin.crt")?,
        key: data("admin.key")?,
    };
    write(&layout.kubeconfig(), credentials.render("kubernetes-admin", &server))
}

/// Writes the kubeconfig of a component with the certificate `certificate` and returns its path.
pub fn write_component(certificate: &str) -> Result<PathBuf> {
    let dir = layout::root("kubeconfigs");
    make_dir(&dir)?;
    let path = dir.join(certificate);
    let file = |end: &str| layout::pki(&format!("{certificate}.{end}")).to_string_lossy().into_owned();
    let credentials = Credentials {
        suffix: "",
        authority: layout::pki("ca.crt").to_string_lossy().into_owned(),
        certificate: file("crt"),
        key: file("key"),
    };
    write(&path, credentials.render(certificate, &format!("https://{CONTROL_PLANE_IP}:{API_PORT}")))?;
    Ok(path)
}

struct Credentials {
    /// `-data` when the values are base64 and not paths.
    suffix: &'static str,
    authority: String,
    certificate: String,
    key: String,
}

impl Credentials {
    fn render(&self, user: &str, server: &str) -> String {
        let Self { suffix, authority, certificate, key } = self;
        format!(
            "apiVersion: v1
kind: Config
clusters:
- name: redis-operator
  cluster:
    server: {server}
    certificate-authority{suffix}: {authority}
users:
- name: {user}
  user:
    client-certificate{suffix}: {certificate}
    client-key{suffix}: {key}
contexts:
- name: redis-operator
  context:
    cluster: redis-operator
    user: {user}
current-context: redis-operator
"
        )
    }
}

/// A kubectl command line for the administrator.
pub fn kubectl(kubeconfig: &Path, args: &[&str]) -> Result<std::process::Command> {
    let mut command = crate::command::command(&crate::tools::arg("kubectl")?, ["--kubeconfig"]);
    // A request never outlives the waiting around it.
    command.arg(kubeconfig).arg("--request-timeout=20s").args(args);
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_suffix_tells_data_from_paths() {
        let credentials = Credentials {
            suffix: "-data",
            authority: "QQ==".into(),
            certificate: "Qg==".into(),
            key: "Qw==".into(),
        };
        let text = credentials.render("me", "https://127.0.0.1:1");
        assert!(text.contains("\n    certificate-authority-data: QQ==\n"));
        assert!(text.contains("\n    client-key-data: Qw==\n"));
        assert!(text.contains("\n    server: https://127.0.0.1:1\n"));
    }
}
