//! The topics, brought up to date by `stocktide migrate`.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, ConfigResource, ConfigSource, NewTopic, OwnedResourceSpecifier,
    ResourceSpecifier, TopicReplication,
};
use rdkafka::types::RDKafkaErrorCode;

use super::{DLQ, INVENTORY_UPDATES, LogContext, TOPICS, client_config};
use crate::Config;

/// What `dlq` takes beyond the inputs' `max.message.bytes`, in bytes: room for the headers that say what was wrong.
pub const DLQ_HEADROOM_BYTES: usize = 65_536;

const TIMEOUT: Duration = Duration::from_secs(30);

/// What was done to a topic, or should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicChange {
    /// The topic.
    pub topic: &'static str,
    /// What.
    pub change: Change,
}

/// What was done to a topic, or should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It is new.
    Created {
        /// With so many partitions.
        partitions: i32,
    },
    /// One of its settings was changed.
    Set {
        /// Kafka's name of the setting.
        name: &'static str,
        /// What it was before.
        from: String,
        /// What it is now.
        to: String,
    },
    /// It differs from the configuration in what is not changed under a running installation; the text says in what.
    LeftAsItIs(String),
}

impl fmt::Display for TopicChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.change {
            Change::Created { partitions } => {
                write!(f, "{}: created with {partitions} partitions", self.topic)
            }
            Change::Set { name, from, to } => write!(f, "{}: {name} set to {to} (was {from})", self.topic),
            Change::LeftAsItIs(how) => write!(f, "{}: left as it is: {how}", self.topic),
        }
    }
}

/// Creates the topics that are missing, gives the others the settings that they have none of their own for, and says what
/// it left alone. Partitions are never added: keys would move to other partitions, and an order's events with them.
///
/// Several may run at once.
///
/// # Errors
/// When Kafka cannot be reached or refuses, or a topic is compacted: compaction would drop records that must be counted.
pub async fn ensure_topics(config: &Config) -> anyhow::Result<Vec<TopicChange>> {
    let brokers = config.kafka_brokers()?;
    let admin = Arc::new(super::admin(&client_config(config), LogContext)?);
    let mut changes = create_missing(&admin, config).await.with_context(|| format!("Kafka at {brokers}"))?;
    let created: Vec<&str> = changes.iter().map(|c| c.topic).collect();
    let existing: Vec<&'static str> = TOPICS.into_iter().filter(|t| !created.contains(t)).collect();
    if existing.is_empty() {
        return Ok(changes);
    }
    let settings = describe(&admin, &existing).await?;
    refuse_compaction(&settings)?;
    let wanted = dlq_last(&settings, config);
    for (topic, resource) in &settings {
        changes.extend(bring_up_to_date(&admin, topic, resource, &wanted).await?);
    }
    changes.extend(compare_partitions(admin, existing, config.topics.partitions).await?);
    Ok(changes)
}

/// The settings that a topic should have.
struct Wanted {
    retention_ms: i64,
    input_bytes: usize,
    dlq_bytes: usize,
}

impl Wanted {
    fn max_message_bytes(&self, topic: &str) -> Option<usize> {
        match topic {
            DLQ => Some(self.dlq_bytes),
            INVENTORY_UPDATES => None,
            _ => Some(self.input_bytes),
        }
    }
}

/// `dlq` must take the largest record of the largest input, whatever the inputs were set to.
fn dlq_last(settings: &BTreeMap<&'static str, ConfigResource>, config: &Config) -> Wanted {
    let input_bytes = config.topics.max_message_bytes;
    let largest = settings
        .iter()
        .filter(|(topic, _)| ![DLQ, INVENTORY_UPDATES].contains(topic))
        .filter_map(|(_, resource)| own(resource, "max.message.bytes")?.parse::<usize>().ok())
        .fold(input_bytes, usize::max);
    Wanted { retention_ms: config.topics.retention_ms, input_bytes, dlq_bytes: largest + DLQ_HEADROOM_BYTES }
}

async fn create_missing(
    admin: &AdminClient<LogContext>,
    config: &Config,
) -> anyhow::Result<Vec<TopicChange>> {
    let wanted = dlq_last(&BTreeMap::new(), config);
    let retention = wanted.retention_ms.to_string();
    let sizes: Vec<(&str, Option<String>)> =
        TOPICS.into_iter().map(|t| (t, wanted.max_message_bytes(t).map(|b| b.to_string()))).collect();
    let partitions = config.topics.partitions;
    let topics: Vec<NewTopic> = sizes
        .iter()
        .map(|(topic, size)| {
            let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(config.topics.replication))
                .set("cleanup.policy", "delete")
                .set("retention.ms", &retention);
            size.iter().fold(new, |new, size| new.set("max.message.bytes", size))
        })
        .collect();
    let options = AdminOptions::new().request_timeout(Some(TIMEOUT)).operation_timeout(Some(TIMEOUT));
    let mut changes = Vec::new();
    for (topic, answer) in TOPICS.into_iter().zip(admin.create_topics(&topics, &options).await?) {
        match answer {
            Ok(_) => changes.push(TopicChange { topic, change: Change::Created { partitions } }),
            Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((topic, code)) => bail!("cannot create topic {topic}: {code}"),
        }
    }
    Ok(changes)
}

async fn describe(
    admin: &AdminClient<LogContext>,
    topics: &[&'static str],
) -> anyhow::Result<BTreeMap<&'static str, ConfigResource>> {
    let specifiers: Vec<ResourceSpecifier> = topics.iter().map(|t| ResourceSpecifier::Topic(t)).collect();
    let options = AdminOptions::new().request_timeout(Some(TIMEOUT));
    let mut settings = BTreeMap::new();
    for answer in admin.describe_configs(&specifiers, &options).await? {
        let resource = answer.map_err(|code| anyhow!("the topics' settings: {code}"))?;
        let OwnedResourceSpecifier::Topic(name) = &resource.specifier else { continue };
        if let Some(topic) = topics.iter().find(|t| *t == name) {
            settings.insert(*topic, resource);
        }
    }
    Ok(settings)
}

/// Rule 9 of the protocol: compaction would drop records that must be counted.
fn refuse_compaction(settings: &BTreeMap<&'static str, ConfigResource>) -> anyhow::Result<()> {
    for (topic, resource) in settings {
        let policy = resource.get("cleanup.policy").and_then(|e| e.value.as_deref()).unwrap_or("delete");
        if policy.split(',').any(|p| p.trim() == "compact") {
            bail!(
                "topic {topic} has cleanup.policy={policy}; allowed: delete (compaction drops records that must be counted)"
            );
        }
    }
    Ok(())
}

/// A setting that the topic has of its own, rather than from the broker's defaults.
fn own<'a>(resource: &'a ConfigResource, name: &str) -> Option<&'a str> {
    let entry = resource.get(name)?;
    (entry.source == ConfigSource::DynamicTopic).then_some(entry.value.as_deref()).flatten()
}

async fn bring_up_to_date(
    admin: &AdminClient<LogContext>,
    topic: &'static str,
    resource: &ConfigResource,
    wanted: &Wanted,
) -> anyhow::Result<Vec<TopicChange>> {
    let current = |name: &str| resource.get(name).and_then(|e| e.value.clone()).unwrap_or_default();
    let mut set: Vec<(&'static str, String)> = Vec::new();
    let mut changes = Vec::new();
    let retention = wanted.retention_ms.to_string();
    match own(resource, "retention.ms") {
        Some(own) if own != retention => {
            let how = format!("its retention.ms is {own}, configured is {retention}");
            changes.push(TopicChange { topic, change: Change::LeftAsItIs(how) });
        }
        Some(_) => {}
        None => set.push(("retention.ms", retention)),
    }
    if let Some(bytes) = wanted.max_message_bytes(topic) {
        // More than is needed harms nobody: `dlq` follows the largest input.
        let is_enough = |own: &str| own.parse::<usize>().is_ok_and(|own| own >= bytes);
        if !own(resource, "max.message.bytes").is_some_and(is_enough) {
            set.push(("max.message.bytes", bytes.to_string()));
        }
    }
    if set.is_empty() {
        return Ok(changes);
    }
    // The request replaces all of the topic's own settings, so those that stay go along.
    let kept = resource.entries.iter().filter(|e| !set.iter().any(|(name, _)| *name == e.name));
    let mut request = AlterConfig::new(ResourceSpecifier::Topic(topic));
    for entry in kept.filter(|e| e.source == ConfigSource::DynamicTopic) {
        request = request.set(&entry.name, entry.value.as_deref().unwrap_or_default());
    }
    for (name, value) in &set {
        request = request.set(name, value);
    }
    let options = AdminOptions::new().request_timeout(Some(TIMEOUT));
    for answer in admin.alter_configs([&request], &options).await? {
        answer.map_err(|(_, code)| anyhow!("cannot change the settings of topic {topic}: {code}"))?;
    }
    changes.extend(
        set.into_iter()
            .map(|(name, to)| TopicChange { topic, change: Change::Set { name, from: current(name), to } }),
    );
    Ok(changes)
}

async fn compare_partitions(
    admin: Arc<AdminClient<LogContext>>,
    topics: Vec<&'static str>,
    configured: i32,
) -> anyhow::Result<Vec<TopicChange>> {
    let metadata = tokio::task::spawn_blocking(move || admin.inner().fetch_metadata(None, TIMEOUT)).await??;
    let mut changes = Vec::new();
    for topic in topics {
        let Some(found) = metadata.topics().iter().find(|t| t.name() == topic) else { continue };
        let partitions = found.partitions().len();
        if usize::try_from(configured).is_ok_and(|c| c != partitions) {
            let how = format!(
                "it has {partitions} partitions, configured are {configured} (another number moves keys to other partitions)"
            );
            changes.push(TopicChange { topic, change: Change::LeftAsItIs(how) });
        }
    }
    Ok(changes)
}
