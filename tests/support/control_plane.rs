//! A real etcd and kube-apiserver on the loopback, for tests that ask how Kubernetes itself behaves.
//!
//! No kubelet, no scheduler, no controllers: what a test applies stays as the API server stored it.

use std::{
    env, fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::OnceLock,
    time::{Duration, Instant},
};

use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};

const START_LIMIT: Duration = Duration::from_secs(60);
const TOKEN: &str = "test";

/// Runs the program after `$0` until standard input ends, which it does when the test process is gone in whatever
/// way: nothing that a test starts outlives it.
const UNTIL_STDIN_ENDS: &str = r#""$@" & child=$!; read -r _; kill -9 "$child"; wait "$child" 2>/dev/null"#;

/// The control plane of this test binary.
pub struct ControlPlane {
    directory: PathBuf,
    kubectl: PathBuf,
    _children: Vec<Child>,
}

impl ControlPlane {
    /// Starts it at the first call.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<ControlPlane> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    fn start() -> Self {
        let (etcd, apiserver, kubectl) = (tool("ETCD"), tool("KUBE_APISERVER"), tool("KUBECTL"));
        let directory = tempfile::Builder::new().prefix("control-plane-").tempdir().unwrap().keep();
        let [client, peer, secure] = free_ports();
        let at = |name: &str| directory.join(name).display().to_string();
        let url = |port: u16| format!("http://127.0.0.1:{port}");

        // Nobody drops a static: the shell that ends with etcd also removes the directory.
        let janitor = format!("{UNTIL_STDIN_ENDS}; rm -rf -- {}", at(""));
        let etcd = run(
            &janitor,
            &etcd,
            &at("etcd.log"),
            &[
                format!("--data-dir={}", at("etcd")),
                format!("--listen-client-urls={}", url(client)),
                format!("--advertise-client-urls={}", url(client)),
                format!("--listen-peer-urls={}", url(peer)),
                format!("--initial-advertise-peer-urls={}", url(peer)),
                format!("--initial-cluster=default={}", url(peer)),
                "--unsafe-no-fsync".into(),
            ],
        );
        fs::write(at("tokens.csv"), format!("{TOKEN},admin,admin,system:masters\n")).unwrap();
        let server = format!("https://127.0.0.1:{secure}");
        let apiserver = run(
            UNTIL_STDIN_ENDS,
            &apiserver,
            &at("kube-apiserver.log"),
            &[
                format!("--etcd-servers={}", url(client)),
                "--bind-address=127.0.0.1".into(),
                format!("--secure-port={secure}"),
                // It makes its own key there; tokens that nobody here asks for are signed with the same one.
                format!("--cert-dir={}", at("certificates")),
                format!("--service-account-signing-key-file={}", at("certificates/apiserver.key")),
                format!("--service-account-key-file={}", at("certificates/apiserver.key")),
                "--service-account-issuer=https://kubernetes.default.svc".into(),
                "--service-cluster-ip-range=10.0.0.0/16".into(),
                "--authorization-mode=RBAC".into(),
                // Pods need no account here: no controller would make one.
                "--disable-admission-plugins=ServiceAccount".into(),
                format!("--token-auth-file={}", at("tokens.csv")),
            ],
        );
        fs::write(at("kubeconfig"), kubeconfig(&server)).unwrap();
        let plane = Self { directory, kubectl, _children: vec![etcd, apiserver] };
        plane.wait_until_ready();
        plane
    }

    fn wait_until_ready(&self) {
        let begun = Instant::now();
        loop {
            let answer = self.kubectl(&["get", "--raw=/readyz", "--request-timeout=5s"], "");
            if answer.status.success() {
                return;
            }
            assert!(
                begun.elapsed() < START_LIMIT,
                "kube-apiserver is not ready after {START_LIMIT:?}: {}\n{}",
                String::from_utf8_lossy(&answer.stderr),
                self.log_end()
            );
            // There is nothing to wait on: the server is not there yet.
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    fn log_end(&self) -> String {
        let log = fs::read_to_string(self.directory.join("kube-apiserver.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// Configuration of a client of this control plane.
    pub async fn config(&self) -> Config {
        let kubeconfig = Kubeconfig::read_from(self.directory.join("kubeconfig")).unwrap();
        Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap()
    }

    /// A client. Each test makes its own: connections belong to a test's runtime.
    pub async fn client(&self) -> Client {
        Client::try_from(self.config().await).unwrap()
    }

    /// Runs kubectl with this standard input.
    pub fn kubectl(&self, arguments: &[&str], input: &str) -> Output {
        let input_file = tempfile::NamedTempFile::new().unwrap();
        fs::write(input_file.path(), input).unwrap();
        Command::new(&self.kubectl)
            .arg(format!("--kubeconfig={}", self.directory.join("kubeconfig").display()))
            .arg(format!("--cache-dir={}", self.directory.join("cache").display()))
            .args(arguments)
            .stdin(fs::File::open(input_file.path()).unwrap())
            .output()
            .unwrap()
    }
}

/// A program by the variable that names its path.
fn tool(variable: &str) -> PathBuf {
    let path = env::var_os(variable).map_or_else(|| {
        panic!(
            "{variable} must hold the path of that program: `make tools` builds it, and `make test-local` sets the variable"
        )
    }, PathBuf::from);
    assert!(path.is_file(), "{variable}={}: no such file; `make tools` builds it", path.display());
    path
}

fn run(script: &str, program: &Path, log: &str, arguments: &[String]) -> Child {
    let log = fs::File::create(log).unwrap();
    Command::new("sh")
        .args(["-c", script, "sh"])
        .arg(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap()
}

/// Ports that were free a moment ago.
fn free_ports<const N: usize>() -> [u16; N] {
    let listeners = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}

fn kubeconfig(server: &str) -> String {
    serde_json::json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "test",
        // Its certificate is of its own making, and the way to it never leaves this machine.
        "clusters": [{"name": "test", "cluster": {"server": server, "insecure-skip-tls-verify": true}}],
        "users": [{"name": "test", "user": {"token": TOKEN}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
    })
    .to_string()
}
