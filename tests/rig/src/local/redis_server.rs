//! Real redis-server processes for tests.
//!
//! Each server has a loopback address of its own and the usual port, as pods have: whom a replica follows is a
//! question of names, and in these tests an address is the name.

use std::{
    fs,
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
    time::{Duration, Instant},
};

use redis::{ConnectionAddr, FromRedisValue, IntoConnectionInfo, RedisConnectionInfo};
use redis_node::{
    answer::{Answer, ProbeFailure},
    files::REDIS_PORT,
    password::Password,
};
use redis_operator::redis::{
    connection::Connection,
    server::{Logins, Server, Target},
};
use tempfile::TempDir;

/// How long anything may take before a test gives up on it.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Password of every server and of its replication.
pub const PASSWORD: &str = "correct horse";

/// Asks a server over a connection that nothing else holds.
///
/// # Errors
/// Why it could not be asked.
pub async fn probe(target: &Target, deadline: Duration) -> Result<(Answer, Connection), ProbeFailure> {
    Server::default().ask(target, deadline).await
}

/// One redis-server; ends with this value.
pub struct RedisServer {
    /// Its address, which is also the name that it announces.
    pub address: Ipv4Addr,
    child: Child,
    directory: TempDir,
}

impl RedisServer {
    /// Starts a server with further lines of redis.conf (a later line wins) and waits until it replies.
    pub fn start(directives: &[&str]) -> Self {
        let directory = TempDir::new().unwrap();
        let address = free_address();
        let child = spawn(&directory, address, directives);
        let server = Self { address, child, directory };
        server.wait_for_reply();
        server
    }

    /// Starts a replica of this server.
    #[must_use]
    pub fn start_replica(&self, directives: &[&str]) -> Self {
        let replicaof = format!("replicaof {} {REDIS_PORT}", self.address);
        Self::start(&[&[replicaof.as_str()], directives].concat())
    }

    /// Kills the process and starts another over the same data, with other directives.
    pub fn restart(&mut self, directives: &[&str]) {
        self.kill();
        self.child = spawn(&self.directory, self.address, directives);
        self.wait_for_reply();
    }

    /// Ends the process at once.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Its data directory.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Its process ID.
    pub fn process(&self) -> u32 {
        self.child.id()
    }

    /// Freezes the process: it keeps its connections and answers nothing.
    pub fn freeze(&self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-STOP", &pid]).status().unwrap().success());
    }

    /// The server's address and password, as the operator would ask it.
    pub fn target(&self) -> Target {
        Target {
            host: self.address.to_string(),
            address: IpAddr::V4(self.address),
            port: REDIS_PORT,
            logins: Arc::new(Logins::of_default(Password::from_bytes(PASSWORD.as_bytes()).unwrap())),
        }
    }

    /// Sends one command on a connection of its own.
    pub fn command<T: FromRedisValue>(&self, words: &[&str]) -> T {
        redis::cmd(words[0])
            .arg(&words[1..])
            .query(&mut self.client())
            .unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }

    /// An authenticated connection.
    pub fn client(&self) -> redis::Connection {
        let settings = RedisConnectionInfo::default().set_password(PASSWORD).set_skip_set_lib_name();
        let address = ConnectionAddr::Tcp(self.address.to_string(), REDIS_PORT);
        let info = address.into_connection_info().unwrap().set_redis_settings(settings);
        redis::Client::open(info).unwrap().get_connection_with_timeout(PATIENCE).unwrap()
    }

    fn wait_for_reply(&self) {
        let ping = || -> std::io::Result<()> {
            let mut stream = TcpStream::connect((self.address, REDIS_PORT))?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.write_all(b"PING\r\n")?;
            // Any reply will do: -NOAUTH and -LOADING also say that it is there.
            stream.read_exact(&mut [0])
        };
        let start = Instant::now();
        while let Err(error) = ping() {
            let log = fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
            assert!(start.elapsed() < PATIENCE, "no reply of {}: {error}\n{log}", self.address);
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        // Only our own child, by its handle. It may have been killed before: nothing to do then.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(directory: &TempDir, address: Ipv4Addr, directives: &[&str]) -> Child {
    let dir = directory.path().display();
    let config = format!(
        "bind {address}\nport {REDIS_PORT}\nreplica-announce-ip {address}\nrequirepass \"{PASSWORD}\"\n\
         masterauth \"{PASSWORD}\"\ndir {dir}\nlogfile {dir}/log\nsave \"\"\nrepl-diskless-sync-delay 0\n\
         enable-debug-command yes\n{}\n",
        directives.join("\n")
    );
    let path = directory.path().join("redis.conf");
    fs::write(&path, config).unwrap();
    Command::new("redis-server")
        .arg(&path)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("redis-server 7 or later is needed in PATH")
}

/// An address of 127.0.0.0/8 on which nobody listens at the Redis port.
pub fn free_address() -> Ipv4Addr {
    listen().0
}

/// The same, for who listens in this process. Bound once: a child that another thread starts at this moment has the
/// socket too until its program begins, and a second `bind` would find the address in use.
///
/// None is given twice in the first 64,000: one whose server is just starting again looks free, and is not. The process
/// ID keeps test processes that run at the same time apart.
pub fn listen() -> (Ipv4Addr, TcpListener) {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let [.., high, low] = std::process::id().to_be_bytes();
    for _ in 0..1000 {
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let [_, last] = (next % 250 + 2).to_be_bytes();
        let [_, block] = (next / 250).to_be_bytes();
        let address = Ipv4Addr::new(127, low | 0x80, high.wrapping_add(block), last);
        if let Ok(listener) = TcpListener::bind((address, REDIS_PORT)) {
            return (address, listener);
        }
    }
    panic!("no free loopback address");
}
