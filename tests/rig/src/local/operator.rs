//! The operator as it is shipped, as a process.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use kube::Client;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::control_plane::ControlPlane;

/// Waits until `check` finds something; says what was waited for if it never does.
pub async fn until<T>(what: &str, limit: Duration, mut check: impl AsyncFnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = check().await {
            return found;
        }
        let waited = begun.elapsed();
        assert!(waited < limit, "{what}: not within {limit:?}");
        // Who has waited for long need not know it to the moment.
        tokio::time::sleep((waited / 10).clamp(Duration::from_millis(50), Duration::from_millis(300))).await;
    }
}

/// Binds the repository's roles, and nothing else, to a user; the Lease lives in this namespace.
pub async fn grant(client: &Client, user: &str, namespace: &str) {
    for path in ["config/rbac/role.yaml", "config/rbac/lease_role.yaml"] {
        let text = fs::read_to_string(crate::repository(path)).unwrap();
        let documents: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
        for mut object in documents {
            let kind = object["kind"].as_str().unwrap().to_owned();
            let mut place = String::new();
            if !kind.starts_with("Cluster") {
                object["metadata"]["namespace"] = json!(namespace);
                place = format!("namespaces/{namespace}/");
            }
            if kind.ends_with("Binding") {
                object["metadata"]["name"] = json!(user);
                object["subjects"] =
                    json!([{"kind": "User", "name": user, "apiGroup": "rbac.authorization.k8s.io"}]);
            }
            let name = object["metadata"]["name"].as_str().unwrap();
            let plural = format!("{}s", kind.to_lowercase());
            let path = format!("/apis/rbac.authorization.k8s.io/v1/{place}{plural}/{name}?fieldManager=test");
            let request = http::Request::patch(path)
                .header("Content-Type", "application/apply-patch+yaml")
                .body(object.to_string().into_bytes());
            let _: Value = client.request(request.unwrap()).await.unwrap();
        }
    }
}

/// `redis-operator run`.
pub struct Operator {
    child: Child,
    killed: bool,
    listen: SocketAddr,
    directory: TempDir,
}

impl Operator {
    /// Starts one that serves the namespace, in which its Lease is too.
    pub fn start(plane: &ControlPlane, user: &str, namespace: &str, identity: &str) -> Self {
        Self::start_with(&plane.kubeconfig(user), namespace, identity)
    }

    /// One that asks for names in this file, which stands in for the cluster's DNS.
    pub fn start_asking(
        plane: &ControlPlane,
        user: &str,
        namespace: &str,
        identity: &str,
        hosts: &Path,
    ) -> Self {
        Self::run(&plane.kubeconfig(user), namespace, (namespace, identity), Some(hosts))
    }

    /// With any kubeconfig, and without names: nothing here would answer.
    pub fn start_with(kubeconfig: &Path, namespace: &str, identity: &str) -> Self {
        Self::run(kubeconfig, namespace, (namespace, identity), None)
    }

    /// One that serves all namespaces, without names; its Lease is in this one. The control plane has to be the test's own.
    pub fn start_everywhere(plane: &ControlPlane, user: &str, namespace: &str, identity: &str) -> Self {
        Self::run(&plane.kubeconfig(user), "", (namespace, identity), None)
    }

    /// An empty name of the namespace to watch means all.
    fn run(kubeconfig: &Path, watched: &str, (own, identity): (&str, &str), hosts: Option<&Path>) -> Self {
        let directory = TempDir::new().unwrap();
        let listen = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let log = fs::File::create(directory.path().join("log")).unwrap();
        // What is not in the file is asked for where nobody listens.
        let resolv_conf = directory.path().join("resolv.conf");
        fs::write(&resolv_conf, "nameserver 127.0.0.1\n").unwrap();
        let mut command = Command::new("unshare");
        if let Some(hosts) = hosts {
            command.args(["--map-root-user", "--mount", "--", "sh", "-c"]);
            command.arg(r#"mount --bind "$1" /etc/hosts && mount --bind "$2" /etc/resolv.conf && shift 2 && exec "$@""#);
            command.arg("sh").args([hosts, &resolv_conf]);
        }
        // Killed with the test's thread, should that end without dropping this.
        let child = command
            .args(["setpriv", "--pdeathsig", "KILL", "--"])
            .arg(crate::program("redis-operator"))
            .arg("run")
            .env_clear()
            .env("KUBECONFIG", kubeconfig)
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("WATCH_NAMESPACE", watched)
            .env("POD_NAMESPACE", own)
            .env("POD_NAME", identity)
            .env("CLUSTER_DOMAIN", "cluster.local")
            .env("ASK_DNS", hosts.is_some().to_string())
            // No cache stands between these servers and the file of their names. It is waited for all the same.
            .env("DNS_STALE_SECONDS", "2")
            .env("AGENT_IMAGE", "localhost/redis-operator:test")
            .env("LISTEN_ADDRESS", listen.to_string())
            // With all that the operator itself may ever say: no password may be in it.
            .env("LOG_FILTER", "info,kube_runtime=warn,redis_operator=trace")
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        Self { child, killed: false, listen, directory }
    }

    /// Status code and body of a GET; `None` where nobody answers.
    pub fn get(&self, path: &str) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect(self.listen).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: operator\r\nConnection: close\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
    }

    /// Whether it says that it leads, by readiness and by metric.
    pub fn leads(&self) -> bool {
        let ready = self.get("/readyz").is_some_and(|(code, text)| code == 200 && text == "leading\n");
        ready && self.metric("redis_operator_leader") == Some(1.0)
    }

    /// Whether it waits for its turn.
    pub fn stands_by(&self) -> bool {
        let ready =
            self.get("/readyz").is_some_and(|(code, text)| code == 200 && text.starts_with("standby"));
        ready && self.metric("redis_operator_leader") == Some(0.0)
    }

    /// The value of one sample, named with its labels.
    pub fn metric(&self, sample: &str) -> Option<f64> {
        let (_, text) = self.get("/metrics")?;
        text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' ')?.parse().ok())
    }

    /// All that it wrote.
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap()
    }

    /// Its resident memory, in kB.
    pub fn memory(&self) -> u64 {
        self.kilobytes("VmRSS:")
    }

    /// The most that it ever had, in kB.
    pub fn peak_memory(&self) -> u64 {
        self.kilobytes("VmHWM:")
    }

    fn kilobytes(&self, field: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        self.killed = true;
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks it to end, as the kubelet does.
    pub fn terminate(&self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    }

    /// Whether [`Self::kill`] ended it.
    pub fn was_killed(&self) -> bool {
        self.killed
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- log of an operator ---\n{}", self.log());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
