//! The operator by its Helm chart, and the lab's workloads.

use anyhow::{Context as _, Result, bail};

use super::Ready;
use super::kube::NAMESPACE;
use super::steps::Steps;

/// The operator's namespace.
pub const SYSTEM: &str = "redis-operator-system";
/// The operator's release.
pub const RELEASE: &str = "redis-operator";

/// Installs or upgrades the operator in a namespace that enforces Pod Security `restricted`.
pub fn operator(ready: &Ready, steps: &mut Steps) -> Result<()> {
    let kube = &ready.kube;
    let (repository, tag) = split(&ready.operator_image)?;
    let mut values = vec![
        format!("image.repository={repository}"),
        format!("image.tag={tag}"),
        format!("podAnnotations.build={}", ready.operator_build),
    ];
    if ready.lab {
        values.push("test.image=localhost/multitool:1".to_owned());
    }
    steps.step(
        &format!("the operator, by helm, into namespace {SYSTEM} (Pod Security: restricted)"),
        |step| {
            if kube.read(&format!("namespace/{SYSTEM}")).is_err() {
                step.command(&mut kube.kubectl(["create", "namespace", SYSTEM]))?;
            }
            let label = "pod-security.kubernetes.io/enforce=restricted";
            step.command(&mut kube.kubectl(["label", "--overwrite", "namespace", SYSTEM, label]))?;
            let mut helm =
                kube.helm(["-n", SYSTEM, "upgrade", "--install", RELEASE, "charts/redis-operator"]);
            for value in &values {
                helm.args(["--set-string", value]);
            }
            step.command(&mut helm)?;
            let deployment = format!("deployment/{RELEASE}");
            let rollout = ["-n", SYSTEM, "rollout", "status", "--timeout=3m", &deployment];
            step.command(&mut kube.kubectl(rollout)).inspect_err(|_| {
                step.record(&mut kube.kubectl(["-n", SYSTEM, "describe", "pods"]));
                step.record(&mut kube.kubectl(["-n", SYSTEM, "logs", "--prefix", "--tail=50", &deployment]));
            })
        },
    )
}

/// The nginx Deployment with its Services and the multitool on every node.
pub fn lab(ready: &Ready, steps: &mut Steps) -> Result<()> {
    steps.step("the lab's workloads: nginx behind two Services, multitool on every node", |step| {
        step.command(&mut ready.kube.kubectl(["-n", NAMESPACE, "apply", "-k", "config/lab"]))?;
        for object in ["deployment/nginx", "daemonset/multitool"] {
            let rollout = ["-n", NAMESPACE, "rollout", "status", "--timeout=2m", object];
            step.command(&mut ready.kube.kubectl(rollout))?;
        }
        Ok(())
    })
}

/// Repository and tag, which the chart wants apart.
fn split(image: &str) -> Result<(&str, &str)> {
    let (repository, tag) =
        image.rsplit_once(':').with_context(|| format!("the image {image} needs a tag: {image}:TAG"))?;
    if tag.contains('/') || repository.contains('@') {
        bail!("the image {image} needs a tag, and cannot have a digest: REPOSITORY:TAG");
    }
    Ok((repository, tag))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_split_at_its_tag() {
        assert_eq!(split("localhost/redis-operator:dev").unwrap(), ("localhost/redis-operator", "dev"));
        assert_eq!(split("registry:5000/a/b:1").unwrap(), ("registry:5000/a/b", "1"));
        for bad in ["a/b", "registry:5000/a/b", "a/b@sha256:0123"] {
            assert!(split(bad).unwrap_err().to_string().contains("needs a tag"), "{bad}");
        }
    }
}
