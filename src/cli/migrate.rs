//! `stocktide migrate`: the schema and the topics, brought up to date.

use std::process::ExitCode;

use anyhow::Context as _;
use stocktide_runtime::kafka::{self, Change};
use stocktide_runtime::{Config, secret::mask_url};
use stocktide_store::migrate::{MigrateError, Migrated};

use super::{Usage, say};

/// Bring the database's schema and Kafka's topics up to date. May be run again, and by several at once.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stocktide migrate
  STOCKTIDE_TOPICS_PARTITIONS=12 STOCKTIDE_BUSINESS_TIMEZONE=Europe/London stocktide migrate

The first run fixes business.currency and business.timezone. Topics that are there keep their partitions and what was
set for them; the command says where they differ from the configuration.")]
pub struct MigrateArgs {
    /// One JSON object on one line.
    #[arg(long)]
    json: bool,
}

/// Runs it.
///
/// # Errors
/// When the database or Kafka is not fit, or away.
pub async fn run(args: MigrateArgs, config: &Config) -> anyhow::Result<ExitCode> {
    // Both are asked for before anything is done, so that a missing one leaves nothing half done.
    let url = config.database_url()?;
    config.kafka_brokers()?;
    let business = &config.business;
    let migrated = stocktide_store::migrate::run(&url, &business.currency, business.timezone.name()).await;
    let migrated = migrated.map_err(|error| match error {
        MigrateError::Fixed { .. } => anyhow::Error::new(Usage(error.to_string())),
        other => anyhow::Error::new(other).context(format!("PostgreSQL at {}", mask_url(&url))),
    })?;
    let granted = stocktide_store::roles::grant(&url, &config.database.role_prefix).await;
    let granted =
        granted.with_context(|| format!("the rights of the services' roles at {}", mask_url(&url)))?;
    let changes = kafka::ensure_topics(config).await?;
    if args.json {
        let topics: Vec<String> = changes.iter().map(ToString::to_string).collect();
        say(serde_json::json!({ "schema": migrated, "roles": granted, "topics": topics }))?;
    } else {
        print(&migrated, &granted, &changes, config)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn print(
    migrated: &Migrated,
    granted: &[String],
    changes: &[kafka::TopicChange],
    config: &Config,
) -> anyhow::Result<()> {
    for migration in &migrated.applied {
        say(format!("schema: applied {migration}"))?;
    }
    if migrated.applied.is_empty() {
        say("schema: up to date")?;
    }
    if migrated.is_new {
        let business = &config.business;
        say(format!("installation: currency {}, business days in {}", business.currency, business.timezone))?;
    }
    if !granted.is_empty() {
        say(format!("roles: rights given to {}", granted.join(", ")))?;
    }
    for change in changes {
        say(format!("topic {change}"))?;
    }
    if !changes.iter().any(|c| !matches!(c.change, Change::LeftAsItIs(_))) {
        say("topics: up to date")?;
    }
    Ok(())
}
