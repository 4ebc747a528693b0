//! One measurement: of a rival, or of the product with the same events.

use std::time::Duration;

use anyhow::{Context, ensure};
use stocktide_store::catalogue::CatalogueFiles;
use tokio_postgres::{Client, NoTls};

use super::expected::Expected;
use super::instances::{Instances, Surroundings};
use super::outputs::{Output, Untold};
use super::rival::{Check, Rival};
use super::watch::{Took, Watch, differing, told};
use crate::backlog::{self, Worked};
use crate::world::World;

/// The same events for everyone.
pub const SEED: u64 = 1;
const UPDATES: &str = "inventory_updates";
const DLQ: &str = "dlq";

/// What came of a rival's run, the right result among it.
#[derive(Debug, Clone, Copy)]
pub struct Outcome {
    pub took: Took,
    /// The most memory of an instance, in MiB.
    pub peak_mib: f64,
    /// Records that a consumer gets beyond those that there should be.
    pub surplus: [u64; 2],
}

/// Has a rival work off a backlog, and holds what it wrote against the count.
pub async fn rival(
    rival: &Rival,
    instances: usize,
    expected: &Expected,
    shelves: &CatalogueFiles,
    patience: Duration,
) -> anyhow::Result<Outcome> {
    let world = World::start(&[]).await?;
    let database_url = world.stack.create_database("rival").await?;
    let database = connect(&database_url).await?;
    database.batch_execute(&rival.schema()?).await.context("its schema.sql")?;
    load(&database, shelves).await?;
    world.send_backlog(expected.records, SEED)?;
    let brokers = world.stack.kafka_brokers();
    let (updates, dlq) = (Output::new(UPDATES, &brokers)?, Output::new(DLQ, &brokers)?);
    let folder = tempfile::tempdir()?;
    let work_dir = folder.path().join("work");
    std::fs::create_dir(&work_dir)?;
    let told = Surroundings {
        brokers,
        database_url,
        records: expected.records,
        work_dir,
        log_dir: folder.path().to_owned(),
    };
    let mut running = Instances::start(rival, instances, &told)?;
    let mut watch = Watch { rival, expected, world: &world, database: &database, updates, dlq, patience };
    let took = watch.until_done(&mut running).await.with_context(|| running.logs())?;
    let logs = running.logs();
    running.stop().with_context(|| logs.clone())?;
    let surplus = check(&mut watch).await.context(logs)?;
    let outcome = Outcome { took, peak_mib: running.peak_mib, surplus };
    world.stop().await?;
    Ok(outcome)
}

/// Everything that can be looked at now that it has ended.
async fn check(watch: &mut Watch<'_>) -> anyhow::Result<[u64; 2]> {
    let (rival, expected) = (watch.rival, watch.expected);
    let wrong = watch.differing().await?;
    ensure!(wrong.is_empty(), "{} stock rows have become wrong ({})", wrong.len(), told(&wrong[0]));
    hold_rows(watch.database, expected, rival).await?;
    let mut untold = Untold::new(expected);
    let mut updates = Output::new(UPDATES, &watch.world.stack.kafka_brokers())?;
    updates.read(|update| untold.hear(update))?;
    if rival.does(Check::Quantities) {
        untold.check()?;
    }
    watch.dlq.read(|_| {})?;
    Ok([updates.count().saturating_sub(expected.changes), watch.dlq.count().saturating_sub(expected.rejects)])
}

async fn hold_rows(database: &Client, expected: &Expected, rival: &Rival) -> anyhow::Result<()> {
    if rival.does(Check::EventsLog) {
        let sql = "SELECT count(*), count(DISTINCT event_id) FROM events_log";
        let row = database.query_one(sql, &[]).await?;
        let (rows, ids): (i64, i64) = (row.get(0), row.get(1));
        let right = expected.applied;
        ensure!(
            [rows, ids] == [right as i64; 2],
            "events_log holds {rows} rows of {ids} events, should be {right}"
        );
    }
    if rival.does(Check::Orders) {
        hold_lines(database, expected).await?;
    }
    Ok(())
}

async fn hold_lines(database: &Client, expected: &Expected) -> anyhow::Result<()> {
    let sql = "SELECT count(*), coalesce(sum(quantity), 0)::bigint FROM orders";
    let row = database.query_one(sql, &[]).await?;
    let there: (i64, i64) = (row.get(0), row.get(1));
    let right = (expected.lines as i64, expected.units);
    ensure!(there == right, "orders holds (lines, units) {there:?}, should be {right:?}");
    Ok(())
}

async fn connect(url: &str) -> anyhow::Result<Client> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// Fills what is known before the first event.
async fn load(database: &Client, shelves: &CatalogueFiles) -> anyhow::Result<()> {
    let column = |texts: &mut dyn Iterator<Item = &String>| texts.cloned().collect::<Vec<String>>();
    let (products, locations, stock) = (&shelves.products, &shelves.locations, &shelves.stock);
    let ids = column(&mut products.iter().map(|row| &row.product_id));
    let names = column(&mut products.iter().map(|row| &row.name));
    let categories = column(&mut products.iter().map(|row| &row.category));
    let prices: Vec<String> = products.iter().map(|row| row.price.to_string()).collect();
    let sql = "INSERT INTO products (product_id, name, category, price) \
               SELECT p.id, p.name, p.category, p.price::numeric \
               FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) p (id, name, category, price)";
    database.execute(sql, &[&ids, &names, &categories, &prices]).await?;
    let ids = column(&mut locations.iter().map(|row| &row.location_id));
    let names = column(&mut locations.iter().map(|row| &row.name));
    let kinds = column(&mut locations.iter().map(|row| &row.kind));
    let sql = "INSERT INTO locations (location_id, name, kind) SELECT * FROM unnest($1::text[], $2::text[], $3::text[])";
    database.execute(sql, &[&ids, &names, &kinds]).await?;
    let ids = column(&mut shelves.suppliers.iter().map(|row| &row.supplier_id));
    let names = column(&mut shelves.suppliers.iter().map(|row| &row.name));
    let sql = "INSERT INTO suppliers (supplier_id, name) SELECT * FROM unnest($1::text[], $2::text[])";
    database.execute(sql, &[&ids, &names]).await?;
    let ids = column(&mut stock.iter().map(|row| &row.product_id));
    let places = column(&mut stock.iter().map(|row| &row.location_id));
    let units: Vec<i64> = stock.iter().map(|row| row.quantity).collect();
    let sql = "INSERT INTO inventory (product_id, location_id, quantity_on_hand) \
               SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[])";
    database.execute(sql, &[&ids, &places, &units]).await?;
    Ok(database.batch_execute("ANALYZE").await?)
}

/// Has the product work off the same events, and holds it against the same count.
pub async fn product(processors: usize, expected: &Expected) -> anyhow::Result<Worked> {
    let world = World::start(&[("STOCKTIDE_PROCESSOR_BATCH_MAX_RECORDS", "10000")]).await?;
    world.send_backlog(expected.records, SEED)?;
    let worked = backlog::work_off(&world, processors).await?;
    let database = connect(&world.stack.database_url()).await?;
    let wrong = differing(&database, expected).await?;
    ensure!(wrong.is_empty(), "{} stock rows differ ({})", wrong.len(), told(&wrong[0]));
    let sql = "SELECT count(*) FILTER (WHERE status = 'applied'), count(*) FILTER (WHERE status = 'rejected') FROM events_log";
    let row = database.query_one(sql, &[]).await?;
    let (there, right): ([i64; 2], _) = ([row.get(0), row.get(1)], [expected.applied, expected.rejects]);
    ensure!(there == right.map(|count| count as i64), "the log has {there:?}, should be {right:?}");
    hold_lines(&database, expected).await?;
    let mut untold = Untold::new(expected);
    for (topic, right) in [(UPDATES, expected.changes), (DLQ, expected.rejects)] {
        let mut output = Output::new(topic, &world.stack.kafka_brokers())?;
        output.read(|update| untold.hear(update))?;
        ensure!(output.count() == right, "{topic} holds {} records, should be {right}", output.count());
    }
    untold.check()?;
    world.verify()?;
    world.stop().await?;
    Ok(worked)
}
