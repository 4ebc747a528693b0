//! `stocktide topics list|tail`: what is in Kafka, as a reader in read_committed mode sees it.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::metadata::Metadata;
use stocktide_runtime::Config;
use stocktide_runtime::kafka::{self, LogContext};

use super::Usage;

mod acls;
mod list;
pub mod render;
pub mod tail;

/// How long Kafka may take to answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Look at Kafka's topics: partitions, offsets, lag, records.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stocktide topics list
  stocktide topics tail inventory_updates --follow
  stocktide topics tail dlq --from end --follow --json")]
pub struct TopicsArgs {
    #[command(subcommand)]
    command: TopicsCommand,
}

#[derive(Debug, clap::Subcommand)]
enum TopicsCommand {
    /// List the topics: partitions, start and end offsets, and the lag of each consumer group.
    #[command(after_help = "Example:
  stocktide topics list --json | jq 'select(.topic == \"online_orders\")'")]
    List {
        /// One JSON object a line, one for each partition.
        #[arg(long)]
        json: bool,
    },
    /// Print the records of a topic: those that are there now, or with --follow also those to come.
    #[command(after_help = "Examples:
  stocktide topics tail inventory_updates --count 10
  stocktide topics tail online_orders --from end --follow
  stocktide topics tail dlq --json | jq -r .value")]
    Tail(tail::TailArgs),
    /// Print what each service has to be allowed where the brokers ask for ACLs, as commands of Kafka's own tool; or give it
    /// them.
    #[command(after_help = "Examples:
  export BROKERS=kafka:9092; stocktide topics acls | sh -x
  stocktide topics acls --apply
  stocktide topics acls --service api --principal api=User:CN=api --json")]
    Acls(acls::AclsArgs),
}

impl TopicsArgs {
    /// Whether Kafka is needed.
    pub fn connects(&self) -> bool {
        !matches!(&self.command, TopicsCommand::Acls(args) if !args.applies())
    }
}

/// Runs it.
///
/// # Errors
/// When Kafka is away, or the topic is not there.
pub async fn run(args: TopicsArgs, config: &Config) -> anyhow::Result<ExitCode> {
    if let TopicsCommand::Acls(args) = args.command {
        let (config, shown) = (config.clone(), config.kafka.brokers.clone().unwrap_or_default());
        let work = tokio::task::spawn_blocking(move || acls::acls(&args, &config));
        let at = |error: anyhow::Error| {
            if error.is::<Usage>() { error } else { error.context(format!("Kafka at {shown}")) }
        };
        return work.await?.map_err(at).map(|()| ExitCode::SUCCESS);
    }
    let brokers = config.kafka_brokers()?;
    let client = kafka::client_config(config);
    // librdkafka's calls block.
    let work = tokio::task::spawn_blocking(move || match args.command {
        TopicsCommand::List { json } => list::list(&client, json),
        TopicsCommand::Tail(args) => tail::tail(&client, &args),
        TopicsCommand::Acls(_) => Ok(()),
    });
    work.await?.with_context(|| format!("Kafka at {brokers}")).map(|()| ExitCode::SUCCESS)
}

/// A consumer that commits nothing and joins no group; the name only tells whose committed offsets it asks for.
fn consumer(client: &ClientConfig, group: &str, isolation: &str) -> anyhow::Result<BaseConsumer<LogContext>> {
    let mut client = client.clone();
    client
        .set("group.id", group)
        .set("isolation.level", isolation)
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "error")
        .set("enable.partition.eof", "true")
        .set("check.crcs", "true");
    kafka::consumer(&client, LogContext)
}

/// The topics that are not Kafka's own, sorted, each with its partitions.
fn topics_of(metadata: &Metadata) -> Vec<(String, Vec<i32>)> {
    let mut topics: Vec<(String, Vec<i32>)> = metadata
        .topics()
        .iter()
        .filter(|t| !t.name().starts_with("__"))
        .map(|t| {
            let mut partitions: Vec<i32> =
                t.partitions().iter().map(rdkafka::metadata::MetadataPartition::id).collect();
            partitions.sort_unstable();
            (t.name().to_owned(), partitions)
        })
        .collect();
    topics.sort();
    topics
}

fn fetch_topics(consumer: &BaseConsumer<LogContext>) -> anyhow::Result<Vec<(String, Vec<i32>)>> {
    Ok(topics_of(&consumer.fetch_metadata(None, TIMEOUT)?))
}
