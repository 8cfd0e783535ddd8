//! The agent as it runs in a pod, with real Redis servers (`rig::local::pods`).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests are test code too"
)]

use std::{
    fs,
    io::Write as _,
    net::SocketAddr,
    process::Command,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use redis_agent::{
    ask::Resolve,
    start::choose,
    start_rule::{Own, Reason, Start},
};
use redis_node::{
    files::{AGENT_PASSWORD_KEY, REPLICA_PASSWORD_KEY, USERS_KEY},
    login::{AGENT_USER, Login},
    password::Password,
};
use rig::local::pods::{
    Container, DOMAIN, Network, PASSWORD, Pod, agent, fqdn, kill, mode, said, wait_until,
};

/// "At once": far below any wait, with room for a busy machine.
const AT_ONCE: Duration = Duration::from_secs(2);

/// A primary: started alone, promoted as the operator would.
fn primary(pod: &Pod) -> Container {
    let container = pod.start_and_wait(&[]);
    pod.promote();
    container
}

#[test]
fn a_set_comes_up_step_by_step() {
    let network = Network::new();
    let first = network.pod(0);
    let container = first.start_and_wait(&[]);
    assert_eq!(
        container.steps(),
        [
            format!("this is {}; other members: none", fqdn(0)),
            "parked: there is no other member to follow; Redis keeps its data and refuses writes until the operator \
             gives it a role"
                .to_owned(),
            "starting Redis: replicaof 127.0.0.1 1".to_owned(),
        ]
    );
    assert!(first.redis("SET key value").starts_with("READONLY"));
    first.promote();
    assert_eq!(first.redis("SET key value"), "OK");

    let second = network.pod(1);
    second.members(&[0, 1]);
    let container = second.start_and_wait(&[]);
    assert_eq!(
        container.steps(),
        [
            format!("this is {}; other members: {}", fqdn(1), fqdn(0)),
            format!("asked {}: serves as primary", fqdn(0)),
            format!("starting Redis: replicaof {} 6379", fqdn(0)),
        ]
    );
    wait_until("the link is up", || second.info("master_link_status") == "up");
    assert_eq!(second.info("master_host"), fqdn(0));
    assert_eq!(second.redis("GET key"), "value");
    assert!(second.redis("SET key other").starts_with("READONLY"));
    let listed = first.info("slave0");
    assert!(listed.starts_with(&format!("ip={},port=6379,", fqdn(1))), "{listed}");
}

#[test]
fn redis_takes_the_agents_place_and_the_password_stays_hidden() {
    let network = Network::new();
    let pod = network.pod(0);
    let container = pod.start_and_wait(&[]);
    let process = |file: &str| fs::read(format!("/proc/{}/{file}", container.pid())).unwrap();
    assert_eq!(process("comm"), b"redis-server\n");
    let shows = |bytes: &[u8]| bytes.windows(PASSWORD.len()).any(|window| window == PASSWORD);
    assert!(!shows(&process("cmdline")) && !shows(&process("environ")) && !shows(container.log().as_bytes()));
    let conf = pod.path("run/redis.conf");
    assert_eq!(mode(&conf), 0o600);
    assert!(shows(&fs::read(&conf).unwrap()));
    assert_eq!(mode(&pod.path("run/agent-password")), 0o600);
    assert_eq!(fs::read_dir(pod.path("run")).unwrap().count(), 2, "nothing else is left there");
}

#[test]
fn waits_until_the_name_resolves_and_the_primary_answers() {
    let network = Network::new();
    let (first, second) = (network.unpublished_pod(0), network.pod(1));
    second.members(&[0, 1]);
    let container = second.start(&["--wait", "20"]);
    container.logged(&format!("asked {}: name does not resolve yet", fqdn(0)));
    container.logged(&format!("waiting for {} (1 s of 20 s)", fqdn(0)));
    network.publish(0);
    container.logged(&format!("asked {}: connection refused", fqdn(0)));
    let _primary = primary(&first);
    container.logged(&format!("asked {}: serves as primary", fqdn(0)));
    container.logged(&format!("starting Redis: replicaof {} 6379", fqdn(0)));
}

#[test]
fn parks_at_once_when_all_answer_and_none_serves() {
    let network = Network::new();
    let pods = [0, 1, 2].map(|ordinal| network.pod(ordinal));
    let _primary = primary(&pods[0]);
    let parked = pods[1].start_and_wait(&[]);
    assert_eq!(pods[1].redis(&format!("REPLICAOF {} 6379", fqdn(0))), "OK");
    assert_eq!(pods[0].redis("REPLICAOF 127.0.0.1 1"), "OK");
    pods[2].members(&[0, 1, 2]);
    let container = pods[2].start(&[]);
    let took = container.logged("starting Redis: replicaof 127.0.0.1 1");
    println!("parked after {took:?}");
    assert!(took < AT_ONCE, "{took:?}");
    let log = container.log();
    for line in [
        format!("asked {}: is parked, does not serve", fqdn(0)),
        format!("asked {}: follows {}, does not serve", fqdn(1), fqdn(0)),
        "parked: every other member has answered and none serves as primary;".to_owned(),
    ] {
        assert!(log.contains(&line), "{line}\n{log}");
    }
    drop(parked);
}

#[test]
fn parks_after_the_wait_when_a_peer_is_silent() {
    let network = Network::new();
    let pods = [0, 1, 2].map(|ordinal| network.pod(ordinal));
    let frozen = primary(&pods[0]);
    frozen.signal("STOP");
    let _parked = pods[1].start_and_wait(&[]);
    pods[2].members(&[0, 1, 2]);
    let container = pods[2].start(&["--wait", "3"]);
    let took = container.logged("starting Redis: replicaof 127.0.0.1 1");
    assert!(took >= Duration::from_secs(3) && took < Duration::from_secs(3) + AT_ONCE, "{took:?}");
    container.logged(&format!("parked: no primary found in time; {}: no answer within 1s;", fqdn(0)));
}

#[test]
fn a_silent_peer_does_not_hold_up_following() {
    let network = Network::new();
    let pods = [0, 1, 2].map(|ordinal| network.pod(ordinal));
    let _primary = primary(&pods[0]);
    let frozen = pods[1].start_and_wait(&[]);
    frozen.signal("STOP");
    pods[2].members(&[0, 1, 2]);
    let container = pods[2].start(&["--wait", "30"]);
    let took = container.logged(&format!("starting Redis: replicaof {} 6379", fqdn(0)));
    assert!(took < Duration::from_secs(1) + AT_ONCE, "{took:?}");
}

#[test]
fn parks_when_two_serve() {
    let network = Network::new();
    let pods = [0, 1, 2].map(|ordinal| network.pod(ordinal));
    let _primaries = [primary(&pods[0]), primary(&pods[1])];
    pods[2].members(&[0, 1, 2]);
    let container = pods[2].start(&[]);
    container.logged(&format!("parked: more than one member serves: {}, {};", fqdn(0), fqdn(1)));
    container.logged("starting Redis: replicaof 127.0.0.1 1");
}

#[test]
fn does_not_follow_a_stranger_behind_a_peers_name() {
    let network = Network::new();
    let (other, pod) = (network.pod(0), network.pod(1));
    let _primary = primary(&other);
    assert_eq!(other.redis("CONFIG SET replica-announce-ip db-0.elsewhere"), "OK");
    pod.members(&[0, 1]);
    let container = pod.start(&["--wait", "1"]);
    container
        .logged(&format!("asked {}: the server at this address calls itself \"db-0.elsewhere\"", fqdn(0)));
    container.logged("starting Redis: replicaof 127.0.0.1 1");
}

#[test]
fn says_that_a_peer_refuses_the_password() {
    let network = Network::new();
    let (first, second) = (network.pod(0), network.pod(1));
    let _primary = primary(&first);
    second.members(&[0, 1]);
    second.write("password", b"another");
    let container = second.start(&["--wait", "1"]);
    container.logged(&format!("asked {}: password refused: WRONGPASS", fqdn(0)));
    container.logged("starting Redis: replicaof 127.0.0.1 1");
    assert!(!container.log().contains("another"));
}

#[test]
fn a_restarted_server_is_parked_keeps_its_data_and_harms_nobody() {
    let network = Network::new();
    let (first, second) = (network.pod(0), network.pod(1));
    let mut container = primary(&first);
    assert_eq!(first.redis("SET old value"), "OK");
    container.signal("TERM");
    assert_eq!(container.ended().0.code(), Some(0));
    let _second = primary(&second);
    assert_eq!(second.redis("SET own value"), "OK");

    // The member list still names nobody else: stale lists can only park.
    let _first = first.start_and_wait(&[]);
    assert_eq!(first.redis("GET old"), "value");
    assert!(first.redis("SET new value").starts_with("READONLY"));
    // Whoever dials it is turned away and keeps what it has.
    assert_eq!(second.redis(&format!("REPLICAOF {} 6379", fqdn(0))), "OK");
    wait_until("the parked server has turned the other away", || {
        first.info("cmdstat_psync").contains("failed_calls=") && second.info("master_link_status") == "down"
    });
    assert_eq!((second.redis("GET own"), second.redis("DBSIZE")), ("value".to_owned(), "1".to_owned()));
}

/// A former primary comes back over data that its successor never had: following would delete it without a trace.
#[test]
fn parks_over_data_that_the_primary_never_had() {
    let network = Network::new();
    let (first, second) = (network.pod(0), network.pod(1));
    let [mut primary, _replica] = linked(&first, &second);
    // Whoever takes over now has all of it up to here.
    second.promote();
    let taken_over: i64 = second.info("second_repl_offset").parse().unwrap();
    assert_eq!(first.redis("SET late value"), "OK");
    let end: i64 = first.info("master_repl_offset").parse().unwrap();
    primary.signal("TERM");
    assert_eq!(primary.ended().0.code(), Some(0), "it has saved");

    first.members(&[0, 1]);
    let container = first.start_and_wait(&[]);
    let bytes = end - (taken_over - 1);
    assert!(bytes > 0);
    container.logged(&format!(
        "parked: the data here has {bytes} bytes that {}, which took over, does not have; before they are given up, the \
         operator publishes that",
        fqdn(1)
    ));
    assert_eq!(first.redis("GET late"), "value");
    assert_eq!(first.info("master_repl_offset").parse(), Ok(end), "the operator can see it too");

    // Once it has followed, its data is the other's.
    assert_eq!(first.redis(&format!("REPLICAOF {} 6379", fqdn(1))), "OK");
    wait_until("the link is up", || first.info("master_link_status") == "up");
    assert_eq!(first.redis("GET late"), "");
}

#[test]
fn every_byte_of_a_password_reaches_redis_and_its_replicas() {
    let network = Network::new();
    let (first, second) = (network.pod(0), network.pod(1));
    let bytes: Vec<u8> = (0..=u8::MAX).collect();
    // Also the quotes at both ends, and a newline that is not the last byte.
    let password = [b"\"'\n #".as_slice(), &bytes, b"\\'\""].concat();
    first.write("password", &password);
    second.write("password", &password);
    let _primary = primary(&first);
    second.members(&[0, 1]);
    let _replica = second.start_and_wait(&[]);
    wait_until("the link is up", || second.info("master_link_status") == "up");
    assert_eq!(second.probe("readiness"), (true, "answers +PONG".to_owned()));
}

#[test]
fn ends_soon_after_sigterm_as_pid_1() {
    let network = Network::new();
    let pod = network.unpublished_pod(1);
    pod.members(&[0, 1]);
    // Signals from outside reach PID 1 of a namespace only if it handles them: as in a container.
    let mut command = pod.command("unshare");
    command.args(["--pid", "--fork", "--kill-child"]).arg(agent()).args(pod.start_args(&["--wait", "600"]));
    let mut container = Container::spawn(command);
    container.logged("waiting for");
    let children = format!("/proc/{0}/task/{0}/children", container.pid());
    let agent: u32 = fs::read_to_string(children).unwrap().trim().parse().unwrap();
    let began = Instant::now();
    kill(agent, "TERM");
    let (status, _) = container.ended();
    println!("ended {:?} after SIGTERM", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(1));
    assert_eq!(status.code(), Some(143));
}

#[test]
fn refuses_to_start_with_a_clear_reason() {
    let network = Network::new();
    let pod = network.pod(0);
    let refused = |why: &str| {
        let mut container = pod.start(&[]);
        let (status, _) = container.ended();
        assert_eq!(status.code(), Some(1));
        container.logged(why);
    };
    pod.write("password", b"\n");
    refused("is empty: Redis would run without a password");
    for key in [REPLICA_PASSWORD_KEY, AGENT_PASSWORD_KEY] {
        pod.write("password", PASSWORD);
        fs::remove_file(pod.path("internal").join(key)).unwrap();
        refused("Redis does not start until the operator's Secret is there: cannot read the password file");
    }
    pod.write("password", PASSWORD);
    // Redis would let everybody in.
    fs::write(pod.path("internal").join(USERS_KEY), "user redis-operator on nopass +@all\n").unwrap();
    refused("Redis does not start until the operator's Secret is mended: the users lack the user default");
    pod.write("password", PASSWORD);
    pod.write("redis.conf", b"user default on nopass ~* &* +@all\n");
    refused("line 1 of the configuration: user would undo what the operator sets");
    fs::remove_file(pod.path("redis.conf")).unwrap();
    refused("redis.conf: No such file or directory (os error 2); check that the volume is mounted there");
}

#[test]
fn takes_valkey_where_there_is_no_redis_and_else_names_the_image() {
    let network = Network::new();
    let pod = network.pod(0);
    let bin = pod.path("bin");
    let start = || {
        let mut command = pod.command(agent());
        command.args(pod.start_args(&[])).env("PATH", &bin);
        // The programs that lead into the namespace are found by the test's own PATH.
        let (setpriv, nsenter) = ("/usr/bin/setpriv", "/usr/bin/nsenter");
        let mut absolute = Command::new(setpriv);
        absolute.args(command.get_args().map(|arg| if arg == "nsenter" { nsenter.as_ref() } else { arg }));
        absolute.env("PATH", &bin);
        Container::spawn(absolute)
    };
    let mut container = start();
    assert_eq!(container.ended().0.code(), Some(1));
    container.logged("found neither redis-server nor valkey-server in PATH; spec.image must be");

    fs::write(bin.join("valkey-server"), "#!/bin/sh\necho valkey with $1\n").unwrap();
    fs::set_permissions(bin.join("valkey-server"), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .unwrap();
    let container = start();
    container.logged(&format!("valkey with {}", pod.path("run/redis.conf").display()));
}

#[test]
fn installs_itself() {
    let dir = tempfile::TempDir::new().unwrap();
    let install = || Command::new(agent()).arg("install").arg(dir.path()).output().unwrap();
    let installed = dir.path().join("agent");
    // Twice: an init container may run again while the first copy is in use.
    for _ in 0..2 {
        assert!(install().status.success());
        assert_eq!(mode(&installed), 0o755);
        assert!(fs::read(&installed).unwrap() == fs::read(agent()).unwrap());
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing else is left there");

    let output = Command::new(agent()).args(["install", "/nonexistent"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("cannot install the agent as /nonexistent/agent"), "{}", said(&output));
}

#[test]
fn help_names_every_flag_and_its_default() {
    let output = Command::new(agent()).args(["start", "--help"]).output().unwrap();
    let help = said(&output);
    for text in [
        "--pod",
        "--domain",
        "/etc/redis-operator/config/redis.conf",
        "/etc/redis-operator/record/members",
        "/etc/redis-operator/internal",
        "/run/redis-operator",
        "/data",
        "default: 4",
    ] {
        assert!(help.contains(text), "{text}\n{help}");
    }
}

#[test]
fn probes_of_a_healthy_a_parked_and_a_stopped_server() {
    let network = Network::new();
    let pod = network.pod(0);
    for check in ["startup", "liveness", "readiness"] {
        assert_eq!(pod.probe(check), (false, "connection refused".to_owned()));
    }
    let mut container = pod.start_and_wait(&[]);
    for check in ["startup", "readiness"] {
        assert_eq!(pod.probe(check), (true, "answers +PONG".to_owned()), "parked");
    }
    let (alive, seen) = pod.probe("liveness");
    assert!(alive && seen.starts_with("answers -NOAUTH"), "{seen}");
    // -MASTERDOWN: nothing to read here, but nothing that a restart would mend.
    assert_eq!(pod.redis("CONFIG SET replica-serve-stale-data no"), "OK");
    let (ready, seen) = pod.probe("readiness");
    assert!(ready && seen.starts_with("answers -MASTERDOWN"), "{seen}");

    container.signal("STOP");
    for (check, seconds) in [("liveness", 5), ("readiness", 2), ("startup", 2)] {
        let began = Instant::now();
        assert_eq!(pod.probe(check), (false, format!("no answer within {seconds}s")));
        let took = began.elapsed();
        println!("{check} of a stopped server: {took:?}");
        assert!(took >= Duration::from_secs(seconds) && took < Duration::from_secs(seconds + 1), "{took:?}");
    }
    container.kill();
}

#[test]
fn probes_of_a_loading_server() {
    let network = Network::new();
    let pod = network.pod(0);
    let mut container = primary(&pod);
    assert_eq!(pod.redis("DEBUG POPULATE 2000"), "OK");
    assert_eq!(pod.redis("SAVE"), "OK");
    container.kill();
    // 2000 keys at 5 ms each; replies every 1 KiB that is loaded.
    pod.write("redis.conf", b"key-load-delay 5000\nloading-process-events-interval-bytes 1024\n");
    let _loading = pod.start_and_wait(&[]);
    for check in ["startup", "readiness"] {
        let (ready, seen) = pod.probe(check);
        assert!(!ready && seen.starts_with("loads its dataset: -LOADING"), "{seen}");
    }
    assert!(pod.probe("liveness").0);
    // A peer that loads its dataset has answered: it does not serve.
    let other = network.pod(1);
    other.members(&[0, 1]);
    let container = other.start(&["--wait", "600"]);
    container.logged(&format!("asked {}: is parked, does not serve", fqdn(0)));
    container.logged("starting Redis: replicaof 127.0.0.1 1");
}

#[test]
fn probes_of_a_busy_server() {
    let network = Network::new();
    let pod = network.pod(0);
    pod.write("redis.conf", b"busy-reply-threshold 100\n");
    let _primary = primary(&pod);
    let script = thread::scope(|scope| {
        let script = scope.spawn(|| pod.redis("EVAL \"while true do end\" 0"));
        wait_until("the server is busy", || pod.probe("readiness").1.contains("-BUSY"));
        let seen = [pod.probe("readiness"), pod.probe("startup"), pod.probe("liveness")];
        pod.redis("SCRIPT KILL");
        script.join().unwrap();
        seen
    });
    for (passed, seen) in &script {
        assert!(passed, "{seen}");
    }
    assert!(script[0].1.starts_with("answers -BUSY"), "{}", script[0].1);
}

#[test]
fn probes_where_the_password_has_changed_or_no_client_is_accepted() {
    let network = Network::new();
    let pod = network.pod(0);
    let _primary = primary(&pod);
    pod.write("password", b"the next one");
    assert_eq!(pod.probe("readiness"), (true, "answers, but refuses the mounted password".to_owned()));
    // Regression: a Secret whose password was emptied took every serving Redis out of its Services.
    pod.write("password", b"");
    let (passed, seen) = pod.probe("readiness");
    assert!(passed && seen.starts_with("answers, but"), "{seen}");
    pod.write("password", PASSWORD);
    assert_eq!(pod.redis("CONFIG SET maxclients 1"), "OK");
    let mut holder = pod
        .command("redis-cli")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    wait_until("the only place is taken", || {
        // redis-cli dials again with each command for as long as somebody else, the probe included, has the place.
        holder.stdin.as_mut().unwrap().write_all(b"PING\n").unwrap();
        pod.probe("liveness").1.contains("max number of clients")
    });
    for check in ["liveness", "readiness"] {
        assert_eq!(pod.probe(check), (true, "answers -ERR max number of clients reached".to_owned()));
    }
    drop(holder.stdin.take());
    holder.wait().unwrap();
}

/// The preStop hook's end: its one line, and how long it took.
fn stopped(pod: &Pod, hook: &mut Container) -> (String, Duration) {
    let (status, took) = hook.ended();
    assert_eq!(status.code(), Some(0));
    hook.logged("preStop");
    let line = hook.log();
    assert_eq!(line.lines().count(), 1, "{line}");
    assert_eq!(fs::read_to_string(pod.path("log")).unwrap(), line, "the log has the same line");
    (line, took)
}

/// A primary and a replica whose link is up, as pods 0 and 1.
fn linked(first: &Pod, second: &Pod) -> [Container; 2] {
    let containers = [primary(first), {
        second.members(&[0, 1]);
        second.start_and_wait(&[])
    }];
    wait_until("the link is up", || second.info("master_link_status") == "up");
    containers
}

/// Waits until the hook has asked a few times, and has not ended.
fn waits(pod: &Pod, hook: &Container) {
    let asked = || pod.info("total_connections_received").parse::<u32>().unwrap();
    let before = asked();
    // Each of our own questions is a connection too.
    let mut own = 0;
    wait_until("the hook has asked a few times", || {
        own += 1;
        asked() > before + own + 5
    });
    assert_eq!(hook.log(), "");
}

#[test]
fn prestop_ends_at_once_where_there_is_nothing_to_move() {
    let network = Network::new();
    let (first, second) = (network.pod(0), network.pod(1));
    let ends = |pod: &Pod, why: &str| {
        let (line, took) = stopped(pod, &mut pod.prestop(&[]));
        assert!(line.contains(why), "{line}");
        println!("{line}");
        assert!(took < AT_ONCE, "{took:?}");
    };
    ends(&first, "cannot be asked for its role: connection refused");
    let parked = first.start_and_wait(&[]);
    ends(&first, "this Redis is not the primary, nothing to wait for");
    first.promote();
    ends(&first, "no replica is linked that could take over, nothing to wait for");
    second.members(&[0, 1]);
    let _second = second.start_and_wait(&[]);
    wait_until("the link is up", || second.info("master_link_status") == "up");
    ends(&second, "this Redis is not the primary, nothing to wait for");
    fs::rename(first.path("internal"), first.path("before")).unwrap();
    fs::rename(first.path("run"), first.path("run-before")).unwrap();
    ends(&first, "cannot be asked for its role: cannot read the password file");
    fs::rename(first.path("before"), first.path("internal")).unwrap();
    parked.signal("STOP");
    ends(&first, "cannot be asked for its role: no answer within 1s");
}

/// Regression: with a changed, emptied or missing Secret a primary was drained without a handover.
#[test]
fn prestop_waits_whatever_became_of_the_mounted_password() {
    let network = Network::new();
    let (first, second) = (network.pod(0), network.pod(1));
    let _containers = linked(&first, &second);
    for (directory, password) in [("changed", &b"the next one"[..]), ("emptied", b"")] {
        fs::create_dir(first.path(directory)).unwrap();
        fs::write(first.path(directory).join(AGENT_PASSWORD_KEY), password).unwrap();
    }
    for mounted in ["missing", "emptied", "changed"] {
        let hook = first.prestop_with(mounted, &[]);
        waits(&first, &hook);
    }
    // Changed in the running server too.
    let changed = format!("ACL SETUSER {AGENT_USER} resetpass \">the next one\"");
    assert_eq!(first.redis(&changed), "OK");
    assert_eq!(first.redis("CONFIG SET requirepass \"the next one\""), "OK");
    first.write("password", b"the next one");
    let mut hook = first.prestop(&[]);
    waits(&first, &hook);
    assert_eq!(first.redis(&format!("FAILOVER TO {} 6379 TIMEOUT 10000", fqdn(1))), "OK");
    let (line, _) = stopped(&first, &mut hook);
    assert!(line.contains("the primary was moved away from here"), "{line}");
}

#[test]
fn prestop_waits_until_the_primary_is_moved() {
    let network = Network::new();
    let (first, second) = (network.pod(0), network.pod(1));
    let _containers = linked(&first, &second);
    let mut hook = first.prestop(&[]);
    waits(&first, &hook);
    assert_eq!(first.redis(&format!("FAILOVER TO {} 6379 TIMEOUT 10000", fqdn(1))), "OK");
    let moved = Instant::now();
    let (line, _) = stopped(&first, &mut hook);
    println!("{line}ended {:?} after FAILOVER", moved.elapsed());
    assert!(line.contains("the primary was moved away from here"), "{line}");
    assert!(moved.elapsed() < AT_ONCE);
    assert_eq!((first.info("role"), second.info("role")), ("slave".to_owned(), "master".to_owned()));
}

/// Until then a writer who waits for one replica would wait for this one, which is about to end.
#[test]
fn prestop_of_a_moved_primary_waits_until_another_replica_follows_the_new_one() {
    let network = Network::new();
    let (first, second, third) = (network.pod(0), network.pod(1), network.pod(2));
    let _containers = linked(&first, &second);
    third.members(&[0, 1, 2]);
    let _third = third.start_and_wait(&[]);
    wait_until("both replicas are linked", || first.info("connected_slaves") == "2");
    let mut hook = first.prestop(&[]);
    waits(&first, &hook);
    assert_eq!(first.redis(&format!("FAILOVER TO {} 6379 TIMEOUT 10000", fqdn(1))), "OK");
    wait_until("the first follows the second", || first.info("master_link_status") == "up");
    waits(&second, &hook);
    assert_eq!(third.redis(&format!("REPLICAOF {} 6379", fqdn(1))), "OK");
    let told = Instant::now();
    let (line, _) = stopped(&first, &mut hook);
    println!("{line}ended {:?} after REPLICAOF", told.elapsed());
    assert!(line.contains("moved away from here, and another replica follows the new one"), "{line}");
    assert!(told.elapsed() < AT_ONCE, "{:?}", told.elapsed());
    assert_eq!(second.info("connected_slaves"), "2");
}

#[test]
fn prestop_waits_no_longer_than_told_and_changes_nothing() {
    let network = Network::new();
    let (first, second) = (network.pod(0), network.pod(1));
    let [primary, _replica] = linked(&first, &second);
    let mut hook = first.prestop(&["--wait", "3"]);
    waits(&first, &hook);
    // A slow command is no reason to end.
    primary.signal("STOP");
    thread::sleep(Duration::from_millis(1500));
    primary.signal("CONT");
    let (line, took) = stopped(&first, &mut hook);
    assert!(line.contains("the primary was not moved away in time"), "{line}");
    assert!(took >= Duration::from_secs(3) && took < Duration::from_secs(3) + AT_ONCE, "{took:?}");
    assert_eq!(
        (first.info("role"), second.info("master_link_status")),
        ("master".to_owned(), "up".to_owned())
    );
}

#[test]
fn prestop_ends_when_the_last_replica_goes() {
    let network = Network::new();
    let (first, second) = (network.pod(0), network.pod(1));
    let [_primary, mut replica] = linked(&first, &second);
    let mut hook = first.prestop(&[]);
    waits(&first, &hook);
    replica.kill();
    let gone = Instant::now();
    let (line, _) = stopped(&first, &mut hook);
    assert!(line.contains("no replica is linked that could take over"), "{line}");
    assert!(gone.elapsed() < AT_ONCE, "{:?}", gone.elapsed());
}

/// Experiment E30: the old primary would make even a parked Redis primary over older data.
#[test]
fn does_not_start_while_a_peer_hands_over_to_this_pod() {
    let network = Network::new();
    let (first, second) = (network.pod(0), network.pod(1));
    let [primary, mut target] = linked(&first, &second);
    assert_eq!(first.redis("SET late value"), "OK");
    wait_until("the replica has acknowledged it", || {
        first.info("slave0").contains(&format!("offset={},", first.info("master_repl_offset")))
    });
    target.signal("STOP");
    assert_eq!(first.redis(&format!("FAILOVER TO {} 6379 TIMEOUT 1000", fqdn(1))), "OK");
    wait_until("the handover runs", || first.info("master_failover_state") == "failover-in-progress");
    target.kill();

    let container = second.start(&["--wait", "1"]);
    container.logged(&format!("asked {}: a FAILOVER runs, it hands its role over to {}", fqdn(0), fqdn(1)));
    let held = |seconds| {
        container.logged(&format!(
            "not starting yet ({seconds} s): {} hands its role over to this pod, whose data may be older",
            fqdn(0)
        ));
    };
    held(2);
    // Who falls silent in the middle of it goes on with it later.
    primary.signal("STOP");
    held(5);
    primary.signal("CONT");
    held(6);
    assert!(!container.log().contains("starting Redis:"), "{}", container.log());

    assert_eq!(first.redis("FAILOVER ABORT"), "OK");
    container.logged(&format!("starting Redis: replicaof {} 6379", fqdn(0)));
    wait_until("the Redis replies", || second.probe("liveness").0);
    wait_until("the link is up", || second.info("master_link_status") == "up");
    assert_eq!((first.info("role"), first.redis("GET late")), ("master".to_owned(), "value".to_owned()));
    assert_eq!(second.redis("GET late"), "value");
}

/// Regression: the pod that comes at once after one that was deleted by force, on the same node and volume.
#[test]
fn no_second_redis_starts_over_the_same_files() {
    let network = Network::new();
    let pod = network.pod(0);
    let mut first = primary(&pod);
    assert_eq!(pod.redis("SET key value"), "OK");
    let second = pod.start(&[]);
    second.logged("another Redis still runs over ");
    thread::sleep(Duration::from_millis(500));
    assert!(!second.log().contains("starting Redis"), "{}", second.log());
    assert_eq!(pod.redis("SET key later"), "OK", "the first goes on");
    // Its end is all that is waited for, however it comes.
    first.kill();
    second.logged("starting Redis: replicaof 127.0.0.1 1");
    wait_until("the second Redis replies", || pod.probe("liveness").0);
}

/// Regression: switched on by hand in a set that does not have them, append-only files kept the pod from starting.
#[test]
fn append_only_files_that_were_switched_on_by_hand_are_loaded_where_they_are_newer() {
    let network = Network::new();
    let pod = network.pod(0);
    let mut container = primary(&pod);
    assert_eq!((pod.redis("SET saved 1"), pod.redis("SAVE")), ("OK".into(), "OK".into()));
    assert_eq!(pod.redis("CONFIG SET appendonly yes"), "OK");
    wait_until("it is rewritten", || pod.info("aof_rewrite_in_progress") == "0");
    assert_eq!(pod.redis("CONFIG SET appendfsync always"), "OK");
    thread::sleep(Duration::from_millis(50));
    assert_eq!(pod.redis("SET appended 1"), "OK");
    container.kill();
    let mut container = pod.start_and_wait(&[]);
    container.logged("the volume holds append-only files, and no dump.rdb that is newer");
    assert_eq!((pod.redis("GET saved"), pod.redis("GET appended")), ("1".into(), "1".into()));
    // As the operator sets it back.
    assert_eq!(pod.redis("CONFIG SET appendonly no"), "OK");
    pod.promote();
    thread::sleep(Duration::from_millis(50));
    assert_eq!((pod.redis("SET later 1"), pod.redis("SAVE")), ("OK".into(), "OK".into()));
    container.kill();
    let container = pod.start_and_wait(&[]);
    container.logged("append-only files that are older than dump.rdb");
    assert_eq!((pod.redis("GET appended"), pod.redis("GET later")), ("1".into(), "1".into()));
}

/// Regression: the memory that a peer's endless answer takes is that of Redis.
#[test]
fn a_peer_that_answers_without_end_is_hung_up_on() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let server = thread::spawn(move || {
        use std::io::{Read as _, Write as _};
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 64]);
        let mut sent = 0_usize;
        let mut next: &[u8] = b"$4000000000\r\n";
        while let Ok(bytes) = stream.write(next) {
            sent += bytes;
            next = &[b'x'; 8192];
        }
        sent
    });
    let output = Command::new(agent()).args(["probe", "liveness", "--port", &port]).output().unwrap();
    let sent = server.join().unwrap();
    assert_eq!(output.status.code(), Some(1));
    // What was read, and what the sockets' buffers hold.
    assert!((1 << 20..16 << 20).contains(&sent), "{sent} bytes: {}", said(&output));
}

#[test]
fn an_http_server_is_no_redis() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let server = thread::spawn(move || {
        use std::io::{Read as _, Write as _};
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 64]);
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
    });
    let output = Command::new(agent()).args(["probe", "liveness", "--port", &port]).output().unwrap();
    server.join().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(said(&output), "not an answer of a Redis server: no valid reply in the Redis protocol");
}

#[test]
fn a_lookup_that_blocks_holds_up_neither_parking_nor_the_other_peers() {
    // Longer than the test: as a DNS server that never answers.
    let resolve: Arc<Resolve> = Arc::new(|host: &str| -> std::io::Result<Vec<SocketAddr>> {
        if host.starts_with("blocked") {
            thread::sleep(Duration::from_secs(60));
        }
        Ok(vec![SocketAddr::from(([127, 0, 0, 1], 1))])
    });
    let peers = [format!("blocked.{DOMAIN}"), format!("refused.{DOMAIN}")];
    let agent = Arc::new(Login::new(AGENT_USER, Password::from_bytes(PASSWORD).unwrap()));
    let began = Instant::now();
    let mut log = Vec::new();
    let own = Own { host: "me", pod: "me", data: None, record: None, starts_parked: false };
    let start = choose(own, &peers, &agent, &resolve, Duration::from_secs(2), &mut |line| {
        log.push(line.to_owned());
    });
    let took = began.elapsed();
    assert!(took >= Duration::from_secs(2) && took < Duration::from_secs(2) + AT_ONCE, "{took:?}");
    let Start::Park { reason: reason @ Reason::Unsettled(_) } = start else { panic!("{start:?}") };
    assert_eq!(
        reason.to_string(),
        format!(
            "no primary found in time; {}: no answer within 1s; {}: connection refused",
            peers[0], peers[1]
        )
    );
    assert!(log.contains(&format!("waiting for {}, {} (1 s of 2 s)", peers[0], peers[1])), "{log:#?}");
}
