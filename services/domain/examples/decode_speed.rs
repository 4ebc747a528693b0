//! How many events one thread decodes a second: `cargo run --release -p stocktide-domain --example decode_speed`.
//!
//! 200,000 distinct valid records, 59 % online orders, 31 % store sales, 10 % restocks, of 1 to 3 lines; seven rounds,
//! each of which is printed. Dropping the events is counted in.

use std::time::Instant;

use chrono::{DateTime, Utc};
use stocktide_domain::Source;
use stocktide_domain::decode::{Limits, Rules, decode};
use uuid::Uuid;

fn main() {
    let now = DateTime::<Utc>::UNIX_EPOCH + chrono::TimeDelta::days(20_000);
    let rules = Rules { currency: "GBP".into(), now, limits: Limits::default() };
    let records: Vec<(Source, String)> = (0..200_000).map(record).collect();
    let bytes: usize = records.iter().map(|(_, value)| value.len()).sum();
    println!("{} records of {} bytes on average", records.len(), bytes / records.len());
    for round in 1..=7 {
        let start = Instant::now();
        let decoded =
            records.iter().filter(|(source, value)| decode(*source, Some(value.as_bytes()), &rules).is_ok());
        let decoded = decoded.count();
        let rate = records.len() as f64 / start.elapsed().as_secs_f64();
        println!("round {round}: {decoded} decoded, {rate:.0} events/s");
    }
}

/// A record that follows from its number alone.
fn record(number: u64) -> (Source, String) {
    // SplitMix64's mixing function (Steele, Lea, Flood 2014): spreads the numbers over all bits.
    let mixed = |salt: u64| {
        let z = (number * 16 + salt).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    let event_id = Uuid::from_u64_pair(mixed(1), mixed(2));
    let time = format!("2024-{:02}-{:02}T12:{:02}:07.123456Z", 1 + number % 9, 1 + number % 28, number % 60);
    let line = |n: u64, price: &str| {
        let product = mixed(4 + n) % 2_000;
        format!(
            r#"{{"product_id":"P-{product:05}","quantity":{},"{price}":"{}.{:02}"}}"#,
            1 + product % 9,
            product % 40,
            product % 100
        )
    };
    let lines = |price: &str| (0..=mixed(3) % 3).map(|n| line(n, price)).collect::<Vec<_>>().join(",");
    let common = format!(r#""event_id":"{event_id}","currency":"GBP""#);
    match mixed(9) % 100 {
        0..59 => (
            Source::OnlineOrders,
            format!(
                r#"{{{common},"type":"placed","order_id":"O-{number:08}","user_id":"U-{:05}","order_timestamp":"{time}","items":[{}],"order_value":"99.90","payment_method":"card","shipping_address":"{number} High Street, Leeds LS1 4AP","location_id":"online"}}"#,
                mixed(10) % 50_000,
                lines("price_per_unit")
            ),
        ),
        59..90 => (
            Source::StoreSales,
            format!(
                r#"{{{common},"type":"sold","sale_id":"S-{number:08}","store_id":"store-{}","sold_at":"{time}","items":[{}],"total":"99.90","payment_method":"cash"}}"#,
                mixed(10) % 8,
                lines("price_per_unit")
            ),
        ),
        _ => (
            Source::SupplierRestocks,
            format!(
                r#"{{{common},"type":"received","restock_id":"R-{number:08}","supplier_id":"SUP-{}","location_id":"online","received_at":"{time}","items":[{}]}}"#,
                mixed(10) % 20,
                lines("unit_cost")
            ),
        ),
    }
}
