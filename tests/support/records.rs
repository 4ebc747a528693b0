//! Records as a test sends them.
#![allow(dead_code)] // each test binary uses a part of it
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::ffi::{CString, c_void};
use std::time::Duration;

use rdkafka::bindings as rd;
use rdkafka::config::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, FutureProducer, FutureRecord, Producer};
use serde_json::{Value, json};
use uuid::Uuid;

use super::World;

/// Topic, partition and offset.
pub type Coordinates = (String, i32, i64);

/// A record that is to be sent.
#[derive(Debug, Clone)]
pub struct Record {
    pub topic: &'static str,
    /// Where a test does not say: its name.
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    codec: &'static str,
    partition: Option<i32>,
    /// What is masked of it, and how.
    masked: Vec<(String, String)>,
    default_key: bool,
    bare: bool,
}

impl Record {
    pub fn new(topic: &'static str, value: impl Into<Vec<u8>>) -> Record {
        Record {
            topic,
            key: None,
            value: Some(value.into()),
            headers: Vec::new(),
            codec: "none",
            partition: None,
            masked: Vec::new(),
            default_key: true,
            bare: false,
        }
    }

    pub fn tombstone(topic: &'static str) -> Record {
        Record { value: None, ..Record::new(topic, "") }
    }

    pub fn event(topic: &'static str, event: &Value) -> Record {
        Record::new(topic, event.to_string())
    }

    pub fn key(self, key: impl Into<Vec<u8>>) -> Record {
        Record { key: Some(key.into()), default_key: false, ..self }
    }

    pub fn without_key(self) -> Record {
        Record { key: None, default_key: false, ..self }
    }

    /// A header; its name need not be UTF-8.
    pub fn header(mut self, name: impl Into<Vec<u8>>, value: Option<&[u8]>) -> Record {
        self.headers.push((name.into(), value.map(<[u8]>::to_vec)));
        self
    }

    /// Sent in a batch of its own, compressed.
    pub fn compressed(self, codec: &'static str) -> Record {
        Record { codec, ..self }
    }

    /// Without further headers: see [`Record::labelled`].
    pub fn bare(self) -> Record {
        Record { bare: true, ..self }
    }

    /// With headers of every kind, so that it shows whether they are kept.
    pub fn labelled(self, label: &str) -> Record {
        if self.bare {
            return self;
        }
        self.header("trace", Some(label.as_bytes())).header("nothing", None).header("empty", Some(b""))
    }

    pub fn at_partition(self, partition: i32) -> Record {
        Record { partition: Some(partition), ..self }
    }

    /// Says that wherever `full` stands, `masked` is kept.
    pub fn masked(mut self, full: &str, masked: &str) -> Record {
        self.masked.push((full.to_owned(), masked.to_owned()));
        self
    }

    pub fn is_masked(&self) -> bool {
        !self.masked.is_empty()
    }

    /// Some bytes of it as they are kept.
    pub fn kept(&self, bytes: &[u8]) -> Vec<u8> {
        let Ok(text) = std::str::from_utf8(bytes) else { return bytes.to_vec() };
        self.masked
            .iter()
            .fold(text.to_owned(), |text, (full, masked)| text.replace(full, masked))
            .into_bytes()
    }
}

/// An online order of one apple with an id of its own.
pub fn order() -> Value {
    json!({"event_id": Uuid::now_v7(), "order_id": Uuid::now_v7().to_string(), "user_id": "u1",
        "order_timestamp": "2025-03-01T10:00:00Z", "items": [{"product_id": "apple", "quantity": 1, "price_per_unit": 1}]})
}

/// A sale of one apple in the shop.
pub fn sale() -> Value {
    json!({"event_id": Uuid::now_v7(), "sale_id": Uuid::now_v7().to_string(), "store_id": "shop",
        "sold_at": "2025-03-01T10:00:00Z", "items": [{"product_id": "apple", "quantity": 1, "price_per_unit": 1}]})
}

/// A delivery of one apple to the online stock.
pub fn restock() -> Value {
    json!({"event_id": Uuid::now_v7(), "restock_id": Uuid::now_v7().to_string(), "supplier_id": "acme",
        "location_id": "online", "received_at": "2025-03-01T10:00:00Z",
        "items": [{"product_id": "apple", "quantity": 1, "unit_cost": 0.5}]})
}

/// A captured payment of an order, under an id of its own.
pub fn payment(order_id: &str) -> Value {
    json!({"event_id": Uuid::now_v7(), "payment_id": Uuid::now_v7().to_string(), "order_id": order_id,
        "payment_method": "card", "card_last_four": "0042", "payment_status": "captured",
        "payment_datetime": "2025-03-01T10:00:05Z", "amount": "1.00"})
}

/// The event with a field set; `field` is a JSON pointer without its first slash, such as `items/0/quantity`.
pub fn with(mut event: Value, field: &str, value: impl Into<Value>) -> Value {
    let (parent, name) = field.rsplit_once('/').unwrap_or(("", field));
    let parent =
        if parent.is_empty() { &mut event } else { event.pointer_mut(&format!("/{parent}")).unwrap() };
    parent.as_object_mut().unwrap().insert(name.to_owned(), value.into());
    event
}

/// The event without a field.
pub fn without(mut event: Value, field: &str) -> Value {
    let (parent, name) = field.rsplit_once('/').unwrap_or(("", field));
    let parent =
        if parent.is_empty() { &mut event } else { event.pointer_mut(&format!("/{parent}")).unwrap() };
    parent.as_object_mut().unwrap().remove(name).unwrap();
    event
}

/// The event with one line: product and quantity.
pub fn of(event: Value, product: &str, quantity: i64) -> Value {
    with(event, "items", json!([{"product_id": product, "quantity": quantity}]))
}

/// Sends records; one producer for each way of compressing them.
pub struct Sender<'w> {
    world: &'w World,
    producers: BTreeMap<&'static str, FutureProducer>,
}

impl World {
    pub fn sender(&self) -> Sender<'_> {
        Sender { world: self, producers: BTreeMap::new() }
    }

    /// Sends events in order, each under `name` as its key; answers where they lie.
    pub async fn send_events(
        &self,
        topic: &'static str,
        name: &str,
        events: &[Value],
    ) -> Vec<(Record, Coordinates)> {
        let records: Vec<Record> = events.iter().map(|event| Record::event(topic, event)).collect();
        self.sender().send(name, records).await
    }
}

impl Sender<'_> {
    /// Sends records in order; answers where they lie. A record without a key of its own gets `name` as its key.
    pub async fn send(&mut self, name: &str, mut records: Vec<Record>) -> Vec<(Record, Coordinates)> {
        for record in records.iter_mut().filter(|record| record.default_key) {
            record.key = Some(name.as_bytes().to_vec());
        }
        let safe = |record: &Record| record.headers.iter().all(|(name, _)| std::str::from_utf8(name).is_ok());
        let mut at: Vec<Option<Coordinates>> = Vec::new();
        let mut on_their_way = Vec::new();
        for record in &records {
            if !safe(record) {
                at.push(Some(self.send_raw(record)));
                continue;
            }
            let producer =
                self.producers.entry(record.codec).or_insert_with(|| producer(self.world, record.codec));
            on_their_way.push((
                at.len(),
                producer.send_result(outgoing(record)).map_err(|(error, _)| error).unwrap(),
            ));
            at.push(None);
        }
        for (i, delivery) in on_their_way {
            let delivered = delivery.await.unwrap().map_err(|(error, _)| error).unwrap();
            at[i] = Some((records[i].topic.to_owned(), delivered.partition, delivered.offset));
        }
        records.into_iter().zip(at.into_iter().flatten()).collect()
    }

    /// For header names that are not UTF-8, which the client's safe interface cannot say.
    #[allow(unsafe_code)]
    fn send_raw(&self, record: &Record) -> Coordinates {
        let mut client = ClientConfig::new();
        let producer: BaseProducer =
            client.set("bootstrap.servers", self.world.stack.kafka_brokers()).create().unwrap();
        let (topic, partition) =
            (CString::new(record.topic).unwrap(), record.partition.expect("a partition"));
        let (key, value) = (record.key.clone().unwrap_or_default(), record.value.clone().unwrap_or_default());
        // SAFETY: every pointer is valid for the length beside it until producev has copied it (MSG_F_COPY); the headers
        // belong to the client once producev has succeeded.
        let sent = unsafe {
            let headers = rd::rd_kafka_headers_new(record.headers.len());
            for (name, value) in &record.headers {
                let (pointer, length) =
                    value.as_ref().map_or((std::ptr::null(), 0), |v| (v.as_ptr(), v.len()));
                rd::rd_kafka_header_add(
                    headers,
                    name.as_ptr().cast(),
                    name.len() as isize,
                    pointer.cast(),
                    length as isize,
                );
            }
            rd::rd_kafka_producev(
                producer.client().native_ptr(),
                rd::rd_kafka_vtype_t::RD_KAFKA_VTYPE_TOPIC,
                topic.as_ptr(),
                rd::rd_kafka_vtype_t::RD_KAFKA_VTYPE_PARTITION,
                partition,
                rd::rd_kafka_vtype_t::RD_KAFKA_VTYPE_MSGFLAGS,
                rd::RD_KAFKA_MSG_F_COPY,
                rd::rd_kafka_vtype_t::RD_KAFKA_VTYPE_KEY,
                key.as_ptr().cast::<c_void>(),
                key.len(),
                rd::rd_kafka_vtype_t::RD_KAFKA_VTYPE_VALUE,
                value.as_ptr().cast::<c_void>(),
                value.len(),
                rd::rd_kafka_vtype_t::RD_KAFKA_VTYPE_HEADERS,
                headers,
                rd::rd_kafka_vtype_t::RD_KAFKA_VTYPE_END,
            )
        };
        assert_eq!(sent, rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR);
        producer.flush(Duration::from_secs(10)).unwrap();
        // Nobody else sends meanwhile.
        let (_, end) =
            producer.client().fetch_watermarks(record.topic, partition, Duration::from_secs(10)).unwrap();
        (record.topic.to_owned(), partition, end - 1)
    }
}

fn producer(world: &World, codec: &str) -> FutureProducer {
    if codec == "none" {
        return world.producer();
    }
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", world.stack.kafka_brokers()).set("compression.type", codec);
    client.set("enable.idempotence", "true").set("linger.ms", "0");
    client
        .set("message.max.bytes", "1000000000")
        .set("queue.buffering.max.kbytes", "2097151")
        .create()
        .unwrap()
}

fn outgoing(record: &Record) -> FutureRecord<'_, [u8], [u8]> {
    let mut headers = OwnedHeaders::new();
    for (name, value) in &record.headers {
        headers = headers.insert(Header { key: std::str::from_utf8(name).unwrap(), value: value.as_deref() });
    }
    let mut outgoing = FutureRecord::to(record.topic).headers(headers);
    (outgoing.key, outgoing.payload, outgoing.partition) =
        (record.key.as_deref(), record.value.as_deref(), record.partition);
    outgoing
}
