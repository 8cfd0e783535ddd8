//! A namespace for one test.

use super::{get_opt, kubectl_with, ready, wait_until};

/// A namespace that enforces the restricted pod security standard; removed when dropped.
pub struct Namespace(pub String);

impl Namespace {
    /// A fresh one, with the operator up beside it.
    pub fn new(name: &str) -> Self {
        ready();
        // One that an earlier run left behind.
        let _ = kubectl_with(&["delete", "namespace", name, "--ignore-not-found", "--wait=false"], "");
        wait_until(&format!("an earlier namespace {name} is gone"), || {
            get_opt("default", &["namespace", name]).is_none().then_some(())
        });
        let manifest = format!(
            "apiVersion: v1
kind: Namespace
metadata:
  name: {name}
  labels:
    pod-security.kubernetes.io/enforce: restricted
"
        );
        kubectl_with(&["apply", "-f", "-"], &manifest).unwrap();
        Self(name.to_owned())
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = kubectl_with(&["delete", "namespace", &self.0, "--wait=false"], "");
    }
}
