//! A connection whose other side may be slow to read, but not for ever.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

/// A stream that fails when nothing could be written for so long.
pub struct Patient {
    stream: TcpStream,
    patience: Duration,
    /// Set while something waits to be written.
    until: Option<Pin<Box<Sleep>>>,
}

impl Patient {
    /// Wraps a stream whose other side may take nothing for `patience` while something waits for it.
    pub fn new(stream: TcpStream, patience: Duration) -> Patient {
        Patient { stream, patience, until: None }
    }

    fn judge<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.until = None;
            return written;
        }
        let deadline = Instant::now() + self.patience;
        let until = self.until.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        ready!(until.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the other side does not read")))
    }
}

impl AsyncRead for Patient {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Patient {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.judge(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.judge(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    const PATIENCE: Duration = Duration::from_millis(200);
    /// More than what the kernel keeps for a connection.
    const MUCH: usize = 64 * 1024 * 1024;

    async fn pair() -> (Patient, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (Patient::new(listener.accept().await.unwrap().0, PATIENCE), client)
    }

    #[tokio::test]
    async fn who_reads_nothing_is_given_up() {
        let (mut served, _client) = pair().await;
        let error = served.write_all(&vec![0; MUCH]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn who_reads_slowly_gets_everything_and_who_has_nothing_to_read_may_wait() {
        let (mut served, mut client) = pair().await;
        let writing = tokio::spawn(async move {
            served.write_all(&vec![0; MUCH]).await.unwrap();
            tokio::time::sleep(2 * PATIENCE).await;
            served.write_all(b"more").await.unwrap();
        });
        let (mut buffer, mut got) = (vec![0; 4 * 1024 * 1024], 0);
        loop {
            match client.read(&mut buffer).await.unwrap() {
                0 => break,
                bytes => got += bytes,
            }
            if got < MUCH / 2 {
                // Not as fast as it could.
                tokio::time::sleep(PATIENCE / 20).await;
            }
        }
        writing.await.unwrap();
        assert_eq!(got, MUCH + 4);
    }
}
