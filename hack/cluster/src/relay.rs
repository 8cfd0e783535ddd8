//! Joins a port of the host's loopback to an address in another network namespace. The listening socket is made on
//! the host and handed over as standard input; the process itself lives in the other namespace.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};

/// Verb and component name.
pub const NAME: &str = "relay";

/// Serves until it is killed.
pub fn serve(target: SocketAddr) -> Result<()> {
    let socket = rustix::stdio::stdin().as_fd().try_clone_to_owned().context("standard input is not open")?;
    let listener = TcpListener::from(socket);
    listener.local_addr().context("standard input is not a listening socket; this verb is for `up` only")?;
    loop {
        match listener.accept() {
            Ok((client, _)) => {
                thread::spawn(move || {
                    if let Err(error) = join(&client, target) {
                        eprintln!("a connection to {target} ended: {error}");
                    }
                });
            }
            Err(error) => {
                // Such as too many open files: it passes when other connections end.
                eprintln!("cannot accept a connection: {error}");
                thread::sleep(Duration::from_millis(100));
            }
        }
    }
}

/// Copies both ways until both sides have ended; one side's end is passed on to the other.
fn join(client: &TcpStream, target: SocketAddr) -> io::Result<()> {
    let server = &TcpStream::connect(target)?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    thread::scope(|scope| {
        scope.spawn(|| copy(server, client));
        copy(client, server);
    });
    Ok(())
}

fn copy(mut from: &TcpStream, mut to: &TcpStream) {
    if io::copy(&mut from, &mut to).is_err() {
        // A broken side cannot be half closed in good order: end both.
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    }
    let _ = to.shutdown(Shutdown::Write);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};

    #[test]
    fn copies_both_ways_and_passes_the_end_on() {
        let bind = || TcpListener::bind("127.0.0.1:0").unwrap();
        let (front, back) = (bind(), bind());
        let target = back.local_addr().unwrap();
        let address = front.local_addr().unwrap();
        let relay = thread::spawn(move || join(&front.accept().unwrap().0, target));
        let server = thread::spawn(move || {
            let (mut stream, _) = back.accept().unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            stream.write_all(text.to_uppercase().as_bytes()).unwrap();
        });
        let mut client = TcpStream::connect(address).unwrap();
        client.write_all(b"ping").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "PING");
        server.join().unwrap();
        relay.join().unwrap().unwrap();
    }
}
