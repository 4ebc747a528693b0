//! What to simulate.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};

use super::timeline::Spread;

/// Which sources are simulated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceMix {
    /// `online_orders`.
    OnlineOrders,
    /// `store_sales`.
    StoreSales,
    /// `supplier_restocks`, for sales that are simulated but not sent.
    SupplierRestocks,
    /// All three, mostly online orders.
    All,
}

impl SourceMix {
    /// The names that the command line knows.
    pub const NAMES: [(&'static str, SourceMix); 4] = [
        ("online-orders", SourceMix::OnlineOrders),
        ("store-sales", SourceMix::StoreSales),
        ("supplier-restocks", SourceMix::SupplierRestocks),
        ("all", SourceMix::All),
    ];
}

impl FromStr for SourceMix {
    type Err = String;

    fn from_str(name: &str) -> Result<SourceMix, String> {
        let known = SourceMix::NAMES.iter().find(|(known, _)| *known == name).map(|(_, mix)| *mix);
        known.ok_or_else(|| {
            format!("no source {name}; allowed: {}", SourceMix::NAMES.map(|(name, _)| name).join(", "))
        })
    }
}

impl fmt::Display for SourceMix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = SourceMix::NAMES.iter().find(|(_, mix)| mix == self).map_or("", |(name, _)| name);
        f.write_str(name)
    }
}

/// How event_ids are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ids {
    /// Version 7: by time, which databases like.
    #[default]
    V7,
    /// Version 4: at random.
    V4,
}

/// What to simulate.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Which sources.
    pub mix: SourceMix,
    /// Of all chance.
    pub seed: u64,
    /// Records in all, duplicates and broken ones included; none: without end.
    pub count: Option<u64>,
    /// When the first event happens.
    pub start: DateTime<Utc>,
    /// How events are spread over time from there.
    pub spread: Spread,
    /// Records that are sent again later, in millionths of all.
    pub duplicates_ppm: u32,
    /// Broken records, in millionths of all.
    pub malformed_ppm: u32,
    /// Sales and deliveries that happened long before they are sent, in millionths of them.
    pub late_ppm: u32,
    /// Shipped, delivered, cancelled and returned among the online orders' events, in millionths.
    pub follow_ups_ppm: u32,
    /// Of the products' popularity, by Zipf's law.
    pub zipf_exponent: f64,
    /// Customers of online orders.
    pub users: u64,
    /// Lines of an order at most, from 1 to 3.
    pub max_lines: usize,
    /// How event_ids are made.
    pub ids: Ids,
    /// The installation's currency.
    pub currency: String,
}

impl Options {
    /// The defaults, from a start on: without end, a hundred thousand events a day.
    pub fn new(mix: SourceMix, seed: u64, start: DateTime<Utc>) -> Options {
        Options {
            mix,
            seed,
            count: None,
            start,
            spread: Spread::Daily(100_000.0),
            duplicates_ppm: 0,
            malformed_ppm: 0,
            late_ppm: 0,
            follow_ups_ppm: 200_000,
            zipf_exponent: 0.8,
            users: 50_000,
            max_lines: 3,
            ids: Ids::V7,
            currency: "GBP".to_owned(),
        }
    }
}
