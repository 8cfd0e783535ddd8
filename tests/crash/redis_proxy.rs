//! Stands between the operator and each Redis: hands every command on, and knows which ones change something.
//!
//! A pod's status shows the proxy's address, and its DNS name stands for the server's own: the operator, which dials
//! what the status shows, comes through here; the servers among themselves and the test's clients do not.

use std::{
    net::Ipv4Addr,
    sync::{Arc, Mutex},
};

use redis_node::files::REDIS_PORT;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::{AbortHandle, JoinSet},
};

use crate::trap::{Moment, Trap};
use rig::{local::kubelet::Front, local::redis_server::listen};

/// Commands that change nothing but their own connection, by their first words. Whatever is not here counts.
const READING: [&str; 12] = [
    "AUTH",
    "INFO",
    "CONFIG GET",
    "ACL GETUSER",
    "PING",
    "ROLE",
    "CLIENT LIST",
    "CLIENT INFO",
    "CLIENT ID",
    "CLIENT SETNAME",
    // Of nothing, to a key that is not there.
    "SETRANGE",
    ACKNOWLEDGE,
];

/// Makes a replica tell its primary how far it is; has no answer.
const ACKNOWLEDGE: &str = "REPLCONF GETACK";

/// The proxies of one run; they end with this value.
#[derive(Default)]
pub struct RedisProxies(Mutex<Vec<AbortHandle>>);

impl Drop for RedisProxies {
    fn drop(&mut self) {
        for proxy in self.0.lock().unwrap().iter() {
            proxy.abort();
        }
    }
}

/// A proxy for each server that is started.
pub fn front(proxies: &Arc<RedisProxies>, trap: &Arc<Trap>) -> Front {
    let (proxies, trap) = (Arc::clone(proxies), Arc::clone(trap));
    Box::new(move |pod, server| {
        let (address, listener) = listen();
        listener.set_nonblocking(true).unwrap();
        let listener = TcpListener::from_std(listener).unwrap();
        let serving = tokio::spawn(serve(listener, server, pod.to_owned(), Arc::clone(&trap)));
        proxies.0.lock().unwrap().push(serving.abort_handle());
        address
    })
}

async fn serve(listener: TcpListener, server: Ipv4Addr, pod: String, trap: Arc<Trap>) {
    let mut connections = JoinSet::new();
    while let Ok((operator, _)) = listener.accept().await {
        connections.spawn(hand_on(operator, server, pod.clone(), Arc::clone(&trap)));
        while connections.try_join_next().is_some() {}
    }
}

/// One connection; it ends when either end closes it.
async fn hand_on(mut operator: TcpStream, server: Ipv4Addr, pod: String, trap: Arc<Trap>) {
    let Ok(mut server) = TcpStream::connect((server, REDIS_PORT)).await else { return };
    let (mut said, mut answered) = (Vec::new(), Vec::new());
    loop {
        // Also while nothing is asked: a server that ends closes its connections.
        let read = tokio::select! {
            read = operator.read_buf(&mut said) => read,
            read = server.read_buf(&mut answered) => read,
        };
        if !matches!(read, Ok(bytes) if bytes > 0) {
            return;
        }
        while let Some(length) = length(&said) {
            let command: Vec<u8> = said.drain(..length).collect();
            let moment = describe(&pod, &command).and_then(|call| trap.meets(call));
            if moment == Some(Moment::Before) {
                return trap.spring();
            }
            if server.write_all(&command).await.is_err() {
                return;
            }
            if is(&words(&command).join(" "), ACKNOWLEDGE) {
                continue;
            }
            let answer = loop {
                if let Some(length) = self::length(&answered) {
                    break answered.drain(..length).collect::<Vec<u8>>();
                }
                if !matches!(server.read_buf(&mut answered).await, Ok(bytes) if bytes > 0) {
                    return;
                }
            };
            if moment == Some(Moment::Unanswered) {
                return trap.spring();
            }
            if operator.write_all(&answer).await.is_err() {
                return;
            }
            if moment == Some(Moment::Answered) {
                trap.spring_soon();
            }
        }
    }
}

/// What a command changes; `None` where it only reads. Numbers, values and hashes are left out, they differ from run to run; and
/// so are users, which are told one after the other.
fn describe(pod: &str, command: &[u8]) -> Option<String> {
    let words = words(command);
    let text = words.join(" ");
    if READING.iter().any(|reading| is(&text, reading)) {
        return None;
    }
    // A host is a pod's name; the domain is the same for all and holds the namespace.
    let short =
        |word: &String| word.split_once(".redis-headless.").map_or(word.clone(), |(pod, _)| pod.to_owned());
    let is_number = |word: &String| word.parse::<i64>().is_ok();
    let named = if is(&text, "ACL") {
        2
    } else if is(&text, "CONFIG SET") {
        3
    } else {
        words.len()
    };
    let words: Vec<String> = words.iter().take(named).filter(|word| !is_number(word)).map(short).collect();
    Some(format!("{pod} {}", words.join(" ")))
}

/// Whether a command begins with these words.
fn is(command: &str, words: &str) -> bool {
    command
        .to_ascii_uppercase()
        .strip_prefix(words)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
}

/// The words of a command, which is an array of bulk strings.
fn words(command: &[u8]) -> Vec<String> {
    match redis::parse_redis_value(command) {
        Ok(redis::Value::Array(words)) => {
            words.iter().map(|word| redis::from_redis_value_ref(word).unwrap()).collect()
        }
        other => panic!("no command: {other:?}"),
    }
}

/// Length of the value that these bytes begin with (Redis' protocol, version 2), once all of it is there.
fn length(bytes: &[u8]) -> Option<usize> {
    let line = bytes.windows(2).position(|two| two == b"\r\n")? + 2;
    let count = || std::str::from_utf8(&bytes[1..line - 2]).unwrap().parse::<i64>().unwrap();
    let whole = match bytes[0] {
        b'$' => usize::try_from(count()).map_or(line, |text| line + text + 2),
        b'*' => {
            let mut end = line;
            for _ in 0..count().max(0) {
                end += length(&bytes[end..])?;
            }
            end
        }
        _ => line,
    };
    (bytes.len() >= whole).then_some(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(words: &[&str]) -> Vec<u8> {
        let words: String = words.iter().map(|word| format!("${}\r\n{word}\r\n", word.len())).collect();
        format!("*{}\r\n{words}", words.matches('$').count()).into_bytes()
    }

    #[test]
    fn what_changes_something_has_a_name() {
        for reading in [
            &["INFO"][..],
            &["info", "replication"],
            &["CONFIG", "GET", "dir"],
            &["AUTH", "a", "secret"],
            &["ACL", "GETUSER", "a"],
        ] {
            assert_eq!(describe("redis-1", &command(reading)), None, "{reading:?}");
        }
        for (words, call) in [
            (&["REPLICAOF", "NO", "ONE"][..], "redis-1 REPLICAOF NO ONE"),
            (
                &["REPLICAOF", "redis-0.redis-headless.lab.svc.cluster.local", "6379"],
                "redis-1 REPLICAOF redis-0",
            ),
            (&["CONFIG", "SET", "maxmemory", "1"], "redis-1 CONFIG SET maxmemory"),
            // Passwords are other ones in each run.
            (&["CONFIG", "SET", "masterauth", "secret"], "redis-1 CONFIG SET masterauth"),
            (&["ACL", "SETUSER", "default", "reset", "#aa", "on"], "redis-1 ACL SETUSER"),
            (&["CLIENT", "PAUSE", "6000", "WRITE"], "redis-1 CLIENT PAUSE WRITE"),
        ] {
            assert_eq!(describe("redis-1", &command(words)).as_deref(), Some(call));
        }
    }

    #[test]
    fn values_end_where_they_end() {
        for whole in [
            "+OK\r\n",
            "-ERR no\r\n",
            ":1\r\n",
            "$2\r\n\r\n\r\n",
            "$-1\r\n",
            "*2\r\n$1\r\na\r\n*1\r\n:5\r\n",
            "*-1\r\n",
        ] {
            let more = format!("{whole}+OK\r\n");
            assert_eq!(length(more.as_bytes()), Some(whole.len()), "{whole:?}");
            for end in 0..whole.len() {
                assert_eq!(length(&whole.as_bytes()[..end]), None, "{whole:?} up to {end}");
            }
        }
    }
}
