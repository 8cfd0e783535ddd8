//! One `RedisReplicaSet` and its servers.

use std::{
    sync::Mutex,
    time::{Duration, Instant},
};

use operator_core::api::{RedisReplicaSet, RedisReplicaSetStatus, status::InstanceStatus};
use serde_json::{Value, json};

use super::{
    PATIENCE, Watch,
    cluster::OPERATOR_NAMESPACE,
    get, kubectl_in, kubectl_with, list, text,
    wait::{WatchEnded, ask_until},
};

/// The Redis image that every local cluster has.
pub const IMAGE: &str = "localhost/redis:7.0.15";

/// One `RedisReplicaSet` that may or may not exist yet.
pub struct Set {
    pub namespace: String,
    pub name: String,
    /// What was taken last.
    password: Mutex<Option<String>>,
}

impl Set {
    /// A set by its name.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.to_owned(), name: name.to_owned(), password: Mutex::default() }
    }

    /// Its manifest with this spec; `image` and ephemeral storage are filled in where the spec says nothing.
    pub fn manifest(&self, mut spec: Value) -> String {
        let fields = spec.as_object_mut().unwrap();
        fields.entry("image").or_insert(json!(IMAGE));
        fields.entry("storage").or_insert(json!({"ephemeral": {}}));
        json!({
            "apiVersion": "replication.redis/v1alpha1",
            "kind": "RedisReplicaSet",
            "metadata": {"name": self.name, "namespace": self.namespace},
            "spec": spec,
        })
        .to_string()
    }

    /// `kubectl apply` of [`Self::manifest`], which must be accepted.
    pub fn apply(&self, spec: Value) {
        let manifest = self.manifest(spec);
        kubectl_with(&["apply", "-f", "-"], &manifest).unwrap_or_else(|said| panic!("{said}\n{manifest}"));
    }

    /// Applies it and waits until it is Ready.
    pub fn up(&self, spec: Value) -> Duration {
        self.apply(spec);
        self.wait_ready()
    }

    /// `kubectl patch --type=merge` of the spec.
    pub fn patch(&self, spec: &Value) {
        let patch = json!({ "spec": spec }).to_string();
        kubectl_in(&self.namespace, &["patch", "rrs", &self.name, "--type=merge", "-p", &patch]);
    }

    /// The set as the API server has it.
    pub fn get(&self) -> RedisReplicaSet {
        serde_json::from_value(get(&self.namespace, &["rrs", &self.name])).unwrap()
    }

    /// Its status.
    pub fn status(&self) -> RedisReplicaSetStatus {
        self.get().status.unwrap_or_default()
    }

    /// What happens to it from now on.
    pub fn watch(&self) -> Watch<RedisReplicaSet> {
        // As a list of one: of an object that is named, kubectl drops the first event after what it got, whatever that is.
        let name = format!("metadata.name={}", self.name);
        Watch::new(&self.namespace, &["rrs", "--field-selector", &name])
    }

    /// The same, of a watch that has begun when this returns: it misses nothing that comes after.
    pub fn begun_watch(&self) -> Watch<RedisReplicaSet> {
        let watch = self.watch();
        let first = watch.next(Instant::now() + PATIENCE);
        assert!(matches!(first, Ok(Some(_))), "cannot watch {}\n{}", self.name, self.diagnosis());
        watch
    }

    /// Waits until the status is as wanted; panics with all that a person needs to see why it did not become so.
    /// Returns that status and the time from `since` on.
    pub fn wait(
        &self,
        what: &str,
        since: Instant,
        wanted: impl Fn(&RedisReplicaSetStatus) -> bool,
    ) -> (RedisReplicaSetStatus, Duration) {
        self.wait_within(what, since, PATIENCE, |set| set.status.as_ref().is_some_and(&wanted))
    }

    /// The same with a time limit of its own, and with the whole set.
    pub fn wait_within(
        &self,
        what: &str,
        since: Instant,
        limit: Duration,
        wanted: impl Fn(&RedisReplicaSet) -> bool,
    ) -> (RedisReplicaSetStatus, Duration) {
        let until = Instant::now() + limit;
        loop {
            let watch = self.watch();
            loop {
                match watch.next(until) {
                    Ok(Some(event)) if wanted(&event.object) => {
                        return (event.object.status.unwrap_or_default(), since.elapsed());
                    }
                    Ok(Some(_)) => {}
                    Ok(None) => panic!("not within {limit:?}: {what}\n{}", self.diagnosis()),
                    Err(WatchEnded) => break,
                }
            }
            // The set does not exist, or the API server restarts.
            std::thread::sleep(Duration::from_millis(500));
            assert!(Instant::now() < until, "not within {limit:?}: {what}\n{}", self.diagnosis());
        }
    }

    /// Asks again and again until there is an answer; panics like [`Self::wait`].
    pub fn until<T>(&self, what: &str, ask: impl FnMut() -> Option<T>) -> T {
        ask_until(ask).unwrap_or_else(|| panic!("not within {PATIENCE:?}: {what}\n{}", self.diagnosis()))
    }

    /// Waits until Ready speaks of the latest spec and is True; returns how long that took.
    pub fn wait_ready(&self) -> Duration {
        self.wait_within("Ready is True", Instant::now(), PATIENCE, is_ready).1
    }

    /// Runs redis-cli commands, one a line, over one connection in this pod; returns what it printed.
    pub fn redis(&self, pod: &str, commands: &str) -> String {
        self.try_redis(pod, commands).unwrap_or_else(|said| panic!("redis-cli in {pod}: {said}"))
    }

    /// The same, or why it could not be done. With the password that was taken last; where that is not taken any more, with the one in
    /// the Secret.
    pub fn try_redis(&self, pod: &str, commands: &str) -> Result<String, String> {
        let known = self.password.lock().unwrap().clone();
        if let Some(known) = known {
            let printed = self.redis_cli(pod, commands, &known)?;
            if !printed.contains("NOAUTH") {
                return Ok(printed);
            }
        }
        let template = "go-template={{.data.password | base64decode}}";
        let secret = format!("{}-auth", self.name);
        let now = kubectl_in(&self.namespace, &["get", "secret", &secret, "-o", template]);
        *self.password.lock().unwrap() = Some(now.clone());
        self.redis_cli(pod, commands, &now)
    }

    fn redis_cli(&self, pod: &str, commands: &str, password: &str) -> Result<String, String> {
        // The password comes by standard input: in an argument everybody on the node could read it.
        let script = "IFS= read -r REDISCLI_AUTH; export REDISCLI_AUTH; exec redis-cli --no-auth-warning";
        let args = ["-n", &self.namespace, "exec", "-i", pod, "-c", "redis", "--", "sh", "-c", script];
        let printed = kubectl_with(&args, &format!("{password}\n{commands}\n"))?;
        Ok(printed.replace('\r', "").trim_end().to_owned())
    }

    /// `INFO replication` of a pod.
    pub fn info(&self, pod: &str) -> String {
        self.redis(pod, "INFO replication")
    }

    /// Name of a pod.
    pub fn pod(&self, ordinal: i32) -> String {
        format!("{}-{ordinal}", self.name)
    }

    /// DNS name of a pod.
    pub fn fqdn(&self, ordinal: i32) -> String {
        format!("{}.{}-headless.{}.svc.cluster.local", self.pod(ordinal), self.name, self.namespace)
    }

    /// The primary of record.
    pub fn primary(&self) -> String {
        self.status().primary.expect("no primary is on record").pod
    }

    /// Its pods by name.
    pub fn pods(&self) -> Vec<Value> {
        list(&self.namespace, &["pods", "-l", &format!("app.kubernetes.io/instance={}", self.name)])
    }

    /// A field of a pod by JSON pointer, as text.
    pub fn pod_field(&self, pod: &str, pointer: &str) -> String {
        text(&get(&self.namespace, &["pod", pod]), pointer)
    }

    /// Writes `count` keys `key:N` to the primary, each acknowledged by one replica at least.
    pub fn write_keys(&self, count: usize) {
        let mut commands: Vec<String> = (0..count).map(|n| format!("SET key:{n} value:{n}")).collect();
        commands.push("WAIT 1 10000".to_owned());
        let answers = self.redis(&self.primary(), &commands.join("\n"));
        let lines: Vec<&str> = answers.lines().collect();
        assert_eq!(lines.iter().filter(|line| **line == "OK").count(), count, "{answers}");
        let copies: u32 = lines.last().unwrap().parse().unwrap_or_else(|_| panic!("WAIT answered {answers}"));
        assert!(copies >= 1, "no replica acknowledged");
    }

    /// Every key of [`Self::write_keys`] is on this server with its value.
    pub fn assert_keys(&self, pod: &str, count: usize) {
        let commands: Vec<String> = (0..count).map(|n| format!("GET key:{n}")).collect();
        let answers = self.redis(pod, &commands.join("\n"));
        let wanted: Vec<String> = (0..count).map(|n| format!("value:{n}")).collect();
        assert_eq!(answers.lines().collect::<Vec<_>>(), wanted, "keys on {pod}");
    }

    /// What a person needs to see why something did not happen.
    pub fn diagnosis(&self) -> String {
        let say = |args: &[&str]| {
            let output = kubectl_with(args, "").unwrap_or_else(|said| said);
            format!("--- kubectl {}\n{output}", args.join(" "))
        };
        let (ns, name) = (self.namespace.as_str(), self.name.as_str());
        let last = format!("{name}-0");
        [
            say(&["-n", ns, "get", "rrs", name, "-o", "yaml"]),
            say(&["-n", ns, "get", "pods,pvc,sts,svc,pdb,secret,cm", "-o", "wide"]),
            say(&["-n", ns, "get", "events", "--sort-by=.lastTimestamp"]),
            say(&["-n", ns, "logs", &last, "--all-containers", "--tail=25"]),
            say(&[
                "-n",
                OPERATOR_NAMESPACE,
                "logs",
                "-l",
                "app.kubernetes.io/name=redis-operator",
                "--prefix",
                "--tail=60",
            ]),
        ]
        .join("\n")
    }
}

/// Ready is True and speaks of the latest spec.
pub fn is_ready(set: &RedisReplicaSet) -> bool {
    set.status.as_ref().is_some_and(|status| {
        status.observed_generation == set.metadata.generation && status.is("Ready", "True")
    })
}

/// Questions to a status.
pub trait Says {
    /// Whether a condition has this status.
    fn is(&self, type_: &str, status: &str) -> bool;
    /// Reason and message of a condition: `Verified: redis-0 serves; …`.
    fn why(&self, type_: &str) -> String;
    /// What it says of one pod.
    fn instance(&self, pod: &str) -> Option<&InstanceStatus>;
}

impl Says for RedisReplicaSetStatus {
    fn is(&self, type_: &str, status: &str) -> bool {
        self.conditions.iter().any(|c| c.type_ == type_ && c.status == status)
    }
    fn why(&self, type_: &str) -> String {
        let found = self.conditions.iter().find(|c| c.type_ == type_);
        found.map(|c| format!("{}: {}", c.reason, c.message)).unwrap_or_default()
    }
    fn instance(&self, pod: &str) -> Option<&InstanceStatus> {
        self.instances.iter().find(|i| i.pod == pod)
    }
}

/// A field of INFO.
pub fn field<'a>(info: &'a str, name: &str) -> &'a str {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap_or_default()
}
