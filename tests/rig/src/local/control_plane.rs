//! A real etcd and kube-apiserver on the loopback, for tests that ask how Kubernetes itself behaves.
//!
//! No kubelet, no scheduler, and no controllers unless a test asks for some: what a test applies stays as the API
//! server stored it.

use std::{
    env, fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{Mutex, OnceLock},
    time::{Duration, Instant},
};

use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::json;

const START_LIMIT: Duration = Duration::from_secs(60);
/// May everything.
const ADMIN: &str = "admin";
/// Of users who may only what a test grants them; their names, `operator-0` and so on, are also their tokens.
const USERS: usize = 96;

/// Who did what, without bodies: all that those users did, and of the others what may create or delete an object that
/// a set consists of. One line a request once it was answered.
fn audit_policy(users: &[String]) -> serde_json::Value {
    let resources = |group: &str, resources: &[&str]| json!({"group": group, "resources": resources});
    json!({
        "apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"],
        "rules": [
            {"level": "Metadata", "users": users},
            {"level": "Metadata", "verbs": ["create", "patch", "delete"], "resources": [
                resources("", &["pods", "services", "configmaps", "secrets", "persistentvolumeclaims"]),
                resources("apps", &["statefulsets"]),
                resources("policy", &["poddisruptionbudgets"]),
                resources("networking.k8s.io", &["networkpolicies"]),
            ]},
            {"level": "None"},
        ],
    })
}

/// Runs the program after `$0` until standard input ends, which it does when the test process is gone in whatever
/// way: nothing that a test starts outlives it.
const UNTIL_STDIN_ENDS: &str = r#""$@" & child=$!; read -r _; kill -9 "$child"; wait "$child" 2>/dev/null"#;

/// The control plane of this test binary.
pub struct ControlPlane {
    directory: PathBuf,
    kubectl: PathBuf,
    server: String,
    /// Who was given to nobody yet.
    users: Mutex<Vec<String>>,
    api_server: Child,
    _etcd: Child,
}

impl ControlPlane {
    /// Starts it at the first call.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<ControlPlane> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// One of the test's own; it ends with the value.
    pub fn start() -> Self {
        let (etcd, server_program, kubectl) = (tool("ETCD"), tool("KUBE_APISERVER"), tool("KUBECTL"));
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
        let users: Vec<String> = (0..USERS).map(|number| format!("operator-{number}")).collect();
        let tokens: String = users.iter().map(|user| format!("{user},{user},{user}\n")).collect();
        fs::write(at("tokens.csv"), format!("{ADMIN},{ADMIN},{ADMIN},system:masters\n{tokens}")).unwrap();
        fs::write(at("audit-policy.json"), audit_policy(&users).to_string()).unwrap();
        let server = format!("https://127.0.0.1:{secure}");
        let api_server = run(
            UNTIL_STDIN_ENDS,
            &server_program,
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
                format!("--audit-policy-file={}", at("audit-policy.json")),
                format!("--audit-log-path={}", at("audit.log")),
                // In megabytes: in one piece, whatever a test does.
                "--audit-log-maxsize=100000".into(),
            ],
        );
        let users = Mutex::new(users);
        let plane = Self { directory, kubectl, server, users, api_server, _etcd: etcd };
        plane.kubeconfig(ADMIN);
        plane.wait_until_ready();
        plane
    }

    /// A user of the caller's own: what the audit log says of it was done by one test.
    pub fn user(&self) -> String {
        self.users.lock().unwrap().pop().expect("a user for each test: more of them are needed")
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

    /// A kubeconfig of this user; the file stays the same.
    pub fn kubeconfig(&self, user: &str) -> PathBuf {
        let path = self.directory.join(format!("{user}.kubeconfig"));
        if !path.exists() {
            fs::write(&path, kubeconfig(&self.server, user)).unwrap();
        }
        path
    }

    /// A kubeconfig of this user for whatever stands in front of the API server at this URL.
    pub fn kubeconfig_by_way_of(&self, server: &str, user: &str) -> PathBuf {
        let name = server.replace(|c: char| !c.is_ascii_alphanumeric(), "-");
        let path = self.directory.join(format!("{user}-{name}.kubeconfig"));
        fs::write(&path, kubeconfig(server, user)).unwrap();
        path
    }

    /// The audit log so far: every answered request of the users, and what else the policy names.
    pub fn audit(&self) -> Vec<serde_json::Value> {
        let log = fs::read_to_string(self.audit_log()).unwrap_or_default();
        // The last line may be half written.
        log.split_inclusive('\n').filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// The file of the audit log.
    pub fn audit_log(&self) -> PathBuf {
        self.directory.join("audit.log")
    }

    /// Runs these controllers of Kubernetes until the value that is returned is dropped.
    pub fn controllers(&self, names: &str) -> Controllers {
        Controllers(run(
            UNTIL_STDIN_ENDS,
            &tool("KUBE_CONTROLLER_MANAGER"),
            &self.directory.join("kube-controller-manager.log").display().to_string(),
            &[
                format!("--kubeconfig={}", self.kubeconfig(ADMIN).display()),
                format!("--controllers={names}"),
                "--leader-elect=false".into(),
                // Many sets at once in one test must not wait for each other's turn.
                "--kube-api-qps=500".into(),
                "--kube-api-burst=1000".into(),
                "--secure-port=0".into(),
            ],
        ))
    }

    /// Freezes the API server: it keeps its connections and answers nothing.
    pub fn freeze_api_server(&self) {
        self.signal_api_server("-STOP");
    }

    /// Ends [`Self::freeze_api_server`].
    pub fn thaw_api_server(&self) {
        self.signal_api_server("-CONT");
    }

    fn signal_api_server(&self, signal: &str) {
        // The shell's only child.
        let shell = self.api_server.id();
        let children = fs::read_to_string(format!("/proc/{shell}/task/{shell}/children")).unwrap();
        let pid = children.split_whitespace().next().unwrap();
        assert!(Command::new("kill").args([signal, pid]).status().unwrap().success());
    }

    /// Configuration of a client of this control plane.
    pub async fn config(&self) -> Config {
        self.config_of(ADMIN).await
    }

    /// Configuration of a client that acts as this user.
    pub async fn config_of(&self, user: &str) -> Config {
        let kubeconfig = Kubeconfig::read_from(self.kubeconfig(user)).unwrap();
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
            .arg(format!("--kubeconfig={}", self.kubeconfig(ADMIN).display()))
            .arg(format!("--cache-dir={}", self.directory.join("cache").display()))
            .args(arguments)
            .stdin(fs::File::open(input_file.path()).unwrap())
            .output()
            .unwrap()
    }
}

/// Running controllers.
pub struct Controllers(Child);

impl Drop for Controllers {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// A program by the variable that names its path.
pub fn tool(variable: &str) -> PathBuf {
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

fn kubeconfig(server: &str, user: &str) -> String {
    serde_json::json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "test",
        // Its certificate is of its own making, and the way to it never leaves this machine.
        "clusters": [{"name": "test", "cluster": {"server": server, "insecure-skip-tls-verify": true}}],
        "users": [{"name": "test", "user": {"token": user}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
    })
    .to_string()
}
