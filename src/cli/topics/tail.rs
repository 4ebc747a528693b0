//! `topics tail`

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::{Duration, Instant};

use anyhow::bail;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};
use stocktide_runtime::kafka::{LogContext, is_secured};

use super::{TIMEOUT, consumer, fetch_topics, render};
use crate::cli::{Usage, say};

#[derive(Debug, clap::Args)]
pub struct TailArgs {
    /// The topic.
    topic: String,
    /// Where to start in each partition: an offset, beginning or end.
    #[arg(long, default_value = "beginning", value_name = "OFFSET|beginning|end")]
    from: From,
    /// End after so many records.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Go on with the records to come, until Ctrl-C.
    #[arg(long)]
    follow: bool,
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum From {
    Beginning,
    End,
    Offset(i64),
}

impl FromStr for From {
    type Err = String;

    fn from_str(text: &str) -> Result<From, String> {
        match text {
            "beginning" => Ok(From::Beginning),
            "end" => Ok(From::End),
            number => match number.parse::<i64>() {
                Ok(offset) if offset >= 0 => Ok(From::Offset(offset)),
                _ => Err("allowed: beginning, end, or an offset from 0".to_owned()),
            },
        }
    }
}

/// Prints a topic's records.
pub fn tail(client: &ClientConfig, args: &TailArgs) -> anyhow::Result<()> {
    read(client, args, |record| {
        say(if args.json { record.json()? } else { record.line() })?;
        Ok(())
    })
}

/// Shows the records that a topic holds now to `see`, at most `count` of them, partition by partition or mixed. It blocks.
///
/// # Errors
/// When Kafka is away, the topic is not there, or `see` fails.
pub fn each(
    client: &ClientConfig,
    topic: &str,
    count: Option<u64>,
    see: impl FnMut(&render::Record<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let topic = topic.to_owned();
    read(client, &TailArgs { topic, from: From::Beginning, count, follow: false, json: false }, see)
}

fn read(
    client: &ClientConfig,
    args: &TailArgs,
    mut see: impl FnMut(&render::Record<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let reader = consumer(client, "stocktide-topics", "read_committed")?;
    let mut ends = assign(&reader, args, is_secured(client))?;
    let mut left = args.count.unwrap_or(u64::MAX);
    let mut last_answer = Instant::now();
    while args.follow || !ends.is_empty() {
        match reader.poll(Duration::from_millis(500)) {
            Some(Ok(message)) => {
                let end = ends.get(&message.partition());
                // What came after the start of this command is not asked for.
                if args.follow || end.is_some_and(|end| message.offset() < *end) {
                    see(&render::Record::of(&message))?;
                    left -= 1;
                }
                if end.is_some_and(|end| message.offset() + 1 >= *end) {
                    ends.remove(&message.partition());
                }
            }
            // The last offsets of a partition may be marks of transactions and never come as records.
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                ends.remove(&partition);
            }
            Some(Err(error)) => return Err(error.into()),
            None if !args.follow && last_answer.elapsed() > TIMEOUT => {
                bail!(
                    "no answer for {} s, with {} partitions still to be read",
                    TIMEOUT.as_secs(),
                    ends.len()
                );
            }
            None => continue,
        }
        last_answer = Instant::now();
        if left == 0 {
            break;
        }
    }
    Ok(())
}

/// Assigns all partitions from where they are to be read, and returns the end offsets of those that hold something to read.
fn assign(
    reader: &BaseConsumer<LogContext>,
    args: &TailArgs,
    asks_who: bool,
) -> anyhow::Result<BTreeMap<i32, i64>> {
    let topics = fetch_topics(reader)?;
    let Some((topic, partitions)) = topics.iter().find(|(name, _)| *name == args.topic) else {
        let names: Vec<&str> = topics.iter().map(|(name, _)| name.as_str()).collect();
        // Brokers that ask who is there do not say which of the two it is.
        let or = if asks_who { ", or we lack a right on it" } else { "" };
        bail!(Usage(format!("there is no topic {:?}{or}; there are: {}", args.topic, names.join(", "))));
    };
    let mut assignment = TopicPartitionList::new();
    let mut ends = BTreeMap::new();
    for &partition in partitions {
        let (start, end) = reader.fetch_watermarks(topic, partition, TIMEOUT)?;
        let from = match args.from {
            From::Beginning => start,
            From::End => end,
            // A partition may begin later, or not have come so far.
            From::Offset(offset) => offset.clamp(start, end),
        };
        if from < end {
            ends.insert(partition, end);
        }
        if args.follow || from < end {
            assignment.add_partition_offset(topic, partition, Offset::Offset(from))?;
        }
    }
    reader.assign(&assignment)?;
    Ok(ends)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_is_a_word_or_an_offset() {
        assert_eq!("beginning".parse(), Ok(From::Beginning));
        assert_eq!("end".parse(), Ok(From::End));
        assert_eq!("42".parse(), Ok(From::Offset(42)));
        for wrong in ["-1", "start", "", "1.5"] {
            assert!(wrong.parse::<From>().is_err(), "{wrong}");
        }
    }
}
