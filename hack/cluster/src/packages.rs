//! The Debian or Ubuntu packages that a node and the images are made of, and those that the tests call.

use std::fs;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use anyhow::{Context as _, Result, bail};

use crate::command::{command, output, run};

const PACKAGES: [&str; 17] = [
    "bind9-dnsutils",
    "busybox-static",
    "containerd",
    "containernetworking-plugins",
    "curl",
    "gcc",
    "iproute2",
    "ipset",
    "iptables",
    "libc6-dev",
    "mount",
    "nginx",
    "redis-server",
    "redis-tools",
    "runc",
    "shellcheck",
    "util-linux",
];

/// Packages that bring a service of the same name; the cluster needs none of the services.
const SERVICES: [&str; 3] = ["containerd", "nginx", "redis-server"];

/// Asked by every package before it starts a service; 101 means no.
const POLICY: &str = "/usr/sbin/policy-rc.d";
const POLICY_TEXT: &str =
    "#!/bin/sh\n# Of redis-operator's hack/cluster, while it installs packages.\nexit 101\n";

/// Installs what is missing; no service is started.
pub fn ensure() -> Result<()> {
    let missing: Vec<&str> = PACKAGES.into_iter().filter(|package| !is_installed(package)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let by_hand = format!("apt-get install -y --no-install-recommends {}", missing.join(" "));
    if run("apt-get", ["--version"]).is_err() {
        bail!(
            "these Debian packages or their like are needed and apt-get is not here; on Debian or Ubuntu: {by_hand}"
        );
    }
    println!("installing packages: {}", missing.join(" "));
    let _policy = NoServices::new()?;
    let install = || {
        let mut install = command("apt-get", ["install", "-y", "--no-install-recommends"]);
        output(install.args(&missing).env("DEBIAN_FRONTEND", "noninteractive"))
    };
    if install().is_err() {
        // The package lists may be old or absent.
        run("apt-get", ["update"])?;
        install().with_context(|| format!("install the packages yourself and try again: {by_hand}"))?;
    }
    // Not at the next boot either; a service that was here before stays as it was.
    for service in SERVICES.iter().filter(|service| missing.contains(service)) {
        // A machine without systemd starts none of them by itself.
        let _ = run("systemctl", ["disable", service]);
    }
    Ok(())
}

/// Removes the policy that an interrupted run left.
pub fn remove_policy() {
    if fs::read_to_string(POLICY).is_ok_and(|text| text == POLICY_TEXT) {
        let _ = fs::remove_file(POLICY);
    }
}

fn is_installed(package: &str) -> bool {
    let query = ["--show", "--showformat=${db:Status-Status}", package];
    run("dpkg-query", query).is_ok_and(|status| status == "installed")
}

/// Keeps packages from starting services as long as it lives; the machine's own policy is left alone.
struct NoServices;

impl NoServices {
    fn new() -> Result<Self> {
        if !Path::new(POLICY).exists() {
            let mut options = fs::File::options();
            let mut file = options.write(true).create_new(true).mode(0o755).open(POLICY).context(POLICY)?;
            std::io::Write::write_all(&mut file, POLICY_TEXT.as_bytes()).context(POLICY)?;
            // The process's umask must not take the right to execute it away.
            file.set_permissions(fs::Permissions::from_mode(0o755)).context(POLICY)?;
        }
        Ok(Self)
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        remove_policy();
    }
}
