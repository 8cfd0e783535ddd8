//! No DNS: its Deployment has no Pods until this ends.

use std::{path::PathBuf, time::Duration};

use k8s_openapi::api::{apps::v1::Deployment, core::v1::Pod};
use kube::{Api, api::ListParams};

use crate::stage::kubectl_program;
use rig::{
    Failure,
    cluster::lab::{Lab, until},
    machine::output,
};

const NAMESPACE: &str = "kube-system";
const DEPLOYMENT: &str = "coredns";
/// Of its Pods, in every cluster.
const LABEL: &str = "k8s-app=kube-dns";
/// Until its Pods have ended, or are there again.
const LIMIT: Duration = Duration::from_secs(60);

/// DNS that is gone; started again when dropped.
pub struct DnsGone {
    kubeconfig: PathBuf,
    replicas: i32,
}

impl DnsGone {
    /// Begins; returns once no Pod of it is left.
    pub async fn begin(lab: &Lab) -> Result<Self, Failure> {
        let deployment = deployments(lab).get(DEPLOYMENT).await?;
        let replicas = deployment.spec.and_then(|spec| spec.replicas).filter(|replicas| *replicas > 0);
        let replicas = replicas.ok_or("DNS is gone already")?;
        let gone = Self { kubeconfig: lab.kubeconfig.clone(), replicas };
        gone.scale(0)?;
        let pods: Api<Pod> = Api::namespaced(lab.client.clone(), NAMESPACE);
        let its = ListParams::default().labels(LABEL);
        until(LIMIT, "the Pods of DNS are gone", async || {
            Ok(pods.list_metadata(&its).await?.items.is_empty())
        })
        .await?;
        Ok(gone)
    }

    /// Starts it, and waits until all of it is ready.
    pub async fn end(self, lab: &Lab) -> Result<(), Failure> {
        let wanted = self.replicas;
        drop(self);
        until(LIMIT, "DNS is back", async || {
            let status = deployments(lab).get(DEPLOYMENT).await?.status;
            Ok(status.and_then(|status| status.ready_replicas) == Some(wanted))
        })
        .await
    }

    fn scale(&self, replicas: i32) -> Result<(), Failure> {
        let kubeconfig = self.kubeconfig.to_string_lossy();
        let scale = ["scale", "deployment", DEPLOYMENT, "--replicas", &replicas.to_string()];
        let where_ = ["--kubeconfig", &kubeconfig, "--namespace", NAMESPACE];
        output(&kubectl_program(), &[&where_[..], &scale[..]].concat()).map(|_| ())
    }
}

impl Drop for DnsGone {
    fn drop(&mut self) {
        if let Err(error) = self.scale(self.replicas) {
            eprintln!(
                "  SCALE BY HAND the Deployment {DEPLOYMENT} in {NAMESPACE} to {}: {error}",
                self.replicas
            );
        }
    }
}

fn deployments(lab: &Lab) -> Api<Deployment> {
    Api::namespaced(lab.client.clone(), NAMESPACE)
}
