//! The demo on a cluster that is there already: nothing of somebody else's is touched, and data is left.

use anyhow::{Result, bail};

use super::files::Files;
use super::install::{RELEASE, SYSTEM};
use super::kube::{Kube, NAMESPACE};
use super::place::Place;
use super::set::NAME;
use super::steps::Steps;
use super::{Options, Ready};
use crate::command::{command, output};
use crate::layout::{make_dir, write};

const NO_IMAGE: &str = "a cluster of yours cannot get at an image that is built here, and no public registry has the \
                        operator's. Build it, push it to where the nodes can pull it, and name it:\n  \
                        docker build -t REPOSITORY/redis-operator:TAG . && docker push REPOSITORY/redis-operator:TAG\n  \
                        CLUSTER=current OPERATOR_IMAGE=REPOSITORY/redis-operator:TAG make demo\n\
                        Redis is the sample's image, or REDIS_IMAGE=…";

/// Makes a kubeconfig of the current context, and checks that nobody's things are in the way.
pub fn up(files: &Files, options: &Options, steps: &mut Steps) -> Result<Ready> {
    let Some(operator_image) = options.operator_image.clone() else { bail!(NO_IMAGE) };
    let first = files.place()?.is_none();
    let kube = Kube::of_person(files, steps)?;
    steps.step("the cluster of the current context", |step| {
        // A demo that is up stays where it is, whatever the current context has become.
        if first {
            let view = ["config", "view", "--raw", "--minify", "--flatten"];
            make_dir(files.dir())?;
            write(&files.kubeconfig(), output(&mut command(kube.program(), view))?)?;
            let namespace = ["config", "set-context", "--current", "--namespace", NAMESPACE];
            step.command(&mut kube.kubectl(namespace))?;
        }
        let context = output(&mut kube.kubectl(["config", "current-context"]))?;
        step.say(&format!("context {}", context.trim()));
        step.command(&mut kube.kubectl(["get", "nodes", "--request-timeout=20s"]))?;
        if first {
            // The copy of the person's credentials goes again with a refusal.
            nothing_is_there(&kube).inspect_err(|_| drop(files.remove()))?;
        }
        files.claim(Place::Current)
    })?;
    println!("    without the lab's workloads: their image, localhost/multitool:1, is on no node");
    Ok(Ready {
        kube,
        operator_image,
        operator_build: String::new(),
        redis_image: options.redis_image.clone(),
        lab: false,
    })
}

/// Removes the set and the release.
pub fn down(files: &Files, steps: &mut Steps) -> Result<()> {
    let kube = Kube::of_person(files, steps)?;
    steps.step("the set and the operator", |step| {
        let set = ["-n", NAMESPACE, "delete", "redisreplicasets", NAME, "--ignore-not-found", "--timeout=2m"];
        if has_kind(&kube)? {
            step.command(&mut kube.kubectl(set))?;
        }
        step.command(&mut kube.helm(["-n", SYSTEM, "uninstall", RELEASE, "--ignore-not-found", "--wait"]))?;
        step.say("left, because other sets or your data may depend on them; remove them with:");
        step.say(&format!("  kubectl -n {NAMESPACE} delete pvc -l app.kubernetes.io/instance={NAME}"));
        step.say("  kubectl delete crd redisreplicasets.replication.redis");
        step.say(&format!("  kubectl delete namespace {SYSTEM}"));
        Ok(())
    })
}

/// `make demo-down` must not remove what the demo has not made.
fn nothing_is_there(kube: &Kube) -> Result<()> {
    let release = output(&mut kube.helm(["-n", SYSTEM, "list", "--all", "--short", "--filter", RELEASE]))?;
    if !release.trim().is_empty() {
        bail!("namespace {SYSTEM} has a helm release {RELEASE} already; the demo would replace it");
    }
    if has_kind(kube)? && !set(kube)?.trim().is_empty() {
        bail!("namespace {NAMESPACE} has a RedisReplicaSet {NAME} already; the demo would replace it");
    }
    Ok(())
}

fn has_kind(kube: &Kube) -> Result<bool> {
    let kinds = ["api-resources", "--api-group=replication.redis", "-o", "name", "--request-timeout=20s"];
    Ok(!output(&mut kube.kubectl(kinds))?.trim().is_empty())
}

fn set(kube: &Kube) -> Result<String> {
    let args = ["-n", NAMESPACE, "get", "redisreplicasets", NAME, "--ignore-not-found", "-o", "name"];
    output(&mut kube.kubectl(args))
}
