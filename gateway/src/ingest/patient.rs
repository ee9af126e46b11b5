//! A stream whose other side must take what it is told.
//!
//! Why: hyper waits for ever for a sender that does not read its answer, and each such connection keeps
//! its place and its answer.
//!
//! Invariant: as long as some bytes go in time, the connection stays, however slow the whole is.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

/// Around a stream.
pub(super) struct Patient<S> {
    stream: S,
    within: Duration,
    /// While a write waits.
    late: Option<Pin<Box<Sleep>>>,
}

impl<S> Patient<S> {
    /// Whatever is written has to begin to go `within` so long.
    pub(super) fn new(stream: S, within: Duration) -> Self {
        Self {
            stream,
            within,
            late: None,
        }
    }

    fn judge<T>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.late = None;
            return written;
        }
        let late = self
            .late
            .get_or_insert_with(|| Box::pin(sleep(self.within)));
        ready!(late.as_mut().poll(cx));
        // Asked again it has its time again.
        late.as_mut().reset(Instant::now() + self.within);
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.judge(cx, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.judge(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.judge(cx, shut)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    #[tokio::test]
    async fn who_takes_nothing_is_given_up_and_who_takes_a_little_is_not() {
        let (mut here, mut there) = duplex(8);
        let mut patient = Patient::new(&mut here, Duration::from_millis(20));
        let refused = patient.write_all(&[7; 100]).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::TimedOut);
        // The eight that fitted are there; from here on somebody reads.
        let reading = tokio::spawn(async move {
            let mut heard = [0; 108];
            there.read_exact(&mut heard).await.map(|_| heard)
        });
        let mut patient = Patient::new(&mut here, Duration::from_secs(600));
        patient.write_all(&[8; 100]).await.unwrap();
        let heard = reading.await.unwrap().unwrap();
        assert_eq!((heard[7], heard[8]), (7, 8));
    }
}
