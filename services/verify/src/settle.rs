//! Waits, within bounds, until what was under way when the database was read can be seen in Kafka.
//!
//! After a kill an open transaction hides the outputs behind it until the broker aborts it (rule 3 of the protocol), and between a commit in
//! PostgreSQL and the one in Kafka there is always a moment. Neither is a difference unless it lasts.

use std::time::{Duration, Instant};

use crate::checks::offsets::Output;
use crate::checks::{dlq, updates};
use crate::facts::Facts;
use crate::topics::{Committed, Extent, Topics};

/// Kafka, after the wait.
#[derive(Debug)]
pub struct Observed {
    /// Per input partition, the group's committed offset.
    pub committed: Vec<Option<Committed>>,
    /// Per input partition, where it begins and ends.
    pub inputs: Vec<Extent>,
    /// The partitions of the output topics.
    pub outputs: Vec<OutputExtent>,
}

/// A partition of an output topic.
#[derive(Debug, Clone)]
pub struct OutputExtent {
    /// The topic.
    pub topic: &'static str,
    /// The partition.
    pub partition: i32,
    /// Where it begins and ends; the end is what it was when everything had been published.
    pub extent: Extent,
}

impl OutputExtent {
    /// As the check of the offsets takes it.
    pub fn as_output(&self) -> Output {
        let Extent { stable, end, .. } = self.extent;
        Output { name: format!("{}-{}", self.topic, self.partition), stable, end }
    }
}

/// Waits until all that the database has settled is published, and readable in read_committed.
///
/// # Errors
/// Kafka does not answer. That the wait was in vain is no error: the checks tell.
pub fn wait(topics: &Topics, facts: &Facts, bound: Duration) -> anyhow::Result<Observed> {
    let deadline = Instant::now() + bound;
    let names: Vec<(String, i32)> = facts.partitions.iter().map(|p| (p.topic.clone(), p.partition)).collect();
    let committed = until(deadline, || {
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_secs(2));
        let committed = topics.committed(&names, left.min(Duration::from_secs(10)))?;
        let published = facts.partitions.iter().zip(&committed).all(|(partition, committed)| {
            let progress = partition.progress.unwrap_or_default();
            let number = committed.and_then(|committed| committed.number).unwrap_or(0);
            committed.map_or(progress.start_offset, |committed| committed.offset) >= progress.next_offset
                && number >= progress.timer_seq
        });
        Ok((committed, published))
    })?;
    let inputs =
        names.iter().map(|(topic, partition)| topics.extent(topic, *partition)).collect::<Result<_, _>>()?;
    let mut outputs = Vec::new();
    for topic in [updates::TOPIC, dlq::TOPIC] {
        for partition in topics.partitions(topic)? {
            outputs.push(OutputExtent { topic, partition, extent: topics.extent(topic, partition)? });
        }
    }
    let outputs = until(deadline, || {
        for output in outputs.iter_mut().filter(|output| output.extent.stable < output.extent.end) {
            output.extent.stable =
                topics.extent(output.topic, output.partition)?.stable.min(output.extent.end);
        }
        let readable = outputs.iter().all(|output| output.extent.stable >= output.extent.end);
        Ok((outputs.clone(), readable))
    })?;
    Ok(Observed { committed, inputs, outputs })
}

/// Asks until the answer is good or the deadline is past; then what the last answer was.
fn until<T>(deadline: Instant, mut ask: impl FnMut() -> anyhow::Result<(T, bool)>) -> anyhow::Result<T> {
    /// Between two questions.
    const PAUSE: Duration = Duration::from_millis(100);
    loop {
        let past = Instant::now() >= deadline;
        match ask() {
            Ok((answer, good)) if good || past => return Ok(answer),
            Err(error) if past => return Err(error),
            Err(error) => tracing::debug!("asking again: {error:#}"),
            Ok(_) => {}
        }
        std::thread::sleep(PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_asks_until_the_answer_is_good() -> anyhow::Result<()> {
        let mut asked = 0;
        let answer = until(Instant::now() + Duration::from_mins(1), || {
            asked += 1;
            anyhow::ensure!(asked > 1, "not yet");
            Ok((asked, asked == 3))
        })?;
        assert_eq!(answer, 3);
        Ok(())
    }

    #[test]
    fn past_the_deadline_the_last_answer_stands() -> anyhow::Result<()> {
        assert_eq!(until(Instant::now(), || Ok(("late", false)))?, "late");
        assert!(until::<()>(Instant::now(), || anyhow::bail!("gone")).is_err());
        Ok(())
    }
}
