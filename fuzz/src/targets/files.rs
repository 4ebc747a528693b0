//! Files that people or other programs wrote.

use std::path::Path;

use chrono::{NaiveDate, TimeZone as _, Utc};
use chrono_tz::Europe::London;
use stocktide_jobs::Schedule;
use stocktide_producers::online_retail::OnlineRetail;
use stocktide_producers::online_retail::rows::Rows;
use stocktide_reports::Manifest;
use stocktide_store::catalogue::{LOCATIONS, PRODUCTS, STOCK, SUPPLIERS, read_dir};

use super::{answer, told};

pub const CATALOGUE_TOKENS: &[&str] = &[
    "product_id",
    "name",
    "category",
    "price",
    "currency",
    "reorder_point",
    "kind",
    "location_id",
    "quantity",
    "supplier_id",
    "contact",
    "timezone",
    "stock",
    "service",
    "online",
    "store",
    "warehouse",
    "Europe/London",
    "GBP",
    "4.50",
    "\"\"",
    "\"a,b\"",
    "\r\n",
    "products.csv\n",
    "suppliers.csv\n",
    "locations.csv\n",
    "stock.csv\n",
];
pub const RETAIL_TOKENS: &[&str] = &[
    "InvoiceNo",
    "StockCode",
    "Description",
    "Quantity",
    "InvoiceDate",
    "UnitPrice",
    "CustomerID",
    "Country",
    "536365",
    "C536379",
    "A563185",
    "85123A",
    "POST",
    "DOT",
    "M",
    "12/1/2010 8:26",
    "2/29/2011 0:00",
    "17850",
    "United Kingdom",
    "-1",
    "0.00",
    "\r\n",
];
pub const MANIFEST_TOKENS: &[&str] = &[
    "\"report\":",
    "\"date\":",
    "\"files\":[",
    "\"sha256\":",
    "\"changes\":[",
    "\"2011-11-17\"",
    "\"revision\":",
];
pub const SCHEDULE_TOKENS: &[&str] = &[
    "[[job]]\n",
    "name = ",
    "cron = ",
    "builds = ",
    "timezone = ",
    "catch_up = ",
    "start = ",
    "retries = ",
    "backoff = ",
    "timeout = ",
    "\"15 0 * * *\"",
    "\"*/5 * * * *\"",
    "\"0 0 29 2 *\"",
    "\"0 0 31 2 *\"",
    "\"0 0 L * *\"",
    "\"0 0 * * 1#5\"",
    "\"0 0 15W * *\"",
    "\"daily_report\"",
    "\"latest\"",
    "\"Pacific/Apia\"",
    "\"10s\"",
    "2000-01-01",
    "@daily",
    "JAN-DEC",
    "0-59/1",
];

const JOBS: [&str; 4] = ["daily_report", "reconcile", "retention", "revise"];

/// A file of the catalogue: its name in the first line, then its content; the others are in order.
pub fn catalogue(input: &[u8]) -> u64 {
    let end = input.iter().position(|b| *b == b'\n').unwrap_or(input.len());
    let name = [SUPPLIERS, LOCATIONS, STOCK].into_iter().find(|name| name.as_bytes() == &input[..end]);
    let name = name.unwrap_or(PRODUCTS);
    let content = input.get(end + 1..).unwrap_or_default();
    let products = "product_id,name,category,price,currency,reorder_point\np-1,Mug,giftware,2.55,GBP,\n";
    let locations = "location_id,name,kind,timezone\nonline,Online shop,online,Europe/London\n";
    let read = in_a_folder(|dir| {
        std::fs::write(dir.join(PRODUCTS), products)?;
        std::fs::write(dir.join(LOCATIONS), locations)?;
        std::fs::write(dir.join(name), content)?;
        Ok(read_dir(dir))
    });
    match read {
        // No room to try it in says nothing of the reader.
        Err(_) => 0,
        Ok(Ok(files)) => {
            let rows =
                [files.products.len(), files.suppliers.len(), files.locations.len(), files.stock.len()];
            answer(&rows.map(|n| ["none", "one", "more"][n.min(2)]).join(" "))
        }
        Ok(Err(refusals)) => {
            assert!(refusals.len() <= 1_000, "{} refusals", refusals.len());
            refusals.first().map_or(0, |refusal| told(&refusal.to_string()))
        }
    }
}

/// A file of the data set *Online Retail*, made into events and a catalogue.
pub fn online_retail(input: &[u8]) -> u64 {
    let read = Rows::read(input).and_then(|rows| OnlineRetail::of(rows, None, None));
    match read {
        Ok(retail) => {
            let events = retail.events(true).inspect(|event| {
                if let Some(value) = &event.value {
                    assert!(serde_json::from_slice::<serde_json::Value>(value).is_ok(), "no JSON");
                }
            });
            let made = events.count() as u64;
            assert_eq!(made, retail.len(true), "not as many events as were said");
            assert!(retail.catalogue().products.len() == retail.products.products.len());
            answer(if made > 1 { "several" } else { "one or none" })
        }
        Err(error) => told(&format!("{error:#}")),
    }
}

/// The `manifest.json` of a report that is in the storage.
pub fn report_manifest(input: &[u8]) -> u64 {
    match serde_json::from_slice::<Manifest>(input) {
        Ok(manifest) => {
            let again = serde_json::to_vec(&manifest).unwrap_or_default();
            assert_eq!(serde_json::from_slice::<Manifest>(&again).ok(), Some(manifest), "not the same again");
            1
        }
        Err(error) => told(&error.to_string()),
    }
}

/// A schedule, and what it makes due over three years.
pub fn schedule(input: &[u8]) -> u64 {
    let text = String::from_utf8_lossy(input);
    let schedule = match Schedule::parse("schedule.toml", &text, London, &JOBS) {
        Ok(schedule) => schedule,
        Err(error) => return told(&error.to_string()),
    };
    let now = Utc.with_ymd_and_hms(2026, 11, 21, 12, 0, 0).single().unwrap_or_default();
    let from = NaiveDate::from_ymd_opt(2024, 1, 1).unwrap_or_default();
    let mut days = 0;
    // Each is looked at for itself: a few tell as much as many.
    for entry in schedule.entries().iter().take(4) {
        let next = entry.timetable.next(now);
        assert!(next.is_none_or(|next| next >= now), "it fires in the past");
        days += entry.timetable.due(from, now, London, entry.catch_up).days.len();
    }
    answer(["none", "one", "some", "many"][days.min(100).div_ceil(34)])
}

/// Where the reader wants a folder: one of this thread's own, emptied before.
fn in_a_folder<T>(work: impl FnOnce(&Path) -> std::io::Result<T>) -> std::io::Result<T> {
    thread_local! {
        static DIR: std::io::Result<tempfile::TempDir> = tempfile::tempdir();
    }
    DIR.with(|dir| {
        let dir = dir.as_ref().map_err(|error| std::io::Error::from(error.kind()))?.path();
        for name in [PRODUCTS, SUPPLIERS, LOCATIONS, STOCK] {
            // The one before may not have written it.
            let _ = std::fs::remove_file(dir.join(name));
        }
        work(dir)
    })
}
