//! What the Kafka client's safe interface does not offer.
#![allow(unsafe_code)]

use std::ffi::CStr;

use rdkafka::bindings as rd;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, ConsumerGroupMetadata};

/// Whether the consumer is a member of its group: a generation from 0 on and a member id. With anything else the broker
/// would skip the fencing of offset commits (rule 2).
pub fn is_member<C: ConsumerContext>(consumer: &BaseConsumer<C>) -> bool {
    // SAFETY: the handle is valid while the consumer lives; the metadata is freed exactly once, after its last use.
    unsafe {
        let metadata = rd::rd_kafka_consumer_group_metadata(consumer.client().native_ptr());
        if metadata.is_null() {
            return false;
        }
        let generation = rd::rd_kafka_consumer_group_metadata_generation_id(metadata);
        let member = rd::rd_kafka_consumer_group_metadata_member_id(metadata);
        let named = !member.is_null() && !CStr::from_ptr(member).is_empty();
        rd::rd_kafka_consumer_group_metadata_destroy(metadata);
        generation >= 0 && named
    }
}

/// The group metadata of a consumer that never joined: neither member nor generation, for a negative control.
pub fn stranger() -> Option<ConsumerGroupMetadata> {
    let mut client = rdkafka::ClientConfig::new();
    let consumer: BaseConsumer = client.set("group.id", "stocktide-processor").create().ok()?;
    consumer.group_metadata()
}
