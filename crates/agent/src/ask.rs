//! Asking a peer who it is.

use std::{
    io,
    net::{SocketAddr, ToSocketAddrs},
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use ::redis::cmd;

use crate::{
    start_rule::{PeerAnswer, Point, Says, Silence},
    wire::{Reply, Wire, login},
};
use redis_node::{
    answer::ProbeFailure, files::REDIS_PORT, info::parse_replication, login::Login, plain::plain,
};

/// Time for one conversation with one peer. Redis answers INFO in well under a millisecond; a peer that needs
/// longer is asked again.
pub const ASK_WITHIN: Duration = Duration::from_secs(1);

/// Pause between two questions to the same peer.
pub const ASK_EVERY: Duration = Duration::from_secs(1);

/// From a peer's DNS name to the addresses of its Redis.
pub type Resolve = dyn Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync;

/// The system's resolver. It may block for as long as the container's resolv.conf says (experiment E20).
pub fn resolve(host: &str) -> io::Result<Vec<SocketAddr>> {
    Ok((host, REDIS_PORT).to_socket_addrs()?.collect())
}

/// Asks one peer, once.
pub fn ask(host: &str, agent: &Login, resolve: &Resolve) -> Says {
    let addresses = match resolve(host) {
        Ok(addresses) => addresses,
        Err(error) => return Says::Silent(Silence::NoAddress(error.to_string())),
    };
    let mut silence = Silence::NoAddress("no address".to_owned());
    // A dual-stack pod has two addresses and one server: the first that answers speaks for it.
    for address in addresses {
        match ask_address(address, host, agent) {
            Ok(says) => return says,
            Err(why) => silence = why,
        }
    }
    Says::Silent(silence)
}

fn ask_address(address: SocketAddr, host: &str, agent: &Login) -> Result<Says, Silence> {
    let mut wire = Wire::connect(address, ASK_WITHIN).map_err(Silence::Failed)?;
    wire.send(&[
        login(agent),
        cmd("CONFIG").arg("GET").arg("replica-announce-ip").clone(),
        cmd("INFO").arg("replication").clone(),
    ]);
    let mut next = || wire.answer().map_err(Silence::Failed);
    next()?;
    let announced = match next()? {
        Reply::List(pair) => plain(pair.get(1).map_or("", String::as_str)),
        other => return Err(malformed(&other)),
    };
    // Right after a pod has moved, its name may still lead to an address that another server has by now.
    if announced != host {
        return Err(Silence::Stranger(announced));
    }
    match next()? {
        Reply::Text(info) => says(&info),
        other => Err(malformed(&other)),
    }
}

fn malformed(reply: &Reply) -> Silence {
    Silence::Failed(ProbeFailure::Malformed(plain(&format!("unexpected reply {reply:?}"))))
}

/// What `INFO replication` says, as far as the start rule needs it.
fn says(info: &str) -> Result<Says, Silence> {
    let replication = parse_replication(info)
        .map_err(|error| Silence::Failed(ProbeFailure::Malformed(error.to_string())))?;
    let failover_runs = replication.failover_runs();
    // The first offset that is not shared, -1 where no history was taken over.
    let shared = replication.second_repl_offset.saturating_sub(1);
    let took_over = (shared >= 0).then_some(Point { replid: replication.replid2, offset: shared });
    Ok(match (replication.upstream, failover_runs) {
        (None, false) => Says::Serves { replid: replication.replid, took_over },
        (None, true) => Says::HandsOver,
        (Some(upstream), false) => Says::Follows(upstream.host),
        // `failover-in-progress`: Redis says role:slave by now, and names the replica that shall become primary.
        (Some(upstream), true) => Says::HandsOverTo(upstream.host),
    })
}

/// Asks all peers at the same time, each again and again, and delivers each answer as it comes, with the index of
/// its peer.
///
/// One thread a peer, because a DNS lookup can block for seconds and must not hold up the others. A thread ends
/// at its next answer after the receiver is dropped.
pub fn ask_all(
    hosts: &[String],
    agent: &Arc<Login>,
    resolve: &Arc<Resolve>,
) -> mpsc::Receiver<(usize, PeerAnswer)> {
    let (sender, receiver) = mpsc::channel();
    for (index, host) in hosts.iter().cloned().enumerate() {
        let (sender, agent, resolve) = (sender.clone(), Arc::clone(agent), Arc::clone(resolve));
        thread::spawn(move || {
            loop {
                let says = ask(&host, &agent, &*resolve);
                if sender.send((index, PeerAnswer { host: host.clone(), says })).is_err() {
                    return;
                }
                thread::sleep(ASK_EVERY);
            }
        });
    }
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(role: &str, failover_state: &str) -> String {
        format!(
            "# Replication\r\nrole:{role}\r\nmaster_host:a.b\r\nmaster_port:6379\r\nmaster_link_status:up\r\n\
             master_last_io_seconds_ago:1\r\nmaster_sync_in_progress:0\r\nslave_repl_offset:1\r\n\
             connected_slaves:0\r\nmaster_failover_state:{failover_state}\r\nmaster_replid:x\r\n\
             master_replid2:y\r\nmaster_repl_offset:1\r\nsecond_repl_offset:-1\r\nrepl_backlog_active:1\r\n"
        )
    }

    #[test]
    fn reads_the_role() {
        assert_eq!(
            says(&info("master", "no-failover")),
            Ok(Says::Serves { replid: "x".to_owned(), took_over: None })
        );
        let promoted = info("master", "no-failover").replace("second_repl_offset:-1", "second_repl_offset:8");
        let took_over = Some(Point { replid: "y".to_owned(), offset: 7 });
        assert_eq!(says(&promoted), Ok(Says::Serves { replid: "x".to_owned(), took_over }));
        assert_eq!(says(&info("slave", "no-failover")), Ok(Says::Follows("a.b".to_owned())));
    }

    #[test]
    fn a_running_failover_is_neither_role() {
        assert_eq!(says(&info("master", "waiting-for-sync")), Ok(Says::HandsOver));
        assert_eq!(says(&info("slave", "failover-in-progress")), Ok(Says::HandsOverTo("a.b".to_owned())));
    }

    #[test]
    fn without_a_role_nothing_is_believed() {
        for text in ["", "# Replication\r\nrole:master\r\n", &info("sentinel", "no-failover")] {
            assert!(matches!(says(text), Err(Silence::Failed(ProbeFailure::Malformed(_)))), "{text}");
        }
    }
}
