//! One bounded conversation with one Redis: commands out, replies in, all before one deadline.
//!
//! The `redis` crate packs commands and parses replies, but its connections are not used: they hide the very
//! things that a probe is about (an error reply is a sign of life), bound each read instead of the whole, and
//! take passwords as text.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use ::redis::{Cmd, Parser, Value};

use redis_node::{answer::ProbeFailure, login::Login, plain::plain};

/// What a server may send in one conversation, in bytes: any peer may be anybody's, and the memory is Redis' own.
const LONGEST: usize = 1 << 20;

/// A connection to one Redis and the time left for it.
pub struct Wire {
    stream: Bounded,
    parser: Parser,
    within: Duration,
}

/// What a Redis replied to one command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// A simple or bulk string.
    Text(String),
    /// An array of strings.
    List(Vec<String>),
    /// An error reply.
    Error {
        /// First word, for example `LOADING`: the part that is the same in all versions.
        code: String,
        /// The rest, for people.
        text: String,
    },
    /// Any other reply: an integer, null.
    Other,
}

impl Wire {
    /// Connects. `within` bounds the whole conversation, this call included.
    pub fn connect(address: SocketAddr, within: Duration) -> Result<Self, ProbeFailure> {
        let deadline = Instant::now() + within;
        let stream = TcpStream::connect_timeout(&address, within).map_err(|e| failure(&e, within))?;
        Ok(Self { stream: Bounded { stream, deadline, left: LONGEST }, parser: Parser::new(), within })
    }

    /// Sends commands; the replies come in the same order.
    ///
    /// A failure is not reported here: a server at its client limit writes an error and closes at once, and that
    /// error is the reply that [`Wire::reply`] must still find.
    pub fn send(&mut self, commands: &[Cmd]) {
        let bytes: Vec<u8> = commands.iter().flat_map(Cmd::get_packed_command).collect();
        let _ = self.stream.write_all(&bytes);
    }

    /// Reads the next reply.
    pub fn reply(&mut self) -> Result<Reply, ProbeFailure> {
        let within = self.within;
        match self.parser.parse_value(&mut self.stream) {
            Ok(value) => Ok(Reply::from(value)),
            Err(error) if error.is_timeout() => Err(ProbeFailure::Timeout(within)),
            Err(error) if error.is_connection_dropped() || error.is_io_error() => {
                Err(ProbeFailure::Connection(error.to_string()))
            }
            Err(_) => Err(ProbeFailure::Malformed("no valid reply in the Redis protocol".to_owned())),
        }
    }

    /// Reads the next reply; an error reply is a failure.
    pub fn answer(&mut self) -> Result<Reply, ProbeFailure> {
        match self.reply()? {
            Reply::Error { code, text } => Err(refusal(&code, &text)),
            reply => Ok(reply),
        }
    }
}

/// The command that logs in.
pub fn login(login: &Login) -> Cmd {
    ::redis::cmd("AUTH").arg(&login.user).arg(login.password.as_bytes()).clone()
}

fn refusal(code: &str, text: &str) -> ProbeFailure {
    let reply = format!("{code} {text}");
    match code {
        "NOAUTH" | "WRONGPASS" | "NOPERM" => ProbeFailure::Auth(reply),
        "LOADING" => ProbeFailure::Loading,
        "BUSY" => ProbeFailure::Busy,
        _ => ProbeFailure::client_limit(text).unwrap_or(ProbeFailure::Reply(reply)),
    }
}

impl From<Value> for Reply {
    fn from(value: Value) -> Self {
        match value {
            Value::ServerError(error) => {
                Self::Error { code: plain(error.code()), text: plain(error.details().unwrap_or_default()) }
            }
            Value::Array(items) => Self::List(items.into_iter().filter_map(text).collect()),
            other => text(other).map_or(Self::Other, Self::Text),
        }
    }
}

fn text(value: Value) -> Option<String> {
    match value {
        Value::Okay => Some("OK".to_owned()),
        Value::SimpleString(text) => Some(text),
        Value::BulkString(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
        _ => None,
    }
}

fn failure(error: &io::Error, within: Duration) -> ProbeFailure {
    match error.kind() {
        ErrorKind::ConnectionRefused => ProbeFailure::Refused,
        ErrorKind::TimedOut | ErrorKind::WouldBlock => ProbeFailure::Timeout(within),
        _ => ProbeFailure::Connection(error.to_string()),
    }
}

/// A stream whose reads and writes all end at one deadline, however many there are, and which gives so many bytes at most.
struct Bounded {
    stream: TcpStream,
    deadline: Instant,
    left: usize,
}

impl Bounded {
    /// Time left; a socket time-out of zero would mean "for ever".
    fn time_left(&self) -> io::Result<Duration> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(left) }
    }
}

impl Read for Bounded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(self.time_left()?))?;
        let read = self.stream.read(buffer)?;
        let too_long = || io::Error::new(ErrorKind::InvalidData, "the answer is too long");
        self.left = self.left.checked_sub(read).ok_or_else(too_long)?;
        Ok(read)
    }
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(self.time_left()?))?;
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}
