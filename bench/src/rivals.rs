//! What a user would pick instead, beside the product in the same run: each does the whole job on the same durable stack and the same
//! events, and its result is held against a naive count before its time counts. `bench/rivals/README.md` is the contract.

mod contest;
mod expected;
mod instances;
mod outputs;
mod rival;
mod watch;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::error::ErrorKind;
use serde_json::{Value, json};

use self::contest::{Outcome, SEED};
use self::expected::Expected;
use self::rival::{Check, Rival};
use crate::backlog::Worked;
use crate::world::{CURRENCY, World, shelves};

/// What is measured.
#[derive(Debug, Clone)]
pub struct Wish {
    /// Where the rivals' folders are.
    pub folder: PathBuf,
    /// Their names; all of them if none is named.
    pub only: Vec<String>,
    /// Events in the backlog.
    pub events: u64,
    /// How many of each work together; measured one after the other.
    pub instances: Vec<usize>,
    /// Whether the product is measured, too.
    pub product: bool,
    /// How long nothing at all may happen.
    pub patience: Duration,
}

/// A row of the table.
struct Row {
    name: String,
    instances: usize,
    records: u64,
    rate: f64,
    /// Microseconds per event: of the program, PostgreSQL and Kafka.
    cpu_us: [f64; 3],
    peak_mib: f64,
    /// Updates and rejects beyond those that there should be.
    surplus: [u64; 2],
}

/// Measures the product, each rival and the product again, and prints the table. Fails after the table if a result was wrong.
pub async fn measure(wish: Wish) -> anyhow::Result<Value> {
    let (rivals, absent) = set_up(chosen(&wish)?)?;
    let mut counts: BTreeMap<u64, Expected> = BTreeMap::new();
    let (mut rows, mut wrong) = (Vec::new(), Vec::new());
    let files = shelves().files(CURRENCY);
    let mut all = vec![None];
    all.extend(rivals.iter().map(Some));
    all.push(None);
    for contestant in all {
        for &instances in &wish.instances {
            let records = contestant.and_then(|rival| rival.most).unwrap_or(u64::MAX).min(wish.events);
            let expected = match counts.entry(records) {
                std::collections::btree_map::Entry::Occupied(known) => known.into_mut(),
                std::collections::btree_map::Entry::Vacant(new) => {
                    new.insert(Expected::of(World::simulate(Some(records), SEED)?, &files))
                }
            };
            let row = match contestant {
                None if !wish.product => continue,
                None => Row::product(instances, &contest::product(instances, expected).await?),
                Some(rival) if instances > 1 && !rival.does(Check::Instances) => continue,
                Some(rival) => {
                    match contest::rival(rival, instances, expected, &files, wish.patience).await {
                        Ok(outcome) => Row::rival(rival, instances, records, outcome),
                        Err(error) => {
                            eprintln!("{} × {instances}: {error:#}", rival.name);
                            wrong.push(format!("{} × {instances}: {}", rival.name, error.root_cause()));
                            continue;
                        }
                    }
                }
            };
            eprintln!("{} × {instances}: right, {:.0} events/s", row.name, row.rate);
            rows.push(row);
        }
    }
    let table = print(&rows);
    print_words(&rivals, &absent, &wrong);
    ensure!(wrong.is_empty(), "{} results were wrong or did not come", wrong.len());
    Ok(json!({ "events": wish.events, "rows": table, "not_here": absent,
               "cannot": rivals.iter().map(|rival| (rival.name.clone(), json!(rival.cannot))).collect::<Value>() }))
}

/// The rivals that were asked for. A name that there is not is wrong usage.
fn chosen(wish: &Wish) -> anyhow::Result<Vec<Rival>> {
    let mut rivals = Rival::all(&wish.folder)?;
    let names: Vec<String> = rivals.iter().map(|rival| rival.name.clone()).collect();
    if let Some(unknown) = wish.only.iter().find(|name| !names.contains(name)) {
        let said = format!("no rival {unknown}; allowed: {}\n", names.join(", "));
        clap::Error::raw(ErrorKind::InvalidValue, said).exit();
    }
    rivals.retain(|rival| wish.only.is_empty() || wish.only.contains(&rival.name));
    Ok(rivals)
}

/// Installs them; with those that cannot be had here, and why.
fn set_up(rivals: Vec<Rival>) -> anyhow::Result<(Vec<Rival>, BTreeMap<String, String>)> {
    let (mut present, mut absent) = (Vec::new(), BTreeMap::new());
    for rival in rivals {
        match rival.set_up().with_context(|| rival.name.clone())? {
            None => present.push(rival),
            Some(why) => {
                eprintln!("{}: not here: {why}", rival.name);
                absent.insert(rival.name, why);
            }
        }
    }
    Ok((present, absent))
}

impl Row {
    fn product(instances: usize, worked: &Worked) -> Row {
        let [postgres, kafka] = worked.servers;
        Row {
            name: "stocktide".to_owned(),
            instances,
            records: worked.consumed as u64,
            rate: worked.rate(),
            cpu_us: [worked.product.cpu, postgres, kafka].map(|seconds| seconds * 1e6 / worked.consumed),
            peak_mib: worked.product.peak_mib,
            surplus: [0; 2],
        }
    }

    fn rival(rival: &Rival, instances: usize, records: u64, outcome: Outcome) -> Row {
        let Outcome { took, peak_mib, surplus } = outcome;
        Row {
            name: rival.name.clone(),
            instances,
            records,
            rate: records as f64 / took.seconds,
            cpu_us: took.cpu.map(|seconds| seconds * 1e6 / records as f64),
            peak_mib,
            surplus,
        }
    }

    fn is_product(&self) -> bool {
        self.name == "stocktide"
    }
}

/// The product's mean rate with so many processors over this row's.
fn times(rows: &[Row], row: &Row) -> Option<f64> {
    let own = rows.iter().filter(|own| own.is_product() && own.instances == row.instances);
    let rates: Vec<f64> = own.map(|own| own.rate).collect();
    (!rates.is_empty()).then(|| rates.iter().sum::<f64>() / rates.len() as f64 / row.rate)
}

fn print(rows: &[Row]) -> Value {
    println!(
        "\nwhat a user would pick instead, and the product before and after it; durable, each result checked"
    );
    println!(
        "{:<14} {:>4} {:>9} {:>9} {:>9} {:>9} {:>7} {:>8}  {:>9}  surplus updates, rejects",
        "", "×", "events", "events/s", "own µs/ev", "PG µs/ev", "Kafka", "RSS MiB", "product ×"
    );
    let mut out = Vec::new();
    for row in rows {
        let Row { name, instances, records, rate, cpu_us: [own, postgres, kafka], peak_mib, surplus } = row;
        let times = times(rows, row);
        println!(
            "{name:<14} {instances:>4} {records:>9} {rate:>9.0} {own:>9.1} {postgres:>9.1} {kafka:>7.1} {peak_mib:>8.0}  {:>9}  {}, {}",
            times.map_or("-".to_owned(), |times| format!("{times:.2}")),
            surplus[0],
            surplus[1]
        );
        out.push(json!({
            "name": name, "instances": instances, "events": records, "events_per_s": rate,
            "cpu_us_per_event": { "own": own, "postgres": postgres, "kafka": kafka },
            "peak_rss_mib": peak_mib, "product_over_it": times,
            "surplus": { "inventory_updates": surplus[0], "dlq": surplus[1] },
        }));
    }
    json!(out)
}

fn print_words(rivals: &[Rival], absent: &BTreeMap<String, String>, wrong: &[String]) {
    for rival in rivals.iter().filter(|rival| !rival.cannot.is_empty()) {
        println!("\n{} cannot:", rival.name);
        rival.cannot.iter().for_each(|line| println!("  {line}"));
    }
    absent.iter().for_each(|(name, why)| println!("\n{name} is not here: {why}"));
    wrong.iter().for_each(|line| println!("\nWRONG: {line}"));
}
