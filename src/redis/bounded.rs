//! A stream that fails once a server has sent more than it may.
//!
//! The client library keeps a reply until it is whole, however long it is: a server that answers without end would take
//! all of the operator's memory, and with it every other set's operator.

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

/// How many bytes a server may still send, and whether it has ended the stream.
#[derive(Clone, Debug)]
pub(super) struct Allowance {
    bytes: Arc<AtomicUsize>,
    ended: watch::Sender<bool>,
}

impl Allowance {
    /// Allows nothing yet; `ended` turns true with the end of the stream.
    pub(super) fn new(ended: watch::Sender<bool>) -> Self {
        Self { bytes: Arc::default(), ended }
    }

    /// Allows this many bytes from now on, whatever was left.
    pub(super) fn set(&self, bytes: usize) {
        self.bytes.store(bytes, Ordering::Relaxed);
    }

    /// The stream is not used any more.
    pub(super) fn end(&self) {
        self.ended.send_replace(true);
    }

    fn take(&self, bytes: usize) -> io::Result<()> {
        let taken =
            self.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(bytes));
        match taken {
            Ok(_) => Ok(()),
            Err(_) => Err(io::Error::new(io::ErrorKind::InvalidData, "the answer is too long")),
        }
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
        let read = read.and_then(|()| match buf.filled().len().saturating_sub(before) {
            0 => {
                self.allowance.end();
                Ok(())
            }
            bytes => self.allowance.take(bytes),
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
