//! Stock changes as they come: `inventory_updates` as server-sent events.
//!
//! One reader serves all clients ([`follower`]). Each record's event id is where every partition stands after it, so that
//! a client that comes back with the last id it saw gets what it missed ([`replay`]) and then goes on live ([`client`]).

mod client;
mod follower;
pub mod place;
mod replay;

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::{Semaphore, broadcast};

pub use client::{Wanted, follow};
pub use follower::run;
use place::Place;

/// Chunks that a client may be behind before it is sent away.
const CHUNKS_BEHIND: usize = 256;
/// Clients that may catch up at once: each reads Kafka by itself while it does.
const CATCHING_UP: usize = 8;

/// A record as it goes to the clients.
#[derive(Debug)]
struct Change {
    product_id: String,
    location_id: String,
    frame: Bytes,
}

/// Records that arrived together.
#[derive(Debug)]
enum Chunk {
    /// Changes, and all their frames in one.
    Changes(Vec<Change>, Bytes),
    /// Records are gone that nobody has seen: what a client knows of stock may be out of date.
    Reset(Bytes),
}

/// Between the one reader and its clients.
pub struct Hub {
    chunks: broadcast::Sender<Arc<Chunk>>,
    /// Where the reader stands; none: it has not begun. What is sent is sent under this lock.
    place: Mutex<Option<Place>>,
    /// Clients that may still come.
    room: Arc<Semaphore>,
    /// Clients that may still catch up.
    catching_up: Arc<Semaphore>,
}

impl Hub {
    /// Room for so many clients.
    pub fn new(streams: usize) -> Hub {
        Hub {
            chunks: broadcast::channel(CHUNKS_BEHIND).0,
            place: Mutex::new(None),
            room: Arc::new(Semaphore::new(streams)),
            catching_up: Arc::new(Semaphore::new(CATCHING_UP)),
        }
    }

    /// What comes from now on, and where now is; none: the reader has not begun.
    fn subscribe(&self) -> Option<(broadcast::Receiver<Arc<Chunk>>, Place)> {
        let place = self.lock();
        Some((self.chunks.subscribe(), place.as_ref()?.clone()))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Place>> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The part of a record that filters look at.
#[derive(serde::Deserialize)]
struct Named {
    product_id: String,
    location_id: String,
}

/// A record as an event; none: it is not what `inventory_updates` holds.
fn change(place: &Place, value: &[u8]) -> Option<Change> {
    let text = std::str::from_utf8(value).ok()?;
    let named: Named = serde_json::from_str(text).ok()?;
    // An event's data ends with its line.
    let data = if text.contains(['\n', '\r']) { text.replace(['\n', '\r'], " ") } else { text.to_owned() };
    let frame = Bytes::from(format!("id: {place}\nevent: stock\ndata: {data}\n\n"));
    Some(Change { product_id: named.product_id, location_id: named.location_id, frame })
}

/// Tells a client that it cannot know what it missed.
fn reset(place: &Place, why: &str) -> Bytes {
    let data = serde_json::json!({ "reason": why });
    Bytes::from(format!("id: {place}\nevent: reset\ndata: {data}\n\n"))
}
