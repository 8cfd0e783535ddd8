//! A stream that fails once a server has sent more than it may.
//!
//! The client library keeps a reply until it is whole, however long it is: a server that answers without end would take
//! all of the operator's memory, and with it every other set's operator. It also makes a value of some 56 bytes of each three that a
//! server sends as an element of a list, so those are counted too.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::watch,
};

/// Carriage returns in one answer at most. Each value of an answer has one or two; `INFO` has one a line, some 1,300 with 1,024 databases;
/// a list of all clients is one value, however long.
const MOST_RETURNS: usize = 16_384;

/// How much a server may still send, and whether it has ended the stream.
#[derive(Clone, Debug)]
pub(super) struct Allowance {
    bytes: Arc<AtomicUsize>,
    returns: Arc<AtomicUsize>,
    ended: watch::Sender<bool>,
}

impl Allowance {
    /// Allows nothing yet; `ended` turns true with the end of the stream.
    pub(super) fn new(ended: watch::Sender<bool>) -> Self {
        Self { bytes: Arc::default(), returns: Arc::default(), ended }
    }

    /// Allows this many bytes from now on, whatever was left.
    pub(super) fn set(&self, bytes: usize) {
        self.bytes.store(bytes, Ordering::Relaxed);
        self.returns.store(MOST_RETURNS, Ordering::Relaxed);
    }

    /// The stream is not used any more.
    pub(super) fn end(&self) {
        self.ended.send_replace(true);
    }

    fn take(&self, read: &[u8]) -> io::Result<()> {
        let returns = read.split(|byte| *byte == b'\r').skip(1).count();
        let less = |left: &AtomicUsize, by: usize| {
            left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(by)).is_ok()
        };
        if less(&self.bytes, read.len()) && less(&self.returns, returns) {
            return Ok(());
        }
        Err(io::Error::new(io::ErrorKind::InvalidData, "the answer is too long"))
    }
}

/// The stream.
pub(super) struct Bounded<S> {
    stream: S,
    allowance: Allowance,
}

impl<S> Bounded<S> {
    /// Reads from this stream what the allowance allows.
    pub(super) fn new(stream: S, allowance: Allowance) -> Self {
        Self { stream, allowance }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Bounded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = ready!(Pin::new(&mut self.stream).poll_read(cx, buf));
        let read = read.and_then(|()| match buf.filled().get(before..) {
            None | Some([]) => {
                self.allowance.end();
                Ok(())
            }
            Some(bytes) => self.allowance.take(bytes),
        });
        if read.is_err() {
            self.allowance.end();
        }
        Poll::Ready(read)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Bounded<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
