//! An installation to be tortured: three Kafka nodes, PostgreSQL, processors, producers and job workers, and proxies between them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use stocktide_devstack::{Front, Stack, StackOptions};
use stocktide_producers::sim::catalogue::{SimCatalogue, Size};
use stocktide_runtime::config::{Config, Sources};
use stocktide_runtime::kafka::ensure_topics;
use stocktide_store::{catalogue, migrate};
use tokio::process::Command;
use tokio::sync::Mutex;

use crate::disk::Disk;
use crate::proxy::Link;
use crate::service::Service;
use crate::workload;

/// How many brokers there are.
pub const BROKERS: usize = 3;
/// How many processors there are.
pub const PROCESSORS: usize = 3;
/// How many job workers there are.
pub const WORKERS: usize = 2;
/// The processor whose clock jumps: its C library is led to believe another time.
pub const CLOCKED: usize = PROCESSORS - 1;

/// Sessions and transactions that are short, so that faults can outlast them; small batches, so that faults find something in
/// hand; payments that wait hardly, so that the timer has work.
const SETTINGS: [(&str, &str); 9] = [
    ("STOCKTIDE_KAFKA_SESSION_TIMEOUT", "3s"),
    ("STOCKTIDE_KAFKA_HEARTBEAT_INTERVAL", "500ms"),
    ("STOCKTIDE_KAFKA_TRANSACTION_TIMEOUT", "8s"),
    ("STOCKTIDE_PROCESSOR_BATCH_MAX_RECORDS", "200"),
    ("STOCKTIDE_PAYMENTS_WAIT", "2s"),
    ("STOCKTIDE_TOPICS_REPLICATION", "3"),
    ("STOCKTIDE_JOBS_TAKEOVER", "2s"),
    ("STOCKTIDE_JOBS_POLL", "500ms"),
    ("STOCKTIDE_LOG_FILTER", "info,rdkafka=off,librdkafka=off"),
];

/// Few, so that taking all of them is soon done.
const POSTGRES_CONNECTIONS: &str = "60";

/// The library that lets a process believe another time (Debian's `faketime`), and where distributions keep it.
const FAKETIME: [&str; 4] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/faketime/libfaketimeMT.so.1",
    "/usr/lib64/faketime/libfaketimeMT.so.1",
];

/// How an installation is set up.
#[derive(Debug, Clone)]
pub struct Setup {
    /// The program.
    pub stocktide: PathBuf,
    /// Where data and logs are kept; none: a temporary directory.
    pub dir: Option<PathBuf>,
    /// Of what the producers send.
    pub seed: u64,
    /// How many processors there are, at most [`PROCESSORS`].
    pub processors: usize,
    /// Which broken variant the processors are; none: what is released.
    pub broken: Option<String>,
}

/// The installation.
pub struct World {
    /// The brokers.
    pub kafka: Mutex<Stack>,
    /// The database.
    pub postgres: Mutex<Stack>,
    /// Between each processor and PostgreSQL.
    pub database_links: Vec<Arc<Link>>,
    /// Between each job worker and PostgreSQL.
    pub worker_links: Vec<Arc<Link>>,
    /// Between each processor and each broker.
    pub broker_links: Vec<Vec<Arc<Link>>>,
    /// Between the producers and each broker.
    pub producer_links: Vec<Arc<Link>>,
    /// In front of each broker, for the other brokers.
    pub replica_links: Vec<Arc<Link>>,
    /// The processors.
    pub processors: Vec<Service>,
    /// The producers.
    pub producers: Vec<Service>,
    /// The job workers.
    pub workers: Vec<Service>,
    /// The harness's own way to the database.
    pub database: PgPool,
    /// The harness's own way to everything.
    pub config: Config,
    /// The file system under PostgreSQL, where it can be filled.
    pub disk: Option<Disk>,
    /// What the clock of one processor is wrong by, where that can be done.
    pub clock: Option<PathBuf>,
    /// Where reports are kept.
    pub reports: PathBuf,
    /// The schedule that the job workers follow.
    pub schedule: PathBuf,
    /// The product.
    pub program: PathBuf,
    /// Where data and logs are.
    pub dir: PathBuf,
    _temporary: Option<tempfile::TempDir>,
}

impl World {
    /// Starts servers and proxies, and makes schema, topics and catalogue. No service runs yet.
    ///
    /// # Errors
    /// Something cannot be started.
    pub async fn start(setup: &Setup) -> anyhow::Result<World> {
        let temporary = if setup.dir.is_none() { Some(tempfile::tempdir()?) } else { None };
        let dir = setup
            .dir
            .clone()
            .or_else(|| Some(temporary.as_ref()?.path().to_owned()))
            .context("a directory")?;
        std::fs::create_dir_all(dir.join("logs")).with_context(|| dir.display().to_string())?;
        let disk = Disk::mount(&dir.join("disk"));

        let mut fronts = Fronts::default();
        let mut broker_links = Vec::new();
        for n in 1..=setup.processors {
            broker_links.push(fronts.add(&format!("PROCESSOR{n}"), &format!("processor-{n}")).await?);
        }
        let producer_links = fronts.add("PRODUCERS", "producers").await?;
        let replica_links = fronts.add("REPLICAS", "brokers").await?;
        let kafka = kafka(&fronts.0);
        let postgres = postgres(disk.as_ref());
        let (kafka, postgres) = tokio::try_join!(kafka, postgres)?;
        for (front, links) in
            fronts.0.iter().zip(broker_links.iter().chain([&producer_links, &replica_links]))
        {
            links.iter().zip(kafka.front_ports(&front.name)).for_each(|(link, port)| link.lead_to(port));
        }
        let postgres_port = port_of(&postgres.database_url())?;
        let database_links = to_postgres("processor", setup.processors, postgres_port).await?;
        let worker_links = to_postgres("jobs", WORKERS, postgres_port).await?;

        let config = config(&kafka.kafka_brokers(), &postgres.database_url())?;
        migrate::run(&postgres.database_url(), &config.business.currency, config.business.timezone.name())
            .await?;
        ensure_topics(&config).await?;
        let database = PgPoolOptions::new()
            .max_connections(4)
            .acquire_timeout(Duration::from_secs(5))
            .connect(&postgres.database_url())
            .await?;
        let shelves = SimCatalogue::synthetic(Size { products: 200, locations: 5 });
        catalogue::load(&database, &shelves.files("GBP")).await?;

        let clock = FAKETIME.iter().map(Path::new).find(|library| library.exists());
        let clock = clock.map(|library| (library.to_owned(), dir.join("clock")));
        if let Some((_, file)) = &clock {
            std::fs::write(file, "+0")?;
        }
        let mut world = World {
            kafka: Mutex::new(kafka),
            postgres: Mutex::new(postgres),
            database_links,
            worker_links,
            broker_links,
            producer_links,
            replica_links,
            processors: Vec::new(),
            producers: Vec::new(),
            workers: Vec::new(),
            database,
            config,
            disk,
            clock: clock.as_ref().map(|(_, file)| file.clone()),
            reports: dir.join("reports"),
            schedule: dir.join("schedule.toml"),
            program: setup.stocktide.clone(),
            dir,
            _temporary: temporary,
        };
        world.add_services(setup, clock).await?;
        Ok(world)
    }

    async fn add_services(&mut self, setup: &Setup, clock: Option<(PathBuf, PathBuf)>) -> anyhow::Result<()> {
        let logs = self.dir.join("logs");
        let direct = self.config.database_url()?;
        let command = |program: &Path, database: &str, brokers: &str| {
            let (program, database, brokers) = (program.to_owned(), database.to_owned(), brokers.to_owned());
            move || {
                let mut command = Command::new(&program);
                command.envs(SETTINGS).env("STOCKTIDE_DATABASE_URL", &database);
                command.env("STOCKTIDE_KAFKA_BROKERS", &brokers);
                command
            }
        };
        for (index, (link, links)) in self.database_links.iter().zip(&self.broker_links).enumerate() {
            let base = command(&setup.stocktide, &through(&direct, link), &addresses(links));
            let broken = setup.broken.clone();
            let clock = clock.clone().filter(|_| index == CLOCKED);
            let deceived = clock.is_some();
            let start = move |_| {
                let mut command = base();
                command.arg("processor").envs(broken.iter().map(|name| ("STOCKTIDE_TEST_BROKEN", name)));
                if let Some((library, file)) = &clock {
                    command.env("LD_PRELOAD", library).env("FAKETIME_TIMESTAMP_FILE", file);
                    command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1").env("FAKETIME_CACHE_DURATION", "1");
                }
                command
            };
            let mut processor = Service::new(format!("processor-{}", index + 1), &logs, Box::new(start));
            processor.judged_at_its_end = !deceived;
            self.processors.push(processor);
        }
        let brokers = addresses(&self.producer_links);
        let start_of_events = workload::first_day(&self.database).await?;
        for (index, source) in workload::SOURCES.iter().enumerate() {
            let base = command(&setup.stocktide, &direct, &brokers);
            let (seed, first) = (setup.seed, start_of_events.clone());
            let start = move |starts| {
                let mut command = base();
                command.arg("produce").args(*source).args(workload::common(seed, index, starts, &first));
                command
            };
            self.producers.push(Service::new(format!("producer-{}", index + 1), &logs, Box::new(start)));
        }
        for (index, link) in self.worker_links.iter().enumerate() {
            let base = command(&setup.stocktide, &through(&direct, link), &self.config.kafka_brokers()?);
            let (reports, schedule) = (format!("file://{}", self.reports.display()), self.schedule.clone());
            let start = move |_| {
                let mut command = base();
                command.args(["jobs", "run"]).env("STOCKTIDE_JOBS_FILE", &schedule);
                command.env("STOCKTIDE_REPORTS_URL", &reports);
                command
            };
            self.workers.push(Service::new(format!("jobs-{}", index + 1), &logs, Box::new(start)));
        }
        Ok(())
    }

    /// Every process of the product.
    pub fn services(&self) -> impl Iterator<Item = &Service> {
        self.processors.iter().chain(&self.producers).chain(&self.workers)
    }

    /// Every proxy.
    pub fn links(&self) -> impl Iterator<Item = &Arc<Link>> {
        let brokers = self.broker_links.iter().flatten();
        let databases = self.database_links.iter().chain(&self.worker_links);
        brokers.chain(databases).chain(&self.producer_links).chain(&self.replica_links)
    }

    /// Ends everything.
    ///
    /// # Errors
    /// The file system under PostgreSQL cannot be taken away.
    pub async fn end(self) -> anyhow::Result<()> {
        let World { kafka, postgres, processors, producers, workers, database, disk, .. } = self;
        for service in processors.iter().chain(&producers).chain(&workers) {
            service.freeze(false).await;
            service.kill().await;
        }
        database.close().await;
        kafka.into_inner().stop().await?;
        postgres.into_inner().stop().await?;
        disk.map_or(Ok(()), Disk::unmount)
    }
}

/// A proxy between each of so many services and PostgreSQL.
async fn to_postgres(service: &str, count: usize, port: u16) -> anyhow::Result<Vec<Arc<Link>>> {
    let mut links = Vec::new();
    for n in 1..=count {
        let link = Link::listen(&format!("{service}-{n}/postgres"), true).await?;
        link.lead_to(port);
        links.push(link);
    }
    Ok(links)
}

/// The Kafka listeners that lead through proxies.
#[derive(Default)]
struct Fronts(Vec<Front>);

impl Fronts {
    async fn add(&mut self, name: &str, clients: &str) -> anyhow::Result<Vec<Arc<Link>>> {
        let mut links = Vec::new();
        for n in 1..=BROKERS {
            links.push(Link::listen(&format!("{clients}/broker-{n}"), false).await?);
        }
        self.0
            .push(Front { name: name.to_owned(), advertised: links.iter().map(|link| link.port).collect() });
        Ok(links)
    }
}

async fn kafka(fronts: &[Front]) -> anyhow::Result<Stack> {
    let settings = [("inter.broker.listener.name", "REPLICAS"), ("replica.lag.time.max.ms", "4000")];
    let options = StackOptions {
        kafka_nodes: BROKERS as u16,
        postgres: false,
        kafka_fronts: fronts.to_vec(),
        kafka_settings: settings.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
        ..StackOptions::default()
    };
    Ok(Stack::start(options).await?)
}

async fn postgres(disk: Option<&Disk>) -> anyhow::Result<Stack> {
    // The log is kept small, so that the small file system has room for it.
    let settings =
        [("max_connections", POSTGRES_CONNECTIONS), ("max_wal_size", "128MB"), ("shared_buffers", "64MB")];
    let options = StackOptions {
        kafka: false,
        state_dir: disk.map(|disk| disk.path().join("postgres")),
        postgres_settings: settings.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
        ..StackOptions::default()
    };
    Ok(Stack::start(options).await?)
}

fn config(brokers: &str, database: &str) -> anyhow::Result<Config> {
    let own = [("STOCKTIDE_DATABASE_URL", database), ("STOCKTIDE_KAFKA_BROKERS", brokers)];
    let environment = own.iter().chain(&SETTINGS).map(|(name, value)| ((*name).to_owned(), (*value).into()));
    Ok(Config::load(&Sources { file: None, environment: environment.collect(), flags: Vec::new() })?)
}

fn addresses(links: &[Arc<Link>]) -> String {
    links.iter().map(|link| format!("127.0.0.1:{}", link.port)).collect::<Vec<_>>().join(",")
}

fn port_of(url: &str) -> anyhow::Result<u16> {
    let port = url.rsplit_once(':').and_then(|(_, rest)| rest.split('/').next()?.parse().ok());
    port.with_context(|| format!("no port in {url}"))
}

/// The same database by way of a proxy.
fn through(url: &str, link: &Link) -> String {
    match port_of(url) {
        Ok(port) => url.replace(&format!(":{port}/"), &format!(":{}/", link.port)),
        Err(_) => url.to_owned(),
    }
}
