//! One client that follows stock.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use prometheus::IntGauge;
use stocktide_runtime::Config;
use tokio::sync::{OwnedSemaphorePermit, broadcast, mpsc};
use tokio_util::sync::CancellationToken;

use super::place::Place;
use super::{Change, Chunk, replay};
use crate::problem::{Problem, shown};
use crate::state::App;

/// How often a client hears that it is still connected.
const KEEPALIVE: Duration = Duration::from_secs(15);
/// After so long a browser connects again, in milliseconds.
const RETRY_MS: u32 = 2_000;
/// Frames of what was missed that wait for the client.
const FRAMES_AHEAD: usize = 64;

/// Which changes a client wants.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Of this product only.
    pub product_id: Option<String>,
    /// At this location only.
    pub location_id: Option<String>,
}

impl Wanted {
    pub(super) fn takes(&self, change: &Change) -> bool {
        self.product_id.as_ref().is_none_or(|wanted| *wanted == change.product_id)
            && self.location_id.as_ref().is_none_or(|wanted| *wanted == change.location_id)
    }

    fn takes_all(&self) -> bool {
        self.product_id.is_none() && self.location_id.is_none()
    }
}

/// Answers with the stream, from where the client last was or from now on.
pub fn follow(
    app: &App,
    config: Arc<Config>,
    headers: &HeaderMap,
    wanted: Wanted,
) -> Result<Response, Problem> {
    let last = last_place(headers)?;
    let full = || {
        app.metrics.streams_refused.inc();
        Problem::overloaded("as many clients follow stock as may (api.streams)")
    };
    let room = Arc::clone(&app.hub.room).try_acquire_owned().map_err(|_| full())?;
    let (live, now) = app.hub.subscribe().ok_or_else(|| {
        Problem::unavailable(
            "inventory_updates is not being read yet: Kafka is away, or `stocktide migrate` has not run",
        )
        .of("kafka")
    })?;
    let (begin, missed) = match last {
        Some(last) if last != now => {
            let busy = || Problem::overloaded("too many clients are catching up");
            let turn = Arc::clone(&app.hub.catching_up).try_acquire_owned().map_err(|_| busy())?;
            (last.clone(), Some(catch_up(config, last, now, wanted.clone(), turn)))
        }
        _ => (now, None),
    };
    let first = Bytes::from(format!("retry: {RETRY_MS}\nid: {begin}\n\n"));
    app.metrics.streams.inc();
    let client = Client {
        first: Some(first),
        missed,
        live,
        wanted,
        is_over: false,
        dropped: app.metrics.streams_dropped.clone(),
        shutdown: app.shutdown.clone(),
        _open: Open(app.metrics.streams.clone(), room),
    };
    let frames = stream::unfold(client, |mut client| async move {
        let frame = client.next().await?;
        Some((Ok::<_, std::convert::Infallible>(frame), client))
    });
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        // A proxy must not wait for more.
        (header::HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
    ];
    Ok((headers, Body::from_stream(frames)).into_response())
}

/// Where the client last was, by its own account.
fn last_place(headers: &HeaderMap) -> Result<Option<Place>, Problem> {
    let Some(given) = headers.get("last-event-id") else { return Ok(None) };
    let text = given.to_str().unwrap_or_default();
    if text.is_empty() {
        return Ok(None);
    }
    let wrong = || {
        let detail =
            format!("Last-Event-ID is {:?}; allowed: the id of an event of this stream", shown(text));
        Problem::invalid_parameter(detail).about("Last-Event-ID")
    };
    Place::read(text).map(Some).ok_or_else(wrong)
}

fn catch_up(
    config: Arc<Config>,
    from: Place,
    to: Place,
    wanted: Wanted,
    turn: OwnedSemaphorePermit,
) -> mpsc::Receiver<Bytes> {
    let (sender, receiver) = mpsc::channel(FRAMES_AHEAD);
    tokio::task::spawn_blocking(move || {
        replay::run(&config, &from, &to, &wanted, &sender);
        drop(turn);
    });
    receiver
}

/// Gives the client's place back when it is gone.
struct Open(IntGauge, #[allow(dead_code)] OwnedSemaphorePermit);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}

struct Client {
    first: Option<Bytes>,
    missed: Option<mpsc::Receiver<Bytes>>,
    live: broadcast::Receiver<Arc<Chunk>>,
    wanted: Wanted,
    is_over: bool,
    dropped: prometheus::IntCounter,
    shutdown: CancellationToken,
    _open: Open,
}

impl Client {
    /// What the client gets next; none: it is sent away.
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        while !self.is_over {
            let frame = tokio::select! {
                () = self.shutdown.cancelled() => return None,
                () = tokio::time::sleep(KEEPALIVE) => Some(Bytes::from_static(b": still here\n\n")),
                missed = of(&mut self.missed) => {
                    if missed.is_none() {
                        self.missed = None;
                    }
                    missed
                }
                live = self.live.recv(), if self.missed.is_none() => self.live_frame(live),
            };
            if frame.is_some() {
                return frame;
            }
        }
        None
    }

    fn live_frame(&mut self, live: Result<Arc<Chunk>, broadcast::error::RecvError>) -> Option<Bytes> {
        match live.as_deref() {
            Ok(Chunk::Changes(_, whole)) if self.wanted.takes_all() => Some(whole.clone()),
            Ok(Chunk::Changes(changes, _)) => {
                let frames: Vec<u8> = changes
                    .iter()
                    .filter(|c| self.wanted.takes(c))
                    .flat_map(|c| c.frame.iter().copied())
                    .collect();
                (!frames.is_empty()).then(|| Bytes::from(frames))
            }
            Ok(Chunk::Reset(frame)) => Some(frame.clone()),
            Err(broadcast::error::RecvError::Lagged(_)) => {
                self.is_over = true;
                self.dropped.inc();
                // It comes back with the last id that it saw, and gets what it missed.
                Some(Bytes::from_static(b": too slow, come back\n\n"))
            }
            Err(broadcast::error::RecvError::Closed) => {
                self.is_over = true;
                None
            }
        }
    }
}

/// What was missed; for ever nothing, where nothing was.
async fn of(missed: &mut Option<mpsc::Receiver<Bytes>>) -> Option<Bytes> {
    match missed {
        Some(receiver) => receiver.recv().await,
        None => std::future::pending().await,
    }
}
