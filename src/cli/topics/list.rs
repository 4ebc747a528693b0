//! `topics list`

use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaResult, RDKafkaErrorCode};
use rdkafka::groups::GroupList;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use serde::Serialize;
use stocktide_runtime::kafka::LogContext;

use super::{TIMEOUT, consumer, fetch_topics};
use crate::cli::say;
use crate::cli::table::table;

/// A partition, and how far each group has read it.
#[derive(Debug, Serialize)]
struct Line {
    topic: String,
    partition: i32,
    start: i64,
    end: i64,
    groups: Vec<Group>,
}

#[derive(Debug, Serialize)]
struct Group {
    group: String,
    committed: i64,
    /// Offsets between the committed one and the end.
    lag: i64,
}

/// Prints all topics.
pub fn list(client: &ClientConfig, json: bool) -> anyhow::Result<()> {
    let reader = consumer(client, "stocktide-topics", "read_committed")?;
    let mut lines = Vec::new();
    for (topic, partitions) in fetch_topics(&reader)? {
        for partition in partitions {
            let (start, end) = reader.fetch_watermarks(&topic, partition, TIMEOUT)?;
            lines.push(Line { topic: topic.clone(), partition, start, end, groups: Vec::new() });
        }
    }
    let groups = fetch_groups(&reader)?;
    let mut groups: Vec<&str> = groups.groups().iter().map(rdkafka::groups::GroupInfo::name).collect();
    groups.sort_unstable();
    for group in groups {
        add_lag(client, group, &mut lines)?;
    }
    if json {
        for line in &lines {
            say(serde_json::to_string(line)?)?;
        }
        return Ok(());
    }
    say(table(&["topic", "partition", "start", "end", "group", "committed", "lag"], &rows(&lines)))?;
    Ok(())
}

/// The groups; a broker that has just begun to coordinate some is still reading them, and the client does not ask again.
fn fetch_groups(reader: &impl Consumer<LogContext>) -> KafkaResult<GroupList> {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        match reader.fetch_group_list(None, TIMEOUT) {
            Err(error)
                if error.rdkafka_error_code() == Some(RDKafkaErrorCode::CoordinatorLoadInProgress)
                    && Instant::now() < deadline =>
            {
                std::thread::sleep(Duration::from_millis(100));
            }
            answer => return answer,
        }
    }
}

fn add_lag(client: &ClientConfig, group: &str, lines: &mut [Line]) -> anyhow::Result<()> {
    let mut wanted = TopicPartitionList::new();
    for line in lines.iter() {
        wanted.add_partition(&line.topic, line.partition);
    }
    // Read_uncommitted, because the answer must not wait for a transaction that a dead processor left open.
    let committed = consumer(client, group, "read_uncommitted")?.committed_offsets(wanted, TIMEOUT)?;
    for line in lines {
        let found = committed.find_partition(&line.topic, line.partition).map(|p| p.offset());
        if let Some(Offset::Offset(committed)) = found {
            line.groups.push(Group {
                group: group.to_owned(),
                committed,
                lag: (line.end - committed).max(0),
            });
        }
    }
    Ok(())
}

fn rows(lines: &[Line]) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    for line in lines {
        let start = vec![
            line.topic.clone(),
            line.partition.to_string(),
            line.start.to_string(),
            line.end.to_string(),
        ];
        if line.groups.is_empty() {
            rows.push([start.clone(), vec!["-".to_owned(); 3]].concat());
        }
        for group in &line.groups {
            let end = vec![group.group.clone(), group.committed.to_string(), group.lag.to_string()];
            rows.push([start.clone(), end].concat());
        }
    }
    rows
}
