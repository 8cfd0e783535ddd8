//! Servers that answer what no Redis does, to both who read: the operator's connection and the agent's. A binary of its own: nothing
//! else takes memory meanwhile.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a step that fails is the test's failure"
)]

use std::{
    fs,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    panic,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use futures::future::join_all;
use proptest::{collection::vec, prelude::*, sample::select};
use redis_agent::{
    ask::{Resolve, ask},
    start_rule::Says,
};
use redis_node::{files::REDIS_PORT, login::Login, password::Password};
use redis_operator::redis::server::{Logins, Target};
use rig::{
    hostile_text::{CASES, has_controls, holds},
    local::redis_server::{RedisServer, listen, probe},
};

/// What a server sends after it has said OK to the password.
#[derive(Clone, Copy)]
enum Pace {
    /// Once, and then nothing.
    Once,
    /// Again and again.
    Endless,
    /// A byte each 100 ms.
    Dripping,
}

/// What it is, what is sent first, and then how. Numbers and depths are far beyond what any reader bears.
fn answers() -> Vec<(String, Vec<u8>, Pace)> {
    let mut all: Vec<(String, Vec<u8>, Pace)> = Vec::new();
    for kind in ['*', '%', '~', '>', '|'] {
        let nested = format!("{kind}1\r\n").into_bytes().repeat(100_000);
        all.push((format!("{kind} nested 100,000 times"), nested, Pace::Once));
        let wide = format!("{kind}4096\r\n").into_bytes().repeat(99);
        all.push((format!("{kind} 99 deep, each of 4096"), wide, Pace::Once));
        for count in ["1000000000000000000", "9223372036854775807", "-1", "-9223372036854775808", "x"] {
            let one = format!("{kind}{count}\r\n").into_bytes();
            all.push((format!("{kind} of {count}"), [one, b"$1\r\na\r\n".repeat(10)].concat(), Pace::Once));
        }
        let empty = format!("{kind}0\r\n").into_bytes();
        all.push((format!("{kind}0 for ever"), empty, Pace::Endless));
    }
    for kind in ['$', '!', '='] {
        for length in ["1000000000000000000", "9223372036854775807", "-2", "-9223372036854775808"] {
            all.push((format!("{kind} of {length}"), format!("{kind}{length}\r\ntxt:a").into(), Pace::Once));
        }
    }
    let values = |count: usize| [b"*10000000\r\n".to_vec(), b"_\r\n".repeat(count)].concat();
    all.push(("an array of as many nulls as fit".to_owned(), values(87_000), Pace::Once));
    all.push(("an array of nulls for ever".to_owned(), values(1_000_000), Pace::Endless));
    all.push(("a line for ever".to_owned(), [&b"+"[..], &[b'x'; 8192]].concat(), Pace::Endless));
    all.push((
        "a push of attributes for ever".to_owned(),
        b">2\r\n|1\r\n+a\r\n+b\r\n+c\r\n+d\r\n".to_vec(),
        Pace::Endless,
    ));
    all.push(("messages for ever".to_owned(), b">3\r\n+message\r\n+a\r\n+b\r\n".to_vec(), Pace::Endless));
    all.push(("a line that drips".to_owned(), vec![b'+'; 1000], Pace::Dripping));
    all.push(("a bulk that drips".to_owned(), [&b"$1000\r\n"[..], &[b'x'; 900]].concat(), Pace::Dripping));
    all.push((
        "an error of another's words".to_owned(),
        b"-ERR \x1b[2J\nredis-0 is fine\xe2\x80\xae\r\n".to_vec(),
        Pace::Endless,
    ));
    all
}

/// A server that says this to whoever connects.
fn serve(answer: Vec<u8>, pace: Pace) -> Ipv4Addr {
    let (address, listener) = listen();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, answer) = (stream.unwrap(), answer.clone());
            thread::spawn(move || {
                let _ = stream.set_write_timeout(Some(Duration::from_secs(5)));
                let _ = stream.read(&mut [0; 1024]);
                let _ = stream.write_all(b"+OK\r\n");
                match pace {
                    Pace::Once => {
                        let _ = stream.write_all(&answer);
                        // Until the other side hangs up.
                        while stream.read(&mut [0; 1024]).is_ok_and(|length| length > 0) {}
                    }
                    Pace::Endless => while stream.write_all(&answer).is_ok() {},
                    Pace::Dripping => {
                        let drip = |byte: &u8| {
                            thread::sleep(Duration::from_millis(100));
                            stream.write_all(&[*byte]).is_ok()
                        };
                        let _ = answer.iter().all(drip);
                    }
                }
            });
        }
    });
    address
}

/// The most memory that this process has had since the last call, beyond what it has now, in kB.
fn peak() -> impl Fn() -> u64 {
    // See proc(5): the peak begins anew.
    fs::write("/proc/self/clear_refs", "5").unwrap();
    let read = |field: &str| -> u64 {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    };
    let before = read("VmRSS:");
    move || read("VmHWM:").saturating_sub(before)
}

fn secret() -> Password {
    Password::from_bytes(b"secret").unwrap()
}

fn target(address: Ipv4Addr) -> Target {
    Target {
        host: address.to_string(),
        address: address.into(),
        port: REDIS_PORT,
        logins: Arc::new(Logins::of_default(secret())),
    }
}

/// One after the other, so that each has the memory for itself.
#[test]
fn what_no_redis_answers_costs_bounded_memory_and_time() {
    let panics = Arc::new(AtomicUsize::new(0));
    let (counted, print) = (Arc::clone(&panics), panic::take_hook());
    // One in a task of the operator's, or in a thread, would be seen by nobody.
    panic::set_hook(Box::new(move |info| {
        counted.fetch_add(1, Ordering::Relaxed);
        print(info);
    }));
    the_operator_reads_bounded_answers();
    the_agent_reads_bounded_answers();
    a_list_of_clients_is_as_large_as_it_is_sent_and_no_larger();
    assert_eq!(panics.load(Ordering::Relaxed), 0, "a reader ended by a panic");
}

fn the_operator_reads_bounded_answers() {
    const DEADLINE: Duration = Duration::from_secs(2);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let all = answers();
    let servers: Vec<Ipv4Addr> = all.iter().map(|(_, answer, pace)| serve(answer.clone(), *pace)).collect();
    let (peak, begun) = (peak(), Instant::now());
    // All at once: what each costs adds up.
    let asked = runtime.block_on(join_all(servers.iter().map(async |address| {
        let begun = Instant::now();
        (probe(&target(*address), DEADLINE).await.map(|_| ()), begun.elapsed())
    })));
    let (grown, took) = (peak(), begun.elapsed());
    println!("operator: {} answers at once, {grown} kB more at most, {took:.1?}", all.len());
    for ((name, ..), (asked, took)) in all.iter().zip(asked) {
        let failure = asked.expect_err(name).to_string();
        assert!(took < DEADLINE + Duration::from_millis(500), "{name}: {took:?}");
        assert!(failure.len() < 300 && !has_controls(&failure), "{name}: {failure:?}");
    }
    // The servers are in this process too.
    assert!(grown < 64 << 10, "{grown} kB");
}

fn the_agent_reads_bounded_answers() {
    const WITHIN: Duration = Duration::from_secs(1);
    let all = answers();
    let servers: Vec<Ipv4Addr> = all.iter().map(|(_, answer, pace)| serve(answer.clone(), *pace)).collect();
    let (peak, begun) = (peak(), Instant::now());
    let threads: Vec<_> = servers
        .into_iter()
        .map(|address| {
            thread::spawn(move || {
                let resolve: Box<Resolve> =
                    Box::new(move |_| Ok(vec![SocketAddr::from((address, REDIS_PORT))]));
                let begun = Instant::now();
                (
                    ask("redis-0.redis-headless.lab.svc", &Login::of_default(secret()), &*resolve),
                    begun.elapsed(),
                )
            })
        })
        .collect();
    let asked: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    let (grown, took) = (peak(), begun.elapsed());
    println!("agent: {} answers at once, {grown} kB more at most, {took:.1?}", all.len());
    for ((name, ..), (says, took)) in all.iter().zip(asked) {
        let Says::Silent(why) = says else { panic!("{name}: {says:?}") };
        assert!(took < WITHIN + Duration::from_millis(500), "{name}: {took:?}");
        assert!(
            why.to_string().len() < 400 && !has_controls(&why.to_string()),
            "{name}: {:?}",
            why.to_string()
        );
    }
    assert!(grown < 128 << 10, "{grown} kB");
}

/// A real server, of which one answer is another's.
fn with_another_list(server: &RedisServer, list: Vec<u8>) -> Ipv4Addr {
    let (real, list) = (server.address, Arc::new(list));
    let (address, listener) = listen();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut client, list) = (stream.unwrap(), Arc::clone(&list));
            let mut server = TcpStream::connect((real, REDIS_PORT)).unwrap();
            let (mut from, mut to) = (server.try_clone().unwrap(), client.try_clone().unwrap());
            thread::spawn(move || std::io::copy(&mut from, &mut to));
            thread::spawn(move || {
                let mut heard = [0; 4096];
                while let Ok(length @ 1..) = client.read(&mut heard) {
                    let heard = &heard[..length];
                    if heard.windows(6).any(|word| word == b"\r\nLIST") {
                        let _ = client.write_all(&list);
                    } else if server.write_all(heard).is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

/// Regression: elements of three bytes each made 19 times as much memory of the longest list that is read.
fn a_list_of_clients_is_as_large_as_it_is_sent_and_no_larger() {
    const LONGEST: usize = 32 << 20;
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = RedisServer::start(&[]);
    let logins = server.target().logins;
    let elements = [b"*10000000\r\n".to_vec(), b"_\r\n".repeat(10_000_000)].concat();
    let text = |length: usize| {
        [format!("${length}\r\n").into_bytes(), vec![b'x'; length], b"\r\n".to_vec()].concat()
    };
    for (name, list, is_read, most) in [
        ("elements", elements, false, 8 << 10),
        ("a text of 30 MiB", text(30 << 20), true, 128 << 10),
        ("a longer text", text(LONGEST), false, 128 << 10),
    ] {
        let target = Target { logins: Arc::clone(&logins), ..target(with_another_list(&server, list)) };
        let (_, mut connection) = runtime.block_on(probe(&target, Duration::from_secs(2))).unwrap();
        let (peak, begun) = (peak(), Instant::now());
        let listed = runtime.block_on(connection.fence_other_operators());
        let (grown, took) = (peak(), begun.elapsed());
        println!("{name}: {listed:?}, {grown} kB more at most, {took:.1?}");
        assert_eq!(listed.is_ok(), is_read, "{name}: {listed:?}");
        assert!(grown < most, "{name}: {grown} kB");
    }
}

/// The parser that both readers have.
#[test]
fn no_bytes_make_the_parser_panic() {
    let piece = select(
        &[
            "*",
            "%",
            "~",
            ">",
            "|",
            "$",
            "!",
            "=",
            "+",
            "-",
            ":",
            ",",
            "#",
            "_",
            "(",
            "\r\n",
            "\r",
            "\n",
            "0",
            "1",
            "-1",
            "2",
            "9223372036854775807",
            "-9223372036854775808",
            "18446744073709551615",
            "txt:",
            "t",
            "nan",
            "\u{0}",
            "é",
            "OK",
        ][..],
    );
    let bytes = prop_oneof![
        3 => vec(piece, 0..24).prop_map(|pieces| pieces.concat().into_bytes()),
        1 => vec(any::<u8>(), 0..64),
    ];
    holds(CASES, bytes, |bytes| {
        // Whatever it says; a panic would be the failure.
        let _ = redis::parse_redis_value(&bytes);
        Ok(())
    });
}
