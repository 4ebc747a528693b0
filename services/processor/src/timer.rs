//! When the payments that wait for their order are looked at, and where the owned partitions of `payments` stand.
//!
//! What a look does is in `stocktide_store::timer`; here it is made part of the protocol (rule 6): the outputs have numbers,
//! and every offset that is committed for a partition of `payments` carries the number up to which they are published.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use stocktide_domain::Source;
use stocktide_store::{Partition, Stand, Tick, Ticked};

use crate::publisher::Mark;
use crate::session::Session;

/// Between two looks while something waits.
const BUSY: Duration = Duration::from_millis(250);
/// Between two looks while nothing does: an owner finds out, too, whether it still is one.
const IDLE: Duration = Duration::from_secs(1);

/// The partitions of `payments` that a session owns.
#[derive(Default)]
pub struct Timer {
    session: Option<Arc<Session>>,
    stands: BTreeMap<i32, Stand>,
    /// When the last look that was finished began.
    since: Option<DateTime<Utc>>,
    next: Option<Instant>,
}

impl Timer {
    /// A session begins: everything that waits is looked at once.
    pub fn begin(&mut self, session: &Arc<Session>, stands: BTreeMap<i32, Stand>) {
        let next = (!stands.is_empty()).then(Instant::now);
        *self = Timer { session: Some(Arc::clone(session)), stands, since: None, next };
    }

    /// When the next look is due; none where there is nothing to look at.
    pub fn next(&self) -> Option<Instant> {
        self.session().and(self.next)
    }

    /// The session, while it lives and owns a partition of `payments`.
    pub fn session(&self) -> Option<&Arc<Session>> {
        self.session.as_ref().filter(|session| session.is_live() && !self.stands.is_empty())
    }

    /// The look that is due.
    pub fn tick(&self, now: DateTime<Utc>) -> Tick<'_> {
        Tick { stands: &self.stands, now, since: self.since }
    }

    /// A look is finished; returns what is to be committed with its outputs.
    pub fn ticked(&mut self, begun: DateTime<Utc>, ticked: &Ticked) -> BTreeMap<Partition, Mark> {
        for (partition, timer_seq) in &ticked.timers {
            if let Some(stand) = self.stands.get_mut(partition) {
                stand.timer_seq = *timer_seq;
            }
        }
        if !ticked.more {
            self.since = Some(begun);
        }
        let waits = ticked.waiting.values().any(|parked| *parked > 0);
        let pause = match () {
            () if ticked.more => Duration::ZERO,
            () if waits => BUSY,
            () => IDLE,
        };
        self.next = Some(Instant::now() + pause);
        let positions =
            ticked.timers.keys().filter_map(|p| Some(((Source::Payments, *p), self.stands.get(p)?)));
        positions.map(|(partition, stand)| (partition, mark(*stand))).collect()
    }

    /// The number up to which the timer has put out, of a partition of payments.
    pub fn number(&self, (source, partition): Partition) -> Option<i64> {
        let stand = self.stands.get(&partition).filter(|_| source == Source::Payments);
        stand.map(|stand| stand.timer_seq)
    }

    /// A look was not possible.
    pub fn put_off(&mut self) {
        self.next = Some(Instant::now() + IDLE);
    }

    /// A batch was applied: where its partitions stand now. What is to be committed with its outputs.
    pub fn applied(
        &mut self,
        positions: &BTreeMap<Partition, i64>,
        parked: bool,
    ) -> BTreeMap<Partition, Mark> {
        let mut marks = BTreeMap::new();
        for (partition, offset) in positions {
            let mut new = Mark { offset: *offset, timer_seq: 0 };
            if partition.0 == Source::Payments
                && let Some(stand) = self.stands.get_mut(&partition.1)
            {
                stand.next_offset = *offset;
                new = mark(*stand);
            }
            marks.insert(*partition, new);
        }
        if parked {
            let soon = Instant::now() + BUSY;
            self.next = self.next.map(|next| next.min(soon));
        }
        marks
    }
}

fn mark(stand: Stand) -> Mark {
    Mark { offset: stand.next_offset, timer_seq: stand.timer_seq }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn positions(payments: i64) -> BTreeMap<Partition, i64> {
        [((Source::OnlineOrders, 0), 7), ((Source::Payments, 1), payments)].into()
    }

    #[test]
    fn every_offset_of_payments_carries_the_number_up_to_which_the_timer_has_put_out() {
        let stands = [(1, Stand { next_offset: 20, timer_seq: 3 })].into();
        let mut timer = Timer { stands, ..Timer::default() };
        let marks = timer.applied(&positions(25), true);
        assert_eq!(marks[&(Source::OnlineOrders, 0)], Mark { offset: 7, timer_seq: 0 });
        assert_eq!(marks[&(Source::Payments, 1)], Mark { offset: 25, timer_seq: 3 });
        let now = DateTime::UNIX_EPOCH;
        let ticked = Ticked { timers: [(1, 5)].into(), ..Ticked::default() };
        let marks = timer.ticked(now, &ticked);
        assert_eq!(marks, [((Source::Payments, 1), Mark { offset: 25, timer_seq: 5 })].into());
        assert_eq!(
            timer.applied(&positions(30), false)[&(Source::Payments, 1)],
            Mark { offset: 30, timer_seq: 5 }
        );
        assert_eq!(timer.tick(now).stands[&1], Stand { next_offset: 30, timer_seq: 5 });
        // Nothing put out: nothing to commit.
        assert!(timer.ticked(now, &Ticked::default()).is_empty());
    }

    #[test]
    fn a_look_that_was_not_finished_is_made_again_over_the_same_time() {
        let mut timer = Timer::default();
        let at = |second| DateTime::from_timestamp(second, 0).unwrap_or_default();
        timer.ticked(at(10), &Ticked::default());
        assert_eq!(timer.tick(at(11)).since, Some(at(10)));
        timer.ticked(at(11), &Ticked { more: true, ..Ticked::default() });
        assert_eq!(timer.tick(at(12)).since, Some(at(10)));
    }
}
