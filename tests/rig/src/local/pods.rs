//! Pods without a cluster: each has a network namespace with its own address, its own /etc/hosts and the mounts
//! that the agent expects, so that the agent runs as it does in a pod: real names, the real port, real Redis.
//!
//! Needs root (`unshare`, `ip`, `nsenter`, `setpriv`) and redis-server 7 or later. Everything ends with its value;
//! whatever a killed test run leaves is killed by the kernel (`--pdeathsig`).

use std::{
    ffi::OsStr,
    fs::{self, File, Permissions},
    io::{BufRead, BufReader, Read, Write},
    os::unix::{fs::PermissionsExt, process::ExitStatusExt},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use operator_core::{
    acl::User,
    credentials::{Internal, Own},
    hash::sha256,
};
use redis_node::{
    conf::quote,
    files::{AGENT_PASSWORD_KEY, REPLICA_PASSWORD_KEY, USERS_KEY},
    password::Password,
};
use tempfile::TempDir;

/// How long anything may take before a test gives up on it.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// DNS domain of the pods, as in the lab.
pub const DOMAIN: &str = "redis-headless.default.svc.cluster.local";

/// Password of every pod that gets no other.
pub const PASSWORD: &[u8] = b"correct horse";

/// The agent under test.
pub fn agent() -> PathBuf {
    crate::program("agent")
}

/// DNS name of a pod.
pub fn fqdn(ordinal: u8) -> String {
    format!("redis-{ordinal}.{DOMAIN}")
}

/// The pods' network: a bridge in a namespace of its own, and the names that resolve.
pub struct Network {
    hub: Namespace,
    dir: TempDir,
}

impl Network {
    /// A network in which no name resolves yet.
    #[expect(clippy::new_without_default, reason = "it starts processes: no value to be made by the way")]
    pub fn new() -> Self {
        let dir = TempDir::new().unwrap();
        fs::write(dir.path().join("hosts"), "127.0.0.1 localhost\n").unwrap();
        // Names that are not in the hosts file fail at once: nobody listens there.
        fs::write(dir.path().join("resolv.conf"), "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
            .unwrap();
        let hub = Namespace::new("ip link add br0 type bridge && ip link set br0 up");
        Self { hub, dir }
    }

    /// Makes a pod and lets its name resolve.
    pub fn pod(&self, ordinal: u8) -> Pod {
        let pod = self.unpublished_pod(ordinal);
        self.publish(ordinal);
        pod
    }

    /// Makes a pod whose name does not resolve yet.
    pub fn unpublished_pod(&self, ordinal: u8) -> Pod {
        let dir = TempDir::new().unwrap();
        for sub in ["run", "data", "bin", "internal"] {
            fs::create_dir(dir.path().join(sub)).unwrap();
        }
        let files = self.dir.path().display();
        let namespace = Namespace::new(&format!(
            "mount --bind {files}/hosts /etc/hosts && mount --bind {files}/resolv.conf /etc/resolv.conf && \
             ip link set lo up"
        ));
        let (pid, link) = (namespace.pid(), format!("pod{ordinal}"));
        self.hub.ip(&["link", "add", &link, "type", "veth", "peer", "name", "eth0", "netns", &pid]);
        self.hub.ip(&["link", "set", &link, "master", "br0", "up"]);
        namespace.ip(&["address", "add", &format!("{}/24", address(ordinal)), "dev", "eth0"]);
        namespace.ip(&["link", "set", "eth0", "up"]);
        let pod = Pod { ordinal, namespace, dir };
        pod.write("password", PASSWORD);
        pod.write("redis.conf", b"enable-debug-command yes\nrepl-diskless-sync-delay 0\n");
        pod.members(&[ordinal]);
        pod
    }

    /// Lets the name of a pod resolve.
    pub fn publish(&self, ordinal: u8) {
        let mut hosts = File::options().append(true).open(self.dir.path().join("hosts")).unwrap();
        writeln!(hosts, "{} {}", address(ordinal), fqdn(ordinal)).unwrap();
    }
}

fn address(ordinal: u8) -> String {
    format!("10.77.0.{}", ordinal + 10)
}

/// A pod: a namespace and the files that are mounted into it.
pub struct Pod {
    ordinal: u8,
    namespace: Namespace,
    dir: TempDir,
}

impl Pod {
    /// Path of a file of this pod.
    pub fn path(&self, file: &str) -> PathBuf {
        self.dir.path().join(file)
    }

    /// Writes one of the mounted files: `redis.conf`, `members`; or `password`, and with it what the operator's Secret mounts.
    pub fn write(&self, file: &str, bytes: &[u8]) {
        fs::write(self.path(file), bytes).unwrap();
        if file == "password" {
            self.mount(bytes);
        }
    }

    /// The operator's Secret with this password for everybody, so that one wrong password is wrong for all.
    fn mount(&self, password: &[u8]) {
        let mounted = |key: &str| self.path("internal").join(key);
        if let Some(known) = Password::from_bytes(password) {
            let own = Own { operator: known.clone(), replica: known.clone(), agent: known.clone() };
            let mut internal = Internal::first(own, Timestamp::UNIX_EPOCH);
            internal.application.current = Some(sha256(known.as_bytes()));
            let users: String = internal.users().iter().map(User::line).collect();
            fs::write(mounted(USERS_KEY), users).unwrap();
        }
        for key in [REPLICA_PASSWORD_KEY, AGENT_PASSWORD_KEY] {
            fs::write(mounted(key), password).unwrap();
        }
    }

    /// Writes the member list.
    pub fn members(&self, ordinals: &[u8]) {
        let list: String = ordinals.iter().map(|ordinal| format!("redis-{ordinal}\n")).collect();
        self.write("members", list.as_bytes());
    }

    /// `agent start` with this pod's files and further arguments.
    pub fn start_args(&self, more: &[&str]) -> Vec<String> {
        let path = |file: &str| self.path(file).display().to_string();
        let mut args = vec!["start".to_owned(), "--pod".to_owned(), format!("redis-{}", self.ordinal)];
        for (flag, value) in [
            ("--domain", DOMAIN.to_owned()),
            ("--config", path("redis.conf")),
            ("--members", path("members")),
            ("--internal-dir", path("internal")),
            ("--run-dir", path("run")),
            ("--data-dir", path("data")),
        ] {
            args.extend([flag.to_owned(), value]);
        }
        args.extend(more.iter().map(|&arg| arg.to_owned()));
        args
    }

    /// Runs the agent as the container's command.
    pub fn start(&self, more: &[&str]) -> Container {
        let mut command = self.namespace.command(agent());
        command.args(self.start_args(more));
        Container::spawn(command)
    }

    /// Runs the agent and waits until its Redis replies.
    pub fn start_and_wait(&self, more: &[&str]) -> Container {
        let container = self.start(more);
        wait_until("the Redis replies", || self.probe("liveness").0);
        container
    }

    /// A command in this pod's namespaces.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        self.namespace.command(program)
    }

    /// Runs a probe: whether it passed, and what it said.
    pub fn probe(&self, check: &str) -> (bool, String) {
        let internal = self.path("internal").display().to_string();
        let output = self.run(agent(), &["probe", check, "--internal-dir", &internal]);
        (output.status.success(), said(&output))
    }

    /// Runs the preStop hook; its log is the file `log`.
    pub fn prestop(&self, more: &[&str]) -> Container {
        self.prestop_with("internal", more)
    }

    /// The same, with another directory in place of the mounted Secret.
    pub fn prestop_with(&self, internal_dir: &str, more: &[&str]) -> Container {
        self.write("log", b"");
        let mut command = self.command(agent());
        command.arg("prestop").arg("--internal-dir").arg(self.path(internal_dir));
        command.arg("--run-dir").arg(self.path("run"));
        command.arg("--log").arg(self.path("log")).args(more);
        Container::spawn(command)
    }

    /// Runs a program to its end.
    pub fn run(&self, program: impl AsRef<OsStr>, args: &[&str]) -> Output {
        self.command(program).args(args).output().unwrap()
    }

    /// Sends one command to this pod's Redis and returns the reply as redis-cli prints it.
    pub fn redis(&self, command: &str) -> String {
        let password = fs::read(self.path("password")).unwrap();
        let mut cli = self.command("redis-cli").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        // redis-cli reads the same quoting as redis.conf has, and standard input is no argument list.
        let lines = format!("AUTH {}\n{command}\n", quote(&password));
        cli.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
        let output = cli.wait_with_output().unwrap();
        let replies = String::from_utf8(output.stdout).unwrap();
        replies.strip_prefix("OK\n").unwrap_or_else(|| panic!("AUTH failed: {replies}")).trim_end().to_owned()
    }

    /// One field of INFO.
    pub fn info(&self, field: &str) -> String {
        let info = self.redis("INFO everything");
        let prefix = format!("{field}:");
        info.lines().find_map(|line| line.strip_prefix(&prefix)).unwrap_or_default().trim_end().to_owned()
    }

    /// Makes this pod's Redis a primary, as the operator would.
    pub fn promote(&self) {
        assert_eq!(self.redis("REPLICAOF NO ONE"), "OK");
    }
}

/// What a program said on both of its outputs.
pub fn said(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).trim().to_owned()).concat()
}

/// A running container: one process and its log.
pub struct Container {
    child: Child,
    began: Instant,
    log: Arc<Mutex<Vec<(Duration, String)>>>,
}

impl Container {
    /// Spawns the command and collects what it says.
    pub fn spawn(mut command: Command) -> Self {
        let began = Instant::now();
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        collect(child.stdout.take().unwrap(), began, &log);
        collect(child.stderr.take().unwrap(), began, &log);
        Self { child, began, log }
    }

    /// Its process ID: `setpriv` and `nsenter` have become the agent, and the agent becomes Redis.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// When the first line that contains this came, after the start; waits for it.
    pub fn logged(&self, part: &str) -> Duration {
        let find =
            || self.log.lock().unwrap().iter().find(|(_, line)| line.contains(part)).map(|(at, _)| *at);
        let began = Instant::now();
        loop {
            if let Some(at) = find() {
                return at;
            }
            assert!(began.elapsed() < PATIENCE, "not logged: {part:?}\n{}", self.log());
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// All that it has said.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().iter().map(|(_, line)| format!("{line}\n")).collect()
    }

    /// What the agent said before Redis took over, without the times that resolvers and kernels take.
    pub fn steps(&self) -> Vec<String> {
        self.logged("starting Redis:");
        let log = self.log();
        let mut steps: Vec<String> = Vec::new();
        for line in log.lines() {
            steps.push(line.to_owned());
            if line.starts_with("starting Redis:") {
                break;
            }
        }
        steps
    }

    /// Sends a signal.
    pub fn signal(&self, signal: &str) {
        kill(self.pid(), signal);
    }

    /// Ends the process at once and waits for its end.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for the end of the process: how it ended, and how long after its start.
    pub fn ended(&mut self) -> (ExitStatus, Duration) {
        let mut status = None;
        wait_until("the process ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        (status.unwrap_or(ExitStatus::from_raw(-1)), self.began.elapsed())
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // Our own child, by its handle; it may have ended before.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn collect(stream: impl Read + Send + 'static, began: Instant, log: &Arc<Mutex<Vec<(Duration, String)>>>) {
    let log = Arc::clone(log);
    thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            log.lock().unwrap().push((began.elapsed(), line));
        }
    });
}

/// Sends a signal to a process that the test started.
pub fn kill(pid: u32, signal: &str) {
    assert!(Command::new("kill").args([&format!("-{signal}"), &pid.to_string()]).status().unwrap().success());
}

/// Waits until this holds.
pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "waited in vain: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// A file's permission bits.
pub fn mode(path: &Path) -> u32 {
    let permissions: Permissions = fs::metadata(path).unwrap().permissions();
    permissions.mode() & 0o7777
}

/// Network and mount namespaces, kept by a process that waits for the end of its input.
struct Namespace {
    holder: Child,
}

impl Namespace {
    fn new(setup: &str) -> Self {
        let mut holder = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "unshare", "--mount", "--net", "sh", "-c"])
            .arg(format!("{setup} && echo ready && exec cat"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(holder.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n", "these tests need root, for namespaces");
        Self { holder }
    }

    fn pid(&self) -> String {
        self.holder.id().to_string()
    }

    fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "nsenter", "--mount", "--net", "--target", &self.pid(), "--"]);
        command.arg(program);
        command
    }

    fn ip(&self, args: &[&str]) {
        let output = self.command("ip").args(args).output().unwrap();
        assert!(output.status.success(), "ip {args:?}: {}", said(&output));
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
