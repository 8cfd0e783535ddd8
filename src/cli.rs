//! The command line of `redis-operator`.

use std::{fs, net::SocketAddr, time::Duration};

use clap::{ArgAction, Args, Parser, Subcommand};

use crate::logging::LogFormat;
use operator_core::settings::Settings;

/// Kubernetes operator for replicated Redis that says, with evidence, whom every server follows.
#[derive(Debug, Parser)]
#[command(name = "redis-operator", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the operator against the cluster of the current kubeconfig or service account.
    Run(Run),
    /// Print the `CustomResourceDefinition` as YAML.
    Crd,
}

/// Settings of `run`.
#[derive(Debug, Args)]
pub struct Run {
    /// Namespace to serve; without it, all namespaces.
    #[arg(long, env = "WATCH_NAMESPACE")]
    pub watch_namespace: Option<String>,
    /// Domain of the cluster's DNS; without it, taken from /etc/resolv.conf, or else cluster.local.
    #[arg(long, env = "CLUSTER_DOMAIN")]
    pub cluster_domain: Option<String>,
    /// For how many seconds a DNS answer may be out of date: the ttl of the cluster's DNS and of every cache in front of
    /// it (30 in `CoreDNS`), and some. The primary's role is handed to no pod whose address is newer than that: its name may
    /// still lead elsewhere, or nowhere.
    #[arg(long, env = "DNS_STALE_SECONDS", default_value_t = 35)]
    pub dns_stale_seconds: u32,
    /// Whether the cluster's DNS is asked, before the primary's role is handed to a pod, for the name of that pod; it has to lead
    /// there. `false` only where the operator runs outside of the cluster and cannot ask: a handover that the primary's own
    /// resolver leads astray is then taken back after some seconds without writes.
    #[arg(long, env = "ASK_DNS", default_value_t = true, action = ArgAction::Set)]
    pub ask_dns: bool,
    /// The operator's own image, from which pods copy the agent.
    #[arg(long, env = "AGENT_IMAGE")]
    pub agent_image: String,
    /// Address that serves /livez, /readyz and /metrics.
    #[arg(long, env = "LISTEN_ADDRESS", default_value = "[::]:8080")]
    pub listen: SocketAddr,
    /// Namespace of the operator's own pods, and of the Lease by which one of several operators leads.
    #[arg(long, env = "POD_NAMESPACE")]
    pub lease_namespace: String,
    /// Name of this process among the operators that share the Lease.
    #[arg(long, env = "POD_NAME")]
    pub identity: String,
    /// How log lines look.
    #[arg(long, env = "LOG_FORMAT", value_enum, default_value = "text")]
    pub log_format: LogFormat,
    /// Which log lines are written, for example info or info,kube=debug.
    #[arg(long, env = "LOG_FILTER", default_value = "info,kube_runtime=warn")]
    pub log_filter: String,
}

impl Run {
    /// What every set shares.
    pub fn settings(&self) -> Settings {
        let domain = non_empty(self.cluster_domain.as_deref()).map(str::to_owned).or_else(|| {
            let resolv_conf = fs::read_to_string("/etc/resolv.conf").ok()?;
            cluster_domain(&resolv_conf)
        });
        Settings {
            cluster_domain: domain.unwrap_or_else(|| "cluster.local".to_owned()),
            agent_image: self.agent_image.clone(),
            operator_namespace: self.lease_namespace.clone(),
        }
    }

    /// For how long a DNS answer may be out of date.
    pub fn dns_stale(&self) -> Duration {
        Duration::from_secs(self.dns_stale_seconds.into())
    }

    /// The one namespace to serve, if it is one.
    pub fn namespace(&self) -> Option<&str> {
        non_empty(self.watch_namespace.as_deref())
    }
}

/// An environment variable that is set but empty means the same as none.
fn non_empty(value: Option<&str>) -> Option<&str> {
    value.filter(|v| !v.is_empty())
}

/// The kubelet writes `search <ns>.svc.<domain> svc.<domain> <domain> …` into every pod's resolv.conf.
fn cluster_domain(resolv_conf: &str) -> Option<String> {
    resolv_conf
        .lines()
        .filter_map(|line| line.strip_prefix("search "))
        .flat_map(str::split_whitespace)
        .find_map(|domain| domain.strip_prefix("svc."))
        .map(|domain| domain.trim_end_matches('.').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domain_of_a_pod() {
        let text =
            "search demo.svc.k8s.example svc.k8s.example k8s.example corp.example\nnameserver 10.96.0.10\n";
        assert_eq!(cluster_domain(text).as_deref(), Some("k8s.example"));
        assert_eq!(cluster_domain("search corp.example\nnameserver 192.0.2.1\n"), None);
    }
}
