//! The two things that the Kafka client's safe interface does not offer.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::{ptr, slice};

use rdkafka::bindings as rd;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::message::BorrowedMessage;
use stocktide_store::Headers;

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

/// A message's headers. The client's own accessor panics on a name that is not UTF-8, and no input may do that.
pub fn headers(message: &BorrowedMessage<'_>) -> Headers {
    let mut headers = Headers::new();
    // SAFETY: the message lives as long as its borrow, and with it its headers, names and values, which are copied here.
    unsafe {
        let mut list = ptr::null_mut();
        if rd::rd_kafka_message_headers(message.ptr(), &raw mut list) != rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            return headers;
        }
        let (mut name, mut value, mut length) = (ptr::null(), ptr::null(), 0);
        for at in 0.. {
            let found = rd::rd_kafka_header_get_all(list, at, &raw mut name, &raw mut value, &raw mut length);
            if found != rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
                break;
            }
            let bytes = (!value.is_null()).then(|| slice::from_raw_parts(value.cast::<u8>(), length).to_vec());
            headers.push((CStr::from_ptr(name).to_string_lossy().into_owned(), bytes));
        }
    }
    headers
}
