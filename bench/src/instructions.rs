//! The processor's own work on a fixed input, in instructions: what a machine that is busy with other things cannot blur.
//!
//! Callgrind counts a run of this program that does a stage once, and one that does it twice; the difference is the stage. The counts
//! belong to a compiler and a profile, so the bounds are kept for each.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail, ensure};
use clap::ValueEnum;
use rustc_hash::{FxHashMap, FxHashSet};
use serde_json::{Value, json};
use stocktide_domain::decode::{Limits, Rules, decode};
use stocktide_domain::fold::{self, After, Known};
use stocktide_domain::{Catalogue, Product, ProductKind, Source};
use stocktide_store::{Batch, RawRecord, encoded};

use crate::world::{World, shelves};

/// Records of the fixed input.
const RECORDS: u64 = 1_000;
/// How much more than written down is too much.
const BOUND: f64 = 1.05;

/// A part of the processor that needs neither Kafka nor PostgreSQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Stage {
    /// Bytes into events.
    Decode,
    /// Events into fates, rows and deltas.
    Fold,
    /// Those into COPY's rows and Kafka's records.
    Encode,
}

impl Stage {
    const fn name(self) -> &'static str {
        match self {
            Stage::Decode => "decode",
            Stage::Fold => "fold",
            Stage::Encode => "encode",
        }
    }
}

/// What to do with the counts.
#[derive(Debug, Clone, Copy)]
pub struct Wish {
    /// Write them down as what holds from now on.
    pub record: bool,
}

/// Counts each stage and holds it against what is written down, or writes it down.
pub fn measure(wish: Wish) -> anyhow::Result<Value> {
    let (compiler, mut kept) = (compiler()?, kept()?);
    println!("instructions an event, {compiler}");
    let (mut counts, mut beyond) = (BTreeMap::new(), Vec::new());
    for stage in Stage::value_variants() {
        let counted = count(*stage)?;
        let before = kept.get(&compiler).and_then(|bounds| bounds.get(stage.name())).copied();
        let told = before.map_or_else(String::new, |before| {
            format!("  {:+6.1} % of {before}", (counted as f64 / before as f64 - 1.0) * 100.0)
        });
        println!("{:>8} {counted:>8}{told}", stage.name());
        if before.is_some_and(|before| counted as f64 > before as f64 * BOUND) {
            beyond.push(stage.name());
        }
        counts.insert(stage.name().to_owned(), counted);
    }
    let told = json!({ "compiler": compiler, "instructions_per_event": counts });
    if wish.record {
        kept.insert(compiler, counts);
        std::fs::write(file(), format!("{}\n", serde_json::to_string_pretty(&kept)?))?;
        return Ok(told);
    }
    if !kept.contains_key(&compiler) {
        println!("none are written down for this compiler; with --record these would be");
    }
    ensure!(
        beyond.is_empty(),
        "more than 5 % above what is written down: {}; if there is a good reason, write the new counts down with --record",
        beyond.join(", ")
    );
    Ok(told)
}

/// Does a stage so many times, for whoever counts.
pub fn work(stage: Stage, times: u32) -> anyhow::Result<()> {
    let now = "2025-06-02T00:00:00Z".parse()?;
    let rules = Rules { currency: "GBP".to_owned(), now, limits: Limits::default() };
    let mut raw = Vec::new();
    let mut sources = Vec::new();
    for (at, record) in World::simulate(Some(RECORDS), 1)?.enumerate() {
        sources.push(Source::from_topic(record.topic).context("an input topic")?);
        let key = Some(record.key.into_bytes());
        raw.push(RawRecord { offset: at as i64, key, value: record.value, headers: Vec::new() });
    }
    let decoded = || -> Vec<fold::Record> {
        let of = |(raw, source): (&RawRecord, &Source)| {
            let decoded = decode(*source, raw.value.as_deref(), &rules);
            fold::Record { source: *source, partition: 0, decoded }
        };
        raw.iter().zip(&sources).map(of).collect()
    };
    let (records, catalogue) = (decoded(), catalogue());
    let known = Known {
        catalogue: &catalogue,
        applied: &FxHashSet::default(),
        orders: &FxHashMap::default(),
        returned: &FxHashMap::default(),
        stock: None,
        payments: &FxHashMap::default(),
        payments_may_wait: false,
        timezone: chrono_tz::UTC,
    };
    let settled = fold::fold(&records, &known);
    let finals: Vec<After> = settled.stock.iter().map(|_| After { quantity: 1_000, version: 10 }).collect();
    let after = settled.running(&finals);
    for _ in 0..times {
        match stage {
            Stage::Decode => drop(black_box(decoded())),
            Stage::Fold => drop(black_box(fold::fold(&records, &known))),
            Stage::Encode => {
                let batch = Batch { raw: &raw, decoded: &records, spans: &BTreeMap::new(), now };
                black_box(encoded::of(batch, &settled, &catalogue, &after)?);
            }
        }
    }
    Ok(())
}

/// Instructions of a stage, by event.
fn count(stage: Stage) -> anyhow::Result<u64> {
    let [once, twice] = [collected(stage, 1)?, collected(stage, 2)?];
    Ok(twice.saturating_sub(once) / RECORDS)
}

fn collected(stage: Stage, times: u32) -> anyhow::Result<u64> {
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(std::env::current_exe()?);
    valgrind.args(["instructions", "--stage", stage.name(), "--times", &times.to_string()]);
    let output =
        valgrind.output().context("valgrind counts the instructions: install it (Debian: valgrind)")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "valgrind: {said}");
    let line = said.lines().find_map(|line| line.split_once("Collected :"));
    let Some((_, count)) = line else { bail!("valgrind does not say what it counted: {said}") };
    count.trim().parse().with_context(|| format!("valgrind's count {count}"))
}

/// The compiler and the profile that the counts belong to.
fn compiler() -> anyhow::Result<String> {
    let output = Command::new("rustc").arg("--version").output().context("rustc")?;
    let profile = if cfg!(debug_assertions) { "as tests are built" } else { "release" };
    Ok(format!("{}, {}, {profile}", String::from_utf8_lossy(&output.stdout).trim(), std::env::consts::ARCH))
}

/// Per compiler and profile, the instructions of each stage.
type Kept = BTreeMap<String, BTreeMap<String, u64>>;

fn kept() -> anyhow::Result<Kept> {
    let file = file();
    let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    serde_json::from_str(&text).with_context(|| file.display().to_string())
}

fn file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("instructions.json")
}

/// What the simulator sells, as the processor knows it.
fn catalogue() -> Catalogue {
    let shelves = shelves();
    let product = |p: &stocktide_producers::sim::catalogue::SimProduct| {
        let (price, reorder_point) = (p.price, p.reorder_point);
        (p.product_id.clone(), Product { price, reorder_point, kind: ProductKind::Stock })
    };
    Catalogue {
        version: 1,
        products: shelves.products.iter().map(product).collect(),
        locations: shelves.online.into_iter().chain(shelves.stores).collect(),
        suppliers: shelves.suppliers.into_iter().collect(),
    }
}
