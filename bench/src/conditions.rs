//! What a figure was measured under: the machine, and how durable everything is.

use std::sync::OnceLock;

use serde_json::{Map, Value, json};
use sqlx::PgPool;

static CONDITIONS: OnceLock<Value> = OnceLock::new();

/// What durability hangs on, and what a backlog's cost does.
const SETTINGS: [&str; 8] = [
    "server_version",
    "fsync",
    "synchronous_commit",
    "full_page_writes",
    "wal_level",
    "shared_buffers",
    "max_wal_size",
    "checkpoint_timeout",
];

/// Prints them before the first measurement of a run.
pub async fn tell(pool: &PgPool) -> anyhow::Result<()> {
    if CONDITIONS.get().is_some() {
        return Ok(());
    }
    let mut settings = Map::new();
    for name in SETTINGS {
        let value: String =
            sqlx::query_scalar("SELECT current_setting($1)").bind(name).fetch_one(pool).await?;
        settings.insert(name.to_owned(), Value::String(value));
    }
    let kafka = json!({ "acks": "all", "replicas": 1 });
    let conditions = json!({ "machine": machine(), "postgres": settings, "kafka": kafka });
    let told: Vec<String> = settings
        .iter()
        .map(|(name, value)| format!("{name} {}", value.as_str().unwrap_or_default()))
        .collect();
    println!("machine: {}", conditions["machine"].as_str().unwrap_or_default());
    println!("PostgreSQL: {}; Kafka: acks all, one replica", told.join(", "));
    // Another measurement may have told them meanwhile.
    let _ = CONDITIONS.set(conditions);
    Ok(())
}

/// What was told, for the file.
pub fn told() -> &'static Value {
    CONDITIONS.get().unwrap_or(&Value::Null)
}

fn machine() -> String {
    let line = |file: &str, name: &str| {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let found =
            text.lines().find_map(|line| line.strip_prefix(name)?.split_once(':').map(|(_, v)| v.trim()));
        found.unwrap_or("unknown").to_owned()
    };
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let java = std::env::var("JAVA_TOOL_OPTIONS").unwrap_or_default();
    let java = if java.is_empty() { String::new() } else { format!(", JAVA_TOOL_OPTIONS {java}") };
    format!(
        "{cores} cores ({}), {} of memory, Linux {}{java}",
        line("/proc/cpuinfo", "model name"),
        line("/proc/meminfo", "MemTotal"),
        kernel.trim()
    )
}
