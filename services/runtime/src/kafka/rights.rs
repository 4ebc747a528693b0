//! What each service has to be allowed to do by the brokers, where these ask (ACLs). `stocktide topics acls` prints it, and a test
//! runs the services with no more.

use serde::Serialize;

use super::{DLQ, INVENTORY_UPDATES, ONLINE_ORDERS, PAYMENTS, STORE_SALES, SUPPLIER_RESTOCKS, TOPICS};
use crate::Config;

/// The topics that events come in by.
const EVENTS: [&str; 4] = [ONLINE_ORDERS, STORE_SALES, SUPPLIER_RESTOCKS, PAYMENTS];

/// What the transactional ids of the processors begin with.
pub const TRANSACTIONAL_IDS: &str = "stocktide-";

/// What those of `stocktide dlq replay` begin with.
pub const DLQ_TRANSACTIONAL_IDS: &str = "stocktide-dlq-";

/// Who works with Kafka.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Service {
    /// `stocktide processor`.
    Processor,
    /// `stocktide jobs`, and `stocktide verify`.
    Jobs,
    /// `stocktide api`.
    Api,
    /// `stocktide send`, `produce` and `import`, and whoever else sends events.
    Producer,
    /// `stocktide migrate` and `stocktide dlq`.
    Owner,
}

impl Service {
    /// All of them.
    pub const ALL: [Service; 5] =
        [Service::Processor, Service::Jobs, Service::Api, Service::Producer, Service::Owner];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Service::Processor => "processor",
            Service::Jobs => "jobs",
            Service::Api => "api",
            Service::Producer => "producer",
            Service::Owner => "owner",
        }
    }
}

/// What is allowed on some things of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rights {
    /// Whom.
    pub service: Service,
    /// `topic`, `group` or `transactional-id`.
    pub kind: &'static str,
    /// Their names.
    pub names: Vec<String>,
    /// Whether the names are what the real ones begin with.
    pub prefixed: bool,
    /// What may be done with them; Read and Write include Describe.
    pub operations: Vec<&'static str>,
}

/// What a service needs, and no more.
pub fn rights(service: Service, config: &Config) -> Vec<Rights> {
    let topics = |names: &[&str], operations: &[&'static str]| Rights {
        service,
        kind: "topic",
        names: names.iter().map(|&name| name.to_owned()).collect(),
        prefixed: false,
        operations: operations.to_vec(),
    };
    let group = |name: &str, operation: &'static str| Rights {
        service,
        kind: "group",
        names: vec![name.to_owned()],
        prefixed: false,
        operations: vec![operation],
    };
    match service {
        Service::Processor => vec![
            topics(&EVENTS, &["Read"]),
            topics(&[INVENTORY_UPDATES, DLQ], &["Write"]),
            group(&config.kafka.group, "Read"),
            Rights {
                service,
                kind: "transactional-id",
                names: vec![TRANSACTIONAL_IDS.to_owned()],
                prefixed: true,
                operations: vec!["Write"],
            },
        ],
        Service::Jobs => vec![
            topics(&TOPICS, &["Read", "DescribeConfigs"]),
            group(&config.kafka.group, "Describe"),
            // A group's name is asked for even where nobody joins it.
            group("stocktide-watch", "Describe"),
            group("stocktide-topics", "Describe"),
        ],
        Service::Api => vec![
            topics(&EVENTS, &["Write"]),
            topics(&[INVENTORY_UPDATES], &["Read"]),
            group("stocktide-api", "Describe"),
        ],
        Service::Producer => vec![topics(&EVENTS, &["Write"])],
        Service::Owner => vec![
            topics(&TOPICS, &["Create", "Describe", "DescribeConfigs", "AlterConfigs"]),
            topics(&EVENTS, &["Read", "Write"]),
            group("stocktide-dlq", "Describe"),
            Rights {
                service,
                kind: "transactional-id",
                names: vec![DLQ_TRANSACTIONAL_IDS.to_owned()],
                prefixed: true,
                operations: vec!["Write"],
            },
        ],
    }
}
