//! PostgreSQL, killed, restarted, frozen, full, locked, and refusing.

use std::time::Duration;

use anyhow::Context as _;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use stocktide_devstack::PostgresStop;
use tokio::time::{Instant, sleep, timeout};

use super::{Took, freeze_tree};
use crate::fault::{Fault, Kind};
use crate::world::World;

/// How long it may take until the database lets somebody in again.
const PATIENCE: Duration = Duration::from_mins(1);

/// Topics in the order of their names.
const TOPICS: [&str; 4] = ["online_orders", "payments", "store_sales", "supplier_restocks"];

/// Refuses orders' lines of one event in 32, for as long as the trigger is there. `torture_refuses` stays, for the check.
const POISON: &str = "
    CREATE OR REPLACE FUNCTION torture_refuses(id uuid) RETURNS bool LANGUAGE sql IMMUTABLE
        AS 'SELECT get_byte(uuid_send(id), 15) < 8';
    CREATE OR REPLACE FUNCTION torture_refuse() RETURNS trigger LANGUAGE plpgsql
        AS 'BEGIN RAISE EXCEPTION ''this row is refused''; END';
    SET lock_timeout = '5s';
    CREATE TRIGGER torture_poison BEFORE INSERT ON orders FOR EACH ROW
        WHEN (torture_refuses(NEW.event_id)) EXECUTE FUNCTION torture_refuse()";
const ANTIDOTE: &str = "DROP TRIGGER IF EXISTS torture_poison ON orders";

pub async fn inject(world: &World, fault: &Fault) -> anyhow::Result<Took> {
    match fault.kind {
        Kind::KillPostgres => {
            world.postgres.lock().await.kill_postgres().await?;
            sleep(fault.hold).await;
            world.postgres.lock().await.start_postgres().await?;
        }
        Kind::StopPostgresFast => restart(world, PostgresStop::Fast, fault).await?,
        Kind::StopPostgresImmediate => restart(world, PostgresStop::Immediate, fault).await?,
        Kind::FreezePostgres => {
            let Some(process) = world.postgres.lock().await.postgres_process() else {
                return Ok(Took::NoPlace("PostgreSQL does not run".to_owned()));
            };
            freeze_tree(process.pid, true);
            sleep(fault.hold).await;
            freeze_tree(process.pid, false);
        }
        Kind::DiskFull => {
            let Some(disk) = &world.disk else { return Ok(Took::NoPlace("no disk to fill".to_owned())) };
            disk.fill().await?;
            sleep(fault.hold).await;
            disk.empty();
            come_back(world).await?;
        }
        _ => return Ok(in_session(world, fault).await),
    }
    Ok(Took::Place)
}

async fn restart(world: &World, how: PostgresStop, fault: &Fault) -> anyhow::Result<()> {
    world.postgres.lock().await.stop_postgres(how).await?;
    sleep(fault.hold).await;
    Ok(world.postgres.lock().await.start_postgres().await?)
}

/// What another session does to the services'.
async fn in_session(world: &World, fault: &Fault) -> Took {
    let done = async {
        let mut session = session(world).await?;
        match fault.kind {
            Kind::Terminate => {
                let sql = "SELECT count(*) FILTER (WHERE pg_terminate_backend(pid) AND application_name LIKE 'stocktide%')
                    FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
                again_and_again(&mut session, sql, Duration::from_millis(200), fault.hold).await
            }
            Kind::Cancel => {
                let sql = "SELECT count(*) FILTER (WHERE pg_cancel_backend(pid) AND application_name LIKE 'stocktide%')
                    FROM pg_stat_activity WHERE datname = current_database() AND state = 'active' AND pid <> pg_backend_pid()";
                again_and_again(&mut session, sql, Duration::from_millis(30), fault.hold).await
            }
            Kind::LockStock => {
                let sql = format!(
                    "BEGIN; SET LOCAL lock_timeout = '2s'; SELECT FROM inventory
                         ORDER BY md5(product_id || location_id || '{}') LIMIT 40 FOR UPDATE",
                    fault.dice
                );
                lock(&mut session, &sql, fault.hold).await
            }
            Kind::LockProgress => {
                let topic = TOPICS[usize::from(fault.target) % TOPICS.len()];
                let sql = format!(
                    "BEGIN; SET LOCAL lock_timeout = '2s'; SELECT FROM partition_progress WHERE topic = '{topic}'
                         ORDER BY partition FOR UPDATE"
                );
                lock(&mut session, &sql, fault.hold).await
            }
            Kind::Exhaust => exhaust(world, &mut session, fault.hold).await,
            Kind::PoisonRow => {
                sqlx::raw_sql(POISON).execute(&mut session).await?;
                sleep(fault.hold).await;
                drop_poison(world).await
            }
            _ => anyhow::bail!("not a fault of PostgreSQL"),
        }
    };
    // A session that another fault ended, or that got no lock: nothing of it stays, the trigger excepted.
    match done.await {
        Ok(()) => Took::Place,
        Err(error) => Took::NoPlace(format!("{error:#}")),
    }
}

async fn session(world: &World) -> anyhow::Result<PgConnection> {
    let url = world.config.database_url()?;
    timeout(Duration::from_secs(10), PgConnection::connect(&url))
        .await
        .context("no answer")?
        .context("no session")
}

/// Does something to the others' sessions, which answers how many of the services' it was done to; at least to one, at last.
async fn again_and_again(
    session: &mut PgConnection,
    sql: &'static str,
    pause: Duration,
    hold: Duration,
) -> anyhow::Result<()> {
    let deadline = Instant::now() + hold;
    let mut hit = 0_i64;
    loop {
        hit += sqlx::query_scalar::<_, i64>(sql).fetch_one(&mut *session).await?;
        if Instant::now() >= deadline {
            anyhow::ensure!(hit > 0, "no service had a session, or a statement, at that time");
            return Ok(());
        }
        sleep(pause).await;
    }
}

async fn lock(session: &mut PgConnection, sql: &str, hold: Duration) -> anyhow::Result<()> {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *session).await?;
    sleep(hold).await;
    sqlx::raw_sql("ROLLBACK").execute(session).await?;
    Ok(())
}

/// Takes every connection that there is, those of the services included.
async fn exhaust(world: &World, session: &mut PgConnection, hold: Duration) -> anyhow::Result<()> {
    let url = world.config.database_url()?;
    let mut taken = Vec::new();
    let deadline = Instant::now() + hold + Duration::from_secs(2);
    let mut full_since = None;
    while Instant::now() < deadline {
        let connected =
            timeout(Duration::from_secs(2), PgConnection::connect(&url)).await.context("no answer")?;
        if let Ok(connection) = connected {
            taken.push(connection);
            continue;
        }
        let since = *full_since.get_or_insert_with(Instant::now);
        if since.elapsed() >= hold {
            break;
        }
        let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
            WHERE datname = current_database() AND application_name = 'stocktide-processor'";
        sqlx::raw_sql(sql).execute(&mut *session).await?;
        sleep(Duration::from_millis(50)).await;
    }
    anyhow::ensure!(full_since.is_some(), "there were always more");
    Ok(())
}

/// Drops the trigger, through whatever else goes on.
async fn drop_poison(world: &World) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let dropped = async {
            let mut session = session(world).await?;
            sqlx::raw_sql("SET lock_timeout = '5s'").execute(&mut session).await?;
            anyhow::Ok(sqlx::raw_sql(ANTIDOTE).execute(&mut session).await?)
        };
        match dropped.await {
            Ok(_) => return Ok(()),
            Err(error) if Instant::now() >= deadline => return Err(error.context("the trigger stays")),
            Err(_) => sleep(Duration::from_millis(100)).await,
        }
    }
}

/// Starts PostgreSQL where it ended, and waits until it lets somebody in.
async fn come_back(world: &World) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        world.postgres.lock().await.start_postgres().await?;
        match session(world).await {
            Ok(session) => return Ok(session.close().await?),
            Err(error) if Instant::now() >= deadline => {
                return Err(error.context("PostgreSQL does not come back"));
            }
            Err(_) => sleep(Duration::from_millis(100)).await,
        }
    }
}

/// It runs, nothing is full, and nothing is refused.
pub async fn heal(world: &World) -> anyhow::Result<()> {
    if let Some(disk) = &world.disk {
        disk.empty();
    }
    if let Some(process) = world.postgres.lock().await.postgres_process() {
        freeze_tree(process.pid, false);
    }
    come_back(world).await?;
    drop_poison(world).await
}
