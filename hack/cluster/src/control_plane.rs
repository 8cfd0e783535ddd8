//! etcd, the API server, the controller manager and the scheduler, on a machine of their own, so that every node
//! can be stopped or cut off while the API goes on answering. The relay joins the API to the host's loopback.

use std::net::TcpListener;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::command::output;
use crate::kubeconfig::{self, API_PORT, kubectl};
use crate::layout::{self, Layout, write};
use crate::network;
use crate::process::{self, Component};
use crate::relay;
use crate::tools;
use crate::topology::{CLUSTER_DOMAIN, CONTROL_PLANE, CONTROL_PLANE_IP, SERVICE_CIDR};
use crate::wait;

/// Names of the components, in the order of their start.
pub const COMPONENTS: [&str; 5] =
    ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", relay::NAME];

const ETCD: &str = "http://127.0.0.1:2379";

/// Starts what does not run and waits until the API is ready.
pub fn up(layout: &Layout, api_port: u16) -> Result<()> {
    end_strays()?;
    write(&layout::root("audit-policy.yaml"), include_str!("../config/audit-policy.yaml"))?;
    start(layout, "etcd", etcd())?;
    start(layout, "kube-apiserver", api_server(layout))?;
    start(layout, "kube-controller-manager", controller_manager(&component("controller-manager")?))?;
    start(layout, "kube-scheduler", scheduler(&component("scheduler")?))?;
    start_relay(layout, api_port)?;
    kubeconfig::write_admin(layout, api_port)
}

/// Waits until the API server says that it is ready; a component that has ended ends the waiting.
pub fn wait_ready(layout: &Layout) -> Result<()> {
    wait::until("the API server to be ready", Duration::from_mins(2), || {
        if let Err(ended) = COMPONENTS.into_iter().try_for_each(|name| process::check(layout, name).map(drop))
        {
            return Ok(Err(ended));
        }
        output(&mut kubectl(&layout.kubeconfig(), &["get", "--raw", "/readyz"])?)?;
        Ok(Ok(()))
    })?
}

/// Ends components that an interrupted run started and had no time to record; they would hold the ports.
fn end_strays() -> Result<()> {
    wait::until("unrecorded processes of the control plane to end", Duration::from_secs(30), || {
        let mut strays = network::processes(CONTROL_PLANE)?;
        for name in COMPONENTS {
            let known = process::running(name)?;
            strays.retain(|pid| Some(*pid) != known);
        }
        if strays.is_empty() {
            return Ok(());
        }
        process::kill(&strays);
        bail!("{} are left", strays.len())
    })
}

fn start(layout: &Layout, name: &str, flags: Vec<String>) -> Result<()> {
    let mut argv = vec![tools::arg(name)?];
    argv.extend(flags);
    process::ensure(
        layout,
        &Component { name: name.into(), machine: CONTROL_PLANE, mounts_of: None, argv },
        None,
    )
}

fn start_relay(layout: &Layout, port: u16) -> Result<()> {
    if process::running(relay::NAME)?.is_some() {
        return Ok(());
    }
    // The socket stays the host's although the process that is given it lives in the control plane's network.
    let listener = TcpListener::bind(("127.0.0.1", port)).with_context(|| {
        format!(
            "cannot listen on 127.0.0.1:{port} for the API; free the port or choose another with --api-port"
        )
    })?;
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let argv =
        vec![program.to_string_lossy().into_owned(), relay::NAME.into(), format!("127.0.0.1:{API_PORT}")];
    let component = Component { name: relay::NAME.into(), machine: CONTROL_PLANE, mounts_of: None, argv };
    process::ensure(layout, &component, Some(listener.into()))
}

fn component(certificate: &str) -> Result<String> {
    Ok(kubeconfig::write_component(certificate)?.to_string_lossy().into_owned())
}

fn etcd() -> Vec<String> {
    vec![
        format!("--data-dir={}", layout::root("etcd").display()),
        format!("--listen-client-urls={ETCD}"),
        format!("--advertise-client-urls={ETCD}"),
        "--listen-peer-urls=http://127.0.0.1:2380".into(),
        // Speed; what a power loss of the real machine may take is a test cluster's state.
        "--unsafe-no-fsync".into(),
        "--log-level=warn".into(),
    ]
}

fn api_server(layout: &Layout) -> Vec<String> {
    let pki = |file: &str| layout::pki(file).display().to_string();
    vec![
        format!("--etcd-servers={ETCD}"),
        format!("--advertise-address={CONTROL_PLANE_IP}"),
        format!("--secure-port={API_PORT}"),
        format!("--service-cluster-ip-range={SERVICE_CIDR}"),
        format!("--client-ca-file={}", pki("ca.crt")),
        format!("--tls-cert-file={}", pki("apiserver.crt")),
        format!("--tls-private-key-file={}", pki("apiserver.key")),
        format!("--service-account-issuer=https://kubernetes.default.svc.{CLUSTER_DOMAIN}"),
        format!("--service-account-key-file={}", pki("service-accounts.pub")),
        format!("--service-account-signing-key-file={}", pki("service-accounts.key")),
        format!("--kubelet-certificate-authority={}", pki("ca.crt")),
        format!("--kubelet-client-certificate={}", pki("apiserver-kubelet-client.crt")),
        format!("--kubelet-client-key={}", pki("apiserver-kubelet-client.key")),
        // The nodes' names do not resolve.
        "--kubelet-preferred-address-types=InternalIP".into(),
        "--authorization-mode=Node,RBAC".into(),
        "--enable-admission-plugins=NodeRestriction".into(),
        // kube-proxy does not run here, so webhooks are called at their Pods' addresses.
        "--enable-aggregator-routing".into(),
        "--allow-privileged".into(),
        format!("--audit-policy-file={}", layout::root("audit-policy.yaml").display()),
        format!("--audit-log-path={}", layout.audit_log().display()),
        "--audit-log-maxsize=1000".into(),
    ]
}

fn controller_manager(kubeconfig: &str) -> Vec<String> {
    vec![
        format!("--kubeconfig={kubeconfig}"),
        format!("--root-ca-file={}", layout::pki("ca.crt").display()),
        format!("--service-account-private-key-file={}", layout::pki("service-accounts.key").display()),
        "--use-service-account-credentials".into(),
        "--leader-elect=false".into(),
        "--kube-api-qps=200".into(),
        "--kube-api-burst=400".into(),
    ]
}

fn scheduler(kubeconfig: &str) -> Vec<String> {
    vec![
        format!("--kubeconfig={kubeconfig}"),
        "--leader-elect=false".into(),
        "--kube-api-qps=200".into(),
        "--kube-api-burst=400".into(),
    ]
}
