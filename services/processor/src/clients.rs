//! How the consumer and the producer are configured, and why.

use rdkafka::ClientConfig;
use stocktide_runtime::config::Config;
use stocktide_store::broken::{self, Broken};

/// The consumer of the input topics.
pub fn consumer(config: &Config) -> ClientConfig {
    let mut client = stocktide_runtime::kafka::client_config(config);
    let isolation = if broken::is(Broken::PendingIgnored) { "read_uncommitted" } else { "read_committed" };
    client
        .set("group.id", &config.kafka.group)
        // Rule 1: it is this that makes the broker hold back committed offsets while a transaction on them is pending.
        .set("isolation.level", isolation)
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        // A truncated topic is an alarm, not a silent skip.
        .set("auto.offset.reset", "error")
        // Eager: a session ends with its generation anyway (docs/adr/0003), so a partition that could stay gains nothing.
        .set("partition.assignment.strategy", "roundrobin")
        .set("session.timeout.ms", config.kafka.session_timeout.as_millis().to_string())
        .set("heartbeat.interval.ms", heartbeat_ms(config))
        .set("max.poll.interval.ms", "300000")
        // Topics that are made, and partitions that are added, while it runs are seen soon: the default is five minutes.
        .set("topic.metadata.refresh.interval.ms", "10000")
        .set("check.crcs", "true")
        // Enough to keep decoding busy while the next answer is on its way, and little enough to stay in the CPU's caches and
        // out of the memory that a backlog takes.
        .set("fetch.message.max.bytes", "1048576")
        .set("fetch.max.bytes", "8388608")
        .set("queued.max.messages.kbytes", "16384")
        .set("reconnect.backoff.max.ms", "1000");
    client
}

/// Rule 3: often enough that a third of the session never passes without one.
fn heartbeat_ms(config: &Config) -> String {
    let longest = config.kafka.session_timeout / 3;
    config.kafka.heartbeat_interval.min(longest).as_millis().max(1).to_string()
}

/// The transactional producer of the outputs.
pub fn producer(config: &Config, transactional_id: &str) -> ClientConfig {
    let mut client = stocktide_runtime::kafka::client_config(config);
    client
        .set("transactional.id", transactional_id)
        .set("transaction.timeout.ms", config.kafka.transaction_timeout.as_millis().to_string())
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("compression.type", "lz4")
        // As the Java clients do, so that a key has one partition whoever writes it.
        .set("partitioner", "murmur2_random")
        .set("linger.ms", "1")
        // Transactions follow each other at once; the default backoff of 100 ms would be waited out at each.
        .set("retry.backoff.ms", "2")
        .set("retry.backoff.max.ms", "50")
        // The topics limit the size; a rejected record may be as large as its topic takes.
        .set("message.max.bytes", "1000000000")
        .set("queue.buffering.max.messages", "2000000")
        .set("queue.buffering.max.kbytes", "2097151")
        .set("reconnect.backoff.max.ms", "1000");
    client
}
