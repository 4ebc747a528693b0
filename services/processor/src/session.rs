//! A session: the time in which this process owns a set of partitions in one generation of the group.
//!
//! Everything in hand belongs to a session and carries its stamp, the group metadata, from beginning to end; it is never
//! stamped anew (rule 2). A rebalance ends the session, and so does any doubt; what is then still in hand is dropped, and
//! the next session begins by reading the positions again.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::consumer::ConsumerGroupMetadata;
use stocktide_store::Partition;
use stocktide_store::broken::{self, Broken};

/// The partitions that this process owns, and the stamp of its ownership.
pub struct Session {
    /// What it owns.
    pub partitions: Vec<Partition>,
    /// Member and generation, as they were when it began.
    stamp: Arc<ConsumerGroupMetadata>,
    ended: AtomicBool,
    in_hand: Mutex<usize>,
    changed: Condvar,
}

impl Session {
    /// A session that begins.
    pub fn begin(partitions: Vec<Partition>, stamp: ConsumerGroupMetadata) -> Arc<Session> {
        let (ended, in_hand, changed) = (AtomicBool::new(false), Mutex::new(0), Condvar::new());
        let stamp = Arc::new(stamp);
        #[cfg(feature = "broken")]
        anew::note(&stamp);
        Arc::new(Session { partitions, stamp, ended, in_hand, changed })
    }

    /// Member and generation, as they were when it began.
    pub fn stamp(&self) -> Arc<ConsumerGroupMetadata> {
        #[cfg(feature = "broken")]
        if let Some(newest) = anew::newest() {
            return newest;
        }
        Arc::clone(&self.stamp)
    }

    /// Whether what belongs to it may be published.
    pub fn may_publish(&self) -> bool {
        self.is_live() || broken::is(Broken::StampedAnew) || broken::is(Broken::NoGeneration)
    }

    /// Ends it: nothing that belongs to it goes any further.
    pub fn end(&self) {
        self.ended.store(true, Ordering::SeqCst);
        self.changed.notify_all();
    }

    /// Whether it goes on.
    pub fn is_live(&self) -> bool {
        !self.ended.load(Ordering::SeqCst)
    }

    /// Takes a batch in hand, until the answer is dropped.
    pub fn take(self: &Arc<Self>) -> InHand {
        *self.lock() += 1;
        InHand { session: Arc::clone(self) }
    }

    /// Waits until fewer than `limit` batches are in hand; false where that takes longer.
    pub fn wait_below(&self, limit: usize, longest: Duration) -> bool {
        let deadline = Instant::now() + longest;
        let mut in_hand = self.lock();
        while *in_hand >= limit {
            let Some(left) = deadline.checked_duration_since(Instant::now()) else { return false };
            in_hand = self.changed.wait_timeout(in_hand, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// Waits until nothing is in hand; false where that takes longer.
    pub fn wait_idle(&self, longest: Duration) -> bool {
        self.wait_below(1, longest)
    }

    fn lock(&self) -> MutexGuard<'_, usize> {
        self.in_hand.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Something of a session that is in hand.
pub struct InHand {
    session: Arc<Session>,
}

impl InHand {
    /// The session that it belongs to.
    pub fn session(&self) -> &Arc<Session> {
        &self.session
    }
}

impl Drop for InHand {
    fn drop(&mut self) {
        *self.session.lock() -= 1;
        self.session.changed.notify_all();
    }
}

/// Of a negative control: the stamp of the newest session, whatever session a batch belongs to.
#[cfg(feature = "broken")]
pub mod anew {
    use std::sync::{Arc, Mutex, PoisonError};
    use std::time::{Duration, Instant};

    use rdkafka::consumer::ConsumerGroupMetadata;
    use stocktide_store::broken::{self, Broken};

    static NEWEST: Mutex<Option<Arc<ConsumerGroupMetadata>>> = Mutex::new(None);

    pub(super) fn note(stamp: &Arc<ConsumerGroupMetadata>) {
        *NEWEST.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(stamp));
    }

    /// The stamp of the newest session, in that control alone.
    pub fn newest() -> Option<Arc<ConsumerGroupMetadata>> {
        let newest = NEWEST.lock().unwrap_or_else(PoisonError::into_inner).clone();
        newest.filter(|_| broken::is(Broken::StampedAnew))
    }

    /// Waits until there is a newer session than the one of this stamp.
    pub fn wait_for_another(stamp: &Arc<ConsumerGroupMetadata>) {
        let deadline = Instant::now() + Duration::from_secs(15);
        while newest().is_some_and(|newest| Arc::ptr_eq(&newest, stamp)) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
