//! What stands in for the kubelets: real redis-servers for the pods that the API server holds.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::{Ipv4Addr, TcpStream},
    path::PathBuf,
    pin::pin,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use futures::{FutureExt, StreamExt};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Secret};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions},
    runtime::{WatchStreamExt, reflector, watcher},
};
use redis_node::{
    PARKED,
    files::{PASSWORD_KEY, REDIS_PORT, REPLICA_PASSWORD_KEY, USERS_KEY},
    login::REPLICA_USER,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::redis_server::free_address;

/// Gives the address that the pod's status shows for the one where its Redis listens, by the pod's name: another one
/// where somebody stands in front of it.
pub type Front = Box<dyn Fn(&str, Ipv4Addr) -> Ipv4Addr + Send>;

/// An image with this in its name cannot be pulled.
pub const NO_IMAGE: &str = "no-such-image";

/// The pods of one set, run as the kubelets and the agent would: a redis-server for each, parked at first, that comes
/// back in place when it ends. What is left out: what images hold, probes, scheduling.
pub struct Kubelet {
    shared: Arc<Mutex<Machines>>,
    task: tokio::task::JoinHandle<()>,
}

/// Where the processes run. `/etc/hosts` of their own stands in for the cluster's DNS.
struct Machines {
    directory: TempDir,
    /// Of the application, where the tests say which; else it is in the Secret.
    password: Option<String>,
    /// The Secrets of the namespace, by name.
    secrets: BTreeMap<String, Secret>,
    front: Front,
    /// More lines of redis.conf.
    config: String,
    /// Nothing is started any more.
    ended: bool,
    /// The preStop hooks of deleted pods are not done.
    hooks_wait: bool,
    /// By UID of the pod.
    servers: BTreeMap<String, Server>,
    /// Pods whose process has ended, of which the API server is not told yet.
    ending: Vec<Ending>,
    /// UIDs of pods that cannot start.
    stuck: BTreeSet<String>,
    /// Directory of the data, by UID of the pod.
    volumes: BTreeMap<String, String>,
}

struct Server {
    pod: String,
    address: Ipv4Addr,
    /// What the pod's status shows.
    shown: Ipv4Addr,
    password: String,
    child: Child,
    /// When the process was started.
    since: Timestamp,
    restarts: i32,
    /// It listens: the startup probe has passed.
    started: bool,
}

impl Kubelet {
    /// Runs the pods of this namespace, all with this password.
    pub fn start(client: Client, namespace: &str, password: &str) -> Self {
        Self::start_with(client, namespace, password, "")
    }

    /// The same with more lines of redis.conf.
    pub fn start_with(client: Client, namespace: &str, password: &str, config: &str) -> Self {
        Self::run(client, namespace, Some(password.to_owned()), Box::new(|_, address| address), config)
    }

    /// Runs the pods of the one set of this namespace with the password of its Secret, each behind a front.
    pub fn start_behind(client: Client, namespace: &str, front: Front) -> Self {
        Self::run(client, namespace, None, front, "")
    }

    fn run(client: Client, namespace: &str, password: Option<String>, front: Front, config: &str) -> Self {
        let directory = TempDir::new().unwrap();
        fs::write(directory.path().join("hosts"), "127.0.0.1 localhost\n").unwrap();
        let secrets = Api::<Secret>::namespaced(client.clone(), namespace);
        let machines = Machines {
            directory,
            password,
            secrets: BTreeMap::new(),
            front,
            config: config.to_owned(),
            ended: false,
            hooks_wait: false,
            servers: BTreeMap::new(),
            ending: Vec::new(),
            stuck: BTreeSet::new(),
            volumes: BTreeMap::new(),
        };
        let shared = Arc::new(Mutex::new(machines));
        let claims = Api::<PersistentVolumeClaim>::namespaced(client.clone(), namespace);
        let pods = Api::<Pod>::namespaced(client, namespace);
        let task = tokio::spawn(run(pods, claims, secrets, Arc::clone(&shared)));
        Self { shared, task }
    }

    /// Names of the pods whose Redis runs, in order.
    pub fn pods(&self) -> Vec<String> {
        let names: BTreeSet<String> =
            self.shared.lock().unwrap().servers.values().map(|server| server.pod.clone()).collect();
        names.into_iter().collect()
    }

    /// Kills the redis-server of a pod; it comes back like a restarted container.
    pub fn kill_redis(&self, pod: &str) {
        let mut machines = self.shared.lock().unwrap();
        let server = machines.servers.values_mut().find(|server| server.pod == pod).expect("the pod runs");
        server.child.kill().unwrap();
    }

    /// The file that stands in for the cluster's DNS.
    pub fn hosts(&self) -> PathBuf {
        self.shared.lock().unwrap().directory.path().join("hosts")
    }

    /// Lets the preStop hooks of pods that are deleted wait, until this says otherwise.
    pub fn let_hooks_wait(&self, wait: bool) {
        self.shared.lock().unwrap().hooks_wait = wait;
    }

    /// Stops the redis-server of a pod, which stays Ready: what is seen of a pod whose node was just lost.
    pub fn freeze(&self, pod: &str) {
        self.signal(pod, "-STOP");
    }

    /// Lets it go on.
    pub fn thaw(&self, pod: &str) {
        self.signal(pod, "-CONT");
    }

    fn signal(&self, pod: &str, signal: &str) {
        let machines = self.shared.lock().unwrap();
        let server = machines.servers.values().find(|server| server.pod == pod).expect("the pod runs");
        let told = Command::new("kill").args([signal, &server.child.id().to_string()]).status().unwrap();
        assert!(told.success(), "{pod}: kill {signal}");
    }

    /// Lets a pod's name lead to an address at which nobody listens, as a stale DNS answer does, until its Redis starts again.
    pub fn mislead(&self, pod: &str) {
        self.lead(pod, free_address());
    }

    /// Lets it lead to the pod's Redis again.
    pub fn lead_back(&self, pod: &str) {
        let machines = self.shared.lock().unwrap();
        let server = machines.servers.values().find(|server| server.pod == pod).expect("the pod runs");
        let address = server.address;
        drop(machines);
        self.lead(pod, address);
    }

    fn lead(&self, pod: &str, address: Ipv4Addr) {
        let hosts = self.hosts();
        let led: String = fs::read_to_string(&hosts)
            .unwrap()
            .lines()
            .map(|line| match line.split_once(' ') {
                Some((_, name)) if name.starts_with(&format!("{pod}.")) => format!("{address} {name}\n"),
                _ => format!("{line}\n"),
            })
            .collect();
        // In place: the file is mounted.
        fs::write(&hosts, led).unwrap();
    }

    /// A connection to the Redis of a pod.
    pub fn client(&self, pod: &str) -> Result<redis::Connection, redis::RedisError> {
        const PATIENCE: Duration = Duration::from_secs(2);
        let (address, password) = {
            let machines = self.shared.lock().unwrap();
            let server = machines.servers.values().find(|server| server.pod == pod);
            let Some(server) = server else {
                return Err((redis::ErrorKind::Io, "the pod does not run").into());
            };
            (server.address, server.password.clone())
        };
        let client = redis::Client::open(format!("redis://{address}:{REDIS_PORT}"))?;
        let mut connection = client.get_connection_with_timeout(PATIENCE)?;
        connection.set_read_timeout(Some(PATIENCE))?;
        redis::cmd("AUTH").arg(password).exec(&mut connection)?;
        Ok(connection)
    }

    /// What a Redis of a pod answers to a login.
    pub fn login(&self, pod: &str, user: &str, password: &str) -> Result<(), redis::RedisError> {
        self.connection(pod, user, password).map(|_| ())
    }

    /// A connection to the Redis of a pod, as this user.
    pub fn connection(
        &self,
        pod: &str,
        user: &str,
        password: &str,
    ) -> Result<redis::Connection, redis::RedisError> {
        let address = self.shared.lock().unwrap().servers.values().find(|s| s.pod == pod).map(|s| s.address);
        let Some(address) = address else {
            return Err((redis::ErrorKind::Io, "the pod does not run").into());
        };
        let client = redis::Client::open(format!("redis://{address}:{REDIS_PORT}"))?;
        let mut connection = client.get_connection_with_timeout(Duration::from_secs(2))?;
        connection.set_read_timeout(Some(Duration::from_secs(2)))?;
        redis::cmd("AUTH").arg(user).arg(password).exec(&mut connection)?;
        Ok(connection)
    }

    /// Lets the tests log in with another password from now on.
    pub fn use_password(&self, password: &str) {
        let mut machines = self.shared.lock().unwrap();
        machines.password = Some(password.to_owned());
        for server in machines.servers.values_mut() {
            password.clone_into(&mut server.password);
        }
    }

    /// One command to the Redis of a pod.
    pub fn command<T: redis::FromRedisValue>(
        &self,
        pod: &str,
        words: &[&str],
    ) -> Result<T, redis::RedisError> {
        redis::cmd(words[0]).arg(&words[1..]).query(&mut self.client(pod)?)
    }
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        self.task.abort();
        let mut machines = self.shared.lock().unwrap();
        machines.ended = true;
        for server in machines.servers.values_mut() {
            let _ = server.child.kill();
            let _ = server.child.wait();
        }
    }
}

async fn run(
    pods: Api<Pod>,
    claims: Api<PersistentVolumeClaim>,
    secrets: Api<Secret>,
    machines: Arc<Mutex<Machines>>,
) {
    let (seen, writer) = reflector::store();
    let (mounted, mounted_writer) = reflector::store();
    let watch_of_secrets = watcher(secrets, watcher::Config::default()).default_backoff();
    let mut news_of_secrets = pin!(watch_of_secrets.reflect(mounted_writer).touched_objects());
    // The API server may be gone for a while: that is some tests' subject.
    let watch = watcher(pods.clone(), watcher::Config::default()).default_backoff();
    let mut events = pin!(watch.reflect(writer).touched_objects());
    loop {
        // A pod's change is seen at once; the end of a process is looked for.
        tokio::select! {
            _ = events.next() => while events.next().now_or_never().is_some() {},
            _ = news_of_secrets.next() => while news_of_secrets.next().now_or_never().is_some() {},
            () = tokio::time::sleep(Duration::from_millis(50)) => {}
        }
        let list = seen.state();
        for pod in list.iter().filter(|pod| pod.spec.as_ref().is_some_and(|s| s.node_name.is_none())) {
            // A pod without a node is deleted at once; one with a node waits for its kubelet.
            let name = pod.name_any();
            let binding = json!({
                "apiVersion": "v1", "kind": "Binding", "metadata": {"name": name},
                "target": {"apiVersion": "v1", "kind": "Node", "name": "node"},
            });
            let _: Result<Value, _> =
                pods.create_subresource("binding", &name, &PostParams::default(), &binding).await;
        }
        machines.lock().unwrap().secrets =
            mounted.state().iter().map(|secret| (secret.name_any(), (**secret).clone())).collect();
        let unseen = machines.lock().unwrap().unseen(&list);
        for (uid, claim) in unseen {
            // Data lives as long as the claim that it is in, or as the pod where there is none.
            let volume = match claims.get_opt(&claim).await {
                Ok(Some(claim)) => claim.uid().unwrap(),
                _ => uid.clone(),
            };
            machines.lock().unwrap().volumes.insert(uid, volume);
        }
        let (changed, ended) = machines.lock().unwrap().sync(&list);
        for (pod, uid, status) in changed {
            // Refused where its successor of the same name is there already.
            let patch = Patch::Merge(json!({"metadata": {"uid": uid}, "status": status}));
            let _ = pods.patch_status(&pod, &PatchParams::default(), &patch).await;
        }
        for (pod, uid) in ended {
            // Its successor of the same name may be there already.
            let params = DeleteParams::default().grace_period(0);
            let _ = pods
                .delete(&pod, &params.preconditions(Preconditions { uid: Some(uid), resource_version: None }))
                .await;
        }
    }
}

/// A pod whose process has ended.
struct Ending {
    pod: String,
    uid: String,
    /// Its last status.
    last: Value,
    since: Instant,
}

/// From the end of a process until a kubelet tells the API server, which it does once it has looked at the container again.
const END_TOLD_AFTER: Duration = Duration::from_secs(1);

/// A pod, its UID, and its new status.
type Changed = (String, String, Value);
/// A pod that has ended, and its UID.
type Gone = (String, String);

impl Machines {
    /// Pods that were not seen before, each with the name that its claim has if there is one.
    fn unseen(&self, pods: &[Arc<Pod>]) -> Vec<(String, String)> {
        pods.iter()
            .filter_map(|pod| Some((pod.uid()?, format!("data-{}", pod.name_any()))))
            .filter(|(uid, _)| !self.volumes.contains_key(uid))
            .collect()
    }

    /// Starts what is missing and ends what is not wanted; returns the pods whose status changed, and those that have
    /// ended, with their UIDs.
    #[expect(clippy::too_many_lines, reason = "one step of a kubelet, in its order")]
    fn sync(&mut self, pods: &[Arc<Pod>]) -> (Vec<Changed>, Vec<Gone>) {
        let (mut changed, mut ended) = (Vec::new(), Vec::new());
        if self.ended {
            return (changed, ended);
        }
        let stays = |uid: &String| {
            let pod = pods.iter().find(|pod| pod.uid().as_ref() == Some(uid));
            pod.is_some_and(|pod| self.hooks_wait || pod.metadata.deletion_timestamp.is_none())
        };
        let gone: Vec<String> = self.servers.keys().filter(|uid| !stays(uid)).cloned().collect();
        for uid in gone {
            let Some(mut server) = self.servers.remove(&uid) else { continue };
            // Gracefully: Redis saves, and its next pod loads that from the volume.
            let _ = Command::new("kill").args(["-TERM", &server.child.id().to_string()]).status();
            server.child.wait().unwrap();
            let since = Instant::now();
            let mut last = status(&server);
            last["containerStatuses"][0]["ready"] = json!(false);
            last["phase"] = json!("Succeeded");
            // To the second, as the kubelet tells.
            let end = Timestamp::from_second(now().as_second()).unwrap();
            let terminated = json!({"exitCode": 0, "startedAt": server.since, "finishedAt": end});
            last["containerStatuses"][0]["state"] = json!({"running": null, "terminated": terminated});
            self.ending.push(Ending { pod: server.pod, uid, last, since });
        }
        let terminating = |pod: &&Arc<Pod>| pod.metadata.deletion_timestamp.is_some();
        // Nothing of those runs.
        ended.extend(
            pods.iter()
                .filter(terminating)
                .filter(|pod| !self.servers.contains_key(&pod.uid().unwrap()))
                .filter(|pod| !self.ending.iter().any(|ending| Some(&ending.uid) == pod.uid().as_ref()))
                .map(|pod| (pod.name_any(), pod.uid().unwrap())),
        );
        let (told, ending) = std::mem::take(&mut self.ending)
            .into_iter()
            .partition(|ending: &Ending| ending.since.elapsed() >= END_TOLD_AFTER);
        self.ending = ending;
        for told in told {
            changed.push((told.pod.clone(), told.uid.clone(), told.last));
            ended.push((told.pod, told.uid));
        }
        for pod in pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()) {
            let (name, uid) = (pod.name_any(), pod.uid().unwrap());
            if let Some(mut server) = self.servers.remove(&uid) {
                if server.child.try_wait().unwrap().is_some() {
                    // A container without what it mounts is not started.
                    if let Some(login) = self.login(pod) {
                        let namespace = pod.namespace().unwrap();
                        server.child = self.spawn(&name, &uid, &namespace, server.address, &login);
                    } else {
                        self.servers.insert(uid, server);
                        continue;
                    }
                    server.since = now();
                    server.restarts += 1;
                    server.started = false;
                    changed.push((name, uid.clone(), status(&server)));
                } else if !server.started && TcpStream::connect((server.address, REDIS_PORT)).is_ok() {
                    server.started = true;
                    changed.push((name, uid.clone(), status(&server)));
                }
                self.servers.insert(uid, server);
                continue;
            }
            let image = pod.spec.as_ref().and_then(|spec| spec.containers[0].image.as_deref());
            if image.is_some_and(|image| image.contains(NO_IMAGE)) {
                if self.stuck.insert(uid.clone()) {
                    changed.push((name, uid, waiting("ImagePullBackOff")));
                }
                continue;
            }
            let (Some(password), Some(login)) = (self.password_of(&name), self.login(pod)) else { continue };
            let address = free_address();
            let child = self.spawn(&name, &uid, &pod.namespace().unwrap(), address, &login);
            let shown = (self.front)(&name, address);
            let server = Server {
                pod: name.clone(),
                address,
                shown,
                password,
                child,
                since: now(),
                restarts: 0,
                started: false,
            };
            changed.push((name, uid.clone(), status(&server)));
            self.servers.insert(uid, server);
        }
        (changed, ended)
    }

    /// The application's password.
    fn password_of(&self, pod: &str) -> Option<String> {
        let of_secret = || self.in_secret(&format!("{}-auth", pod.rsplit_once('-')?.0), PASSWORD_KEY);
        self.password.clone().or_else(of_secret)
    }

    fn in_secret(&self, name: &str, key: &str) -> Option<String> {
        let data = self.secrets.get(name)?.data.as_ref()?;
        String::from_utf8(data.get(key)?.0.clone()).ok()
    }

    /// The lines of redis.conf about users, from the Secret that the pod mounts; none while that is not there.
    fn login(&self, pod: &Pod) -> Option<String> {
        let mut mounted = pod.spec.as_ref()?.volumes.iter().flatten().filter_map(|v| v.secret.as_ref());
        let name = mounted.next()?.secret_name.clone()?;
        if name.ends_with("-auth") {
            let password = self.password_of(&pod.name_any())?;
            return Some(format!("requirepass \"{password}\"\nmasterauth \"{password}\"\n"));
        }
        let users = self.in_secret(&name, USERS_KEY)?;
        let replica = self.in_secret(&name, REPLICA_PASSWORD_KEY)?;
        Some(format!("masteruser {REPLICA_USER}\nmasterauth \"{replica}\"\n{users}"))
    }

    fn spawn(&self, pod: &str, uid: &str, namespace: &str, address: Ipv4Addr, login: &str) -> Child {
        let set = pod.rsplit_once('-').unwrap().0;
        let name = format!("{pod}.{set}-headless.{namespace}.svc.cluster.local");
        let hosts = self.directory.path().join("hosts");
        let others: String = fs::read_to_string(&hosts)
            .unwrap()
            .lines()
            .filter(|line| !line.ends_with(&format!(" {name}")))
            .map(|line| format!("{line}\n"))
            .collect();
        // Written in place: the servers have this very file mounted.
        fs::write(&hosts, format!("{others}{address} {name}\n")).unwrap();

        let volume = self.directory.path().join(&self.volumes[uid]);
        fs::create_dir_all(&volume).unwrap();
        let dir = volume.display();
        let config = format!(
            "bind {address}\nport {REDIS_PORT}\nprotected-mode no\nreplica-announce-ip {name}\n\
             {login}dir {dir}\nlogfile {dir}/log\n\
             save 3600 1\nrepl-diskless-sync-delay 0\nreplicaof {} {}\n{}",
            PARKED.0, PARKED.1, self.config
        );
        let path: PathBuf = volume.join("redis.conf");
        fs::write(&path, config).unwrap();
        Command::new("unshare")
            .args(["--map-root-user", "--mount", "--", "setpriv", "--pdeathsig", "KILL", "--", "sh", "-c"])
            .arg(r#"mount --bind "$1" /etc/hosts && exec redis-server "$2""#)
            .arg("sh")
            .args([&hosts, &path])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap()
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the kubelets' clock; the operator's code does not read it here"
)]
fn now() -> Timestamp {
    Timestamp::now()
}

fn status(server: &Server) -> Value {
    let address = server.shown.to_string();
    let (started, since) = (server.started, server.since);
    let condition = |(type_, is): (&str, bool)| json!({"type": type_, "status": if is { "True" } else { "False" }, "lastTransitionTime": null});
    let conditions =
        [("PodScheduled", true), ("Initialized", true), ("ContainersReady", started), ("Ready", started)]
            .map(condition);
    json!({
        "phase": "Running", "podIP": address, "podIPs": [{"ip": address}],
        "conditions": conditions,
        "containerStatuses": [{
            "name": "redis", "ready": started, "started": started, "restartCount": server.restarts,
            "image": "", "imageID": "", "state": {"running": {"startedAt": since}},
        }],
    })
}

/// Status of a pod whose container cannot be started.
fn waiting(reason: &str) -> Value {
    let condition =
        |type_: &str, status: &str| json!({"type": type_, "status": status, "lastTransitionTime": null});
    json!({
        "phase": "Pending",
        "conditions": [condition("PodScheduled", "True"), condition("Ready", "False")],
        "containerStatuses": [{
            "name": "redis", "ready": false, "started": false, "restartCount": 0,
            "image": "", "imageID": "", "state": {"waiting": {"reason": reason}},
        }],
    })
}
