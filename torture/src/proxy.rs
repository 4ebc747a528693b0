//! A TCP proxy whose line can be cut, slowed, stopped in one direction or both, and cut at a COMMIT.
//!
//! What is stopped is kept, not lost, as it is where packets are lost and sent again: when the line is whole again the bytes
//! arrive late, or the connection is reset; never is a part of the stream missing.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::wire::{Scanner, Wanted};

/// How the line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// As it should be.
    Open,
    /// Connections are closed, and new ones at once.
    Cut,
    /// Each piece of at most 16 KiB takes so much longer, in each direction.
    Slow(Duration),
    /// Nothing goes by, in neither direction; connections stay.
    Stopped,
    /// Nothing goes by towards the server.
    Deaf,
    /// Nothing comes back from the server.
    Dumb,
}

/// Where a connection is cut that carries a COMMIT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CutAt {
    /// Before it reaches the server, which rolls back.
    Question,
    /// When the server has answered: it is committed, and nobody learns of it.
    Answer,
}

/// A proxy's port, and what can be done to its line.
#[derive(Debug)]
pub struct Link {
    /// What it connects, as `processor-1/postgres`.
    pub name: String,
    /// The port of 127.0.0.1 that it listens on.
    pub port: u16,
    state: watch::Sender<State>,
    armed: Arc<Mutex<Option<CutAt>>>,
    triggered: Arc<AtomicU64>,
}

#[derive(Debug, Clone, Copy)]
struct State {
    line: Line,
    /// Connections of an earlier epoch are reset.
    epoch: u64,
    /// Where it leads; 0: not known yet.
    target: u16,
}

impl Link {
    /// Listens on a free port; [`Link::lead_to`] says where it leads. `commits`: whether it carries PostgreSQL's protocol, and
    /// COMMITs are looked for.
    ///
    /// # Errors
    /// No port is free.
    pub async fn listen(name: &str, commits: bool) -> anyhow::Result<Arc<Link>> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let port = listener.local_addr()?.port();
        let (state, watched) = watch::channel(State { line: Line::Open, epoch: 0, target: 0 });
        let (armed, triggered) = (Arc::new(Mutex::new(None)), Arc::new(AtomicU64::new(0)));
        let trap = commits.then(|| Trap { armed: Arc::clone(&armed), triggered: Arc::clone(&triggered) });
        tokio::spawn(accept(listener, watched, trap));
        Ok(Arc::new(Link { name: name.to_owned(), port, state, armed, triggered }))
    }

    /// Says which port of 127.0.0.1 it leads to.
    pub fn lead_to(&self, target: u16) {
        self.state.send_modify(|state| state.target = target);
    }

    /// Changes the line; all connections see it at once.
    pub fn set(&self, line: Line) {
        self.state.send_modify(|state| state.line = line);
    }

    /// Makes the line whole. With `reset` the connections that there are end; else what was kept arrives late.
    pub fn heal(&self, reset: bool) {
        *self.armed.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.state.send_modify(|state| {
            state.line = Line::Open;
            state.epoch += u64::from(reset);
        });
    }

    /// The next COMMIT that goes by costs its connection. [`Link::heal`] takes it back.
    pub fn arm(&self, at: CutAt) {
        *self.armed.lock().unwrap_or_else(PoisonError::into_inner) = Some(at);
    }

    /// How many connections were cut at a COMMIT so far.
    pub fn triggered(&self) -> u64 {
        self.triggered.load(Ordering::SeqCst)
    }
}

/// What is done at a COMMIT.
#[derive(Debug, Clone)]
struct Trap {
    armed: Arc<Mutex<Option<CutAt>>>,
    triggered: Arc<AtomicU64>,
}

impl Trap {
    /// Whether to cut here; only once.
    fn springs(&self, at: CutAt) -> bool {
        let mut armed = self.armed.lock().unwrap_or_else(PoisonError::into_inner);
        let springs = armed.take_if(|armed| *armed == at).is_some();
        self.triggered.fetch_add(u64::from(springs), Ordering::SeqCst);
        springs
    }
}

/// Ends when the link is gone.
async fn accept(listener: TcpListener, mut state: watch::Receiver<State>, trap: Option<Trap>) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            gone = state.wait_for(|_| false) => { let _ = gone; return }
        };
        let Ok((client, _)) = accepted else { continue };
        let now = *state.borrow();
        if now.line == Line::Cut || now.target == 0 {
            continue;
        }
        tokio::spawn(connect(client, now.target, state.clone(), trap.clone()));
    }
}

async fn connect(client: TcpStream, target: u16, state: watch::Receiver<State>, trap: Option<Trap>) {
    let epoch = state.borrow().epoch;
    let Ok(server) = TcpStream::connect(("127.0.0.1", target)).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let there = Way { from: from_client, to: to_server, blocked: Line::Deaf, cut_at: CutAt::Question };
    let back = Way { from: from_server, to: to_client, blocked: Line::Dumb, cut_at: CutAt::Answer };
    // When one way has ended the other is dropped, and with it both connections.
    tokio::select! {
        () = there.carry(state.clone(), epoch, trap.clone()) => {}
        () = back.carry(state, epoch, trap) => {}
    }
}

/// One direction of a connection.
struct Way {
    from: OwnedReadHalf,
    to: OwnedWriteHalf,
    /// What stops this direction alone.
    blocked: Line,
    cut_at: CutAt,
}

impl Way {
    async fn carry(mut self, mut state: watch::Receiver<State>, epoch: u64, trap: Option<Trap>) {
        let wanted = if self.cut_at == CutAt::Question { Wanted::Question } else { Wanted::Answer };
        let mut trap = trap.map(|trap| (trap, Scanner::new(wanted)));
        let mut buffer = vec![0; 16 * 1024];
        loop {
            let read = tokio::select! {
                read = self.from.read(&mut buffer) => read,
                () = broken(&mut state, epoch) => return,
            };
            let Ok(length @ 1..) = read else { return };
            let mut chunk = &buffer[..length];
            let commit = trap.as_mut().and_then(|(trap, scanner)| {
                let before = scanner.scan(chunk)?;
                trap.springs(self.cut_at).then_some(before)
            });
            if let Some(before) = commit {
                chunk = &chunk[..before];
            }
            let blocked = self.blocked;
            let passes =
                |state: &State| state.epoch != epoch || ![Line::Stopped, blocked].contains(&state.line);
            let Ok(now) = state.wait_for(passes).await.map(|state| *state) else { return };
            if now.epoch != epoch || now.line == Line::Cut {
                return;
            }
            if let Line::Slow(pause) = now.line {
                tokio::time::sleep(pause).await;
            }
            if self.to.write_all(chunk).await.is_err() || commit.is_some() {
                return;
            }
        }
    }
}

/// Waits until the connection is not to go on.
async fn broken(state: &mut watch::Receiver<State>, epoch: u64) {
    // A link that is gone ends its connections, too.
    let _ = state.wait_for(|state| state.line == Line::Cut || state.epoch != epoch).await;
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// An echo behind a link.
    async fn echo() -> Arc<Link> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let link = Link::listen("test", true).await.unwrap();
        link.lead_to(listener.local_addr().unwrap().port());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = stream.split();
                    let _ = tokio::io::copy(&mut from, &mut to).await;
                });
            }
        });
        link
    }

    async fn client(link: &Link) -> TcpStream {
        TcpStream::connect(("127.0.0.1", link.port)).await.unwrap()
    }

    async fn says(stream: &mut TcpStream, word: &[u8; 4]) -> std::io::Result<[u8; 4]> {
        stream.write_all(word).await?;
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).await?;
        Ok(answer)
    }

    #[tokio::test]
    async fn a_line_that_is_cut_ends_connections_and_takes_none_until_it_is_healed() {
        let link = echo().await;
        let mut stream = client(&link).await;
        assert_eq!(&says(&mut stream, b"ping").await.unwrap(), b"ping");
        link.set(Line::Cut);
        assert!(says(&mut stream, b"ping").await.is_err());
        assert!(says(&mut client(&link).await, b"ping").await.is_err());
        link.heal(false);
        assert_eq!(&says(&mut client(&link).await, b"ping").await.unwrap(), b"ping");
    }

    #[tokio::test]
    async fn what_was_stopped_arrives_late_or_never_but_whole() {
        for (line, reset) in [(Line::Stopped, false), (Line::Deaf, false), (Line::Dumb, true)] {
            let link = echo().await;
            let mut stream = client(&link).await;
            assert_eq!(&says(&mut stream, b"ping").await.unwrap(), b"ping");
            link.set(line);
            let answer = tokio::time::timeout(Duration::from_millis(100), says(&mut stream, b"late")).await;
            assert!(answer.is_err(), "{line:?}");
            link.heal(reset);
            let mut answer = [0; 4];
            let read = stream.read_exact(&mut answer).await;
            assert_eq!(read.is_err(), reset, "{line:?}");
            assert!(reset || &answer == b"late");
        }
    }

    #[tokio::test]
    async fn a_commit_is_cut_off_once_before_or_after_it_reached_the_server() {
        let startup = [0, 0, 0, 8, 0, 3, 0, 0];
        let commit = b"Q\0\0\0\x0bCOMMIT\0";
        for at in [CutAt::Question, CutAt::Answer] {
            let link = echo().await;
            link.arm(at);
            let mut stream = client(&link).await;
            stream.write_all(&startup).await.unwrap();
            stream.write_all(commit).await.unwrap();
            let mut back = Vec::new();
            let read = tokio::time::timeout(Duration::from_millis(300), stream.read_to_end(&mut back)).await;
            // The echo answers with a question, which is no answer.
            assert_eq!(
                (read.is_ok(), link.triggered()),
                (at == CutAt::Question, u64::from(at == CutAt::Question))
            );
            link.heal(true);
        }
    }
}
