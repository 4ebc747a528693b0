//! The schema, brought up to date, and what of the configuration is fixed with it.

use std::str::FromStr;

use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{Connection, PgConnection, PgPool, Row};

static MIGRATIONS: Migrator = sqlx::migrate!("../../migrations");

/// What `run` found and did.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Migrated {
    /// The migrations that were missing at the start, as `version description`; none: the schema was up to date.
    pub applied: Vec<String>,
    /// Whether this run set the installation's currency and timezone.
    pub is_new: bool,
}

/// Why the schema was not brought up to date.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// The server or the database is not fit, and what would help.
    #[error("{0}")]
    Unfit(String),
    /// The configuration contradicts what the installation was set up with.
    #[error("{key} is {configured}, but this installation was set up with {fixed}: it cannot be changed")]
    Fixed {
        /// The key.
        key: &'static str,
        /// What it is set to.
        configured: String,
        /// What it was set to by the first migration.
        fixed: String,
    },
    /// The schema was made by a newer program.
    #[error(
        "the database has migration {found:04} and this program knows them up to {known:04}: use a program as new as the database"
    )]
    Newer {
        /// The newest migration of the database.
        found: i64,
        /// The newest one of this program.
        known: i64,
    },
    /// A migration failed, or was changed after it had been applied.
    #[error("the schema: {0}")]
    Schema(#[from] sqlx::migrate::MigrateError),
    /// The database is away, or refuses.
    #[error("the database: {0}")]
    Database(#[from] sqlx::Error),
}

/// Applies the migrations that are missing, writes the `installation` row, and makes the log's partitions for this month
/// and the next two. Several may run at once, and a second run changes nothing.
///
/// # Errors
/// [`MigrateError`]; what had been applied before stays.
pub async fn run(url: &str, currency: &str, timezone: &str) -> Result<Migrated, MigrateError> {
    // "already exists, skipping" is no news to anybody.
    let options = PgConnectOptions::from_str(url)?.options([("client_min_messages", "warning")]);
    // A pool goes on trying for its whole time-out when nobody listens; whoever waits wants to know at once.
    PgConnection::connect_with(&options).await?.close().await?;
    // The migrator takes its lock and does its work on one connection; a pool, because its future is Send with one only.
    let pool = PgPoolOptions::new().max_connections(1).connect_with(options).await?;
    check_server(&mut *pool.acquire().await?).await?;
    let before = versions(&pool).await?;
    if let (Some(&found), known) = (before.iter().max(), newest())
        && found > known
    {
        return Err(MigrateError::Newer { found, known });
    }
    MIGRATIONS.run(&pool).await?;
    crate::jobs::prepare(&pool).await?;
    let is_new = settle_installation(&pool, currency, timezone).await?;
    make_log_partitions(&pool).await?;
    pool.close().await;
    let applied = MIGRATIONS.iter().filter(|m| !before.contains(&m.version));
    Ok(Migrated { applied: applied.map(|m| format!("{:04} {}", m.version, m.description)).collect(), is_new })
}

/// Refuses servers and databases that cannot keep the promises: those that may lose commits, too (rule 5 of the protocol).
///
/// # Errors
/// [`MigrateError::Unfit`], or [`MigrateError::Database`] when it cannot be asked.
pub async fn check_server(connection: &mut PgConnection) -> Result<(), MigrateError> {
    let sql = "SELECT current_setting('server_version_num')::int, current_setting('synchronous_commit'),
                      current_setting('fsync'), current_setting('server_encoding')";
    let row = sqlx::query(sql).fetch_one(connection).await?;
    let encoding: String = row.try_get(3)?;
    if encoding != "UTF8" {
        return Err(MigrateError::Unfit(format!("the database's encoding is {encoding}; allowed: UTF8")));
    }
    let (synchronous, fsync): (String, String) = (row.try_get(1)?, row.try_get(2)?);
    unfit(row.try_get(0)?, &synchronous, &fsync).map_or(Ok(()), |why| Err(MigrateError::Unfit(why)))
}

/// Why a server with these settings cannot keep the promises; none: it can.
pub(crate) fn unfit(version: i32, synchronous_commit: &str, fsync: &str) -> Option<String> {
    match version {
        // UPDATE … FROM under READ COMMITTED skips concurrently updated rows there.
        180_000 | 180_001 => Some(format!(
            "PostgreSQL 18.{} loses concurrent updates: upgrade to 18.2 or later",
            version - 180_000
        )),
        ..150_000 => Some(format!("PostgreSQL {} is too old: 15 or later is needed", version / 10_000)),
        _ if synchronous_commit == "off" || fsync == "off" => Some(format!(
            "synchronous_commit is {synchronous_commit} and fsync is {fsync}: commits could be lost, so neither may be off"
        )),
        _ => None,
    }
}

/// The newest migration that this program has.
pub(crate) fn newest() -> i64 {
    MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or_default()
}

async fn versions(pool: &PgPool) -> Result<Vec<i64>, sqlx::Error> {
    let is_there: bool =
        sqlx::query_scalar("SELECT to_regclass('_sqlx_migrations') IS NOT NULL").fetch_one(pool).await?;
    if !is_there {
        return Ok(Vec::new());
    }
    sqlx::query_scalar("SELECT version FROM _sqlx_migrations WHERE success").fetch_all(pool).await
}

async fn settle_installation(pool: &PgPool, currency: &str, timezone: &str) -> Result<bool, MigrateError> {
    let written =
        sqlx::query("INSERT INTO installation (currency, timezone) VALUES ($1, $2) ON CONFLICT DO NOTHING")
            .bind(currency)
            .bind(timezone)
            .execute(pool)
            .await?;
    let row = sqlx::query("SELECT currency, timezone FROM installation").fetch_one(pool).await?;
    let settled: [(&'static str, &str, String); 2] =
        [("business.currency", currency, row.try_get(0)?), ("business.timezone", timezone, row.try_get(1)?)];
    for (key, configured, fixed) in settled {
        if configured != fixed {
            return Err(MigrateError::Fixed { key, configured: configured.to_owned(), fixed });
        }
    }
    Ok(written.rows_affected() == 1)
}

async fn make_log_partitions(pool: &PgPool) -> Result<(), sqlx::Error> {
    sqlx::query(
        "SELECT ensure_events_log_partition(
             date_trunc('month', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC' + ahead * interval '1 month')
         FROM generate_series(0, 2) AS ahead",
    )
    .execute(pool)
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::unfit;

    #[test]
    fn servers_that_lose_updates_or_commits_are_refused() {
        let loses =
            |version| unfit(version, "on", "on").is_some_and(|why| why.contains("loses concurrent updates"));
        assert_eq!(
            [180_000, 180_001, 180_002, 180_006, 150_018, 190_000].map(loses),
            [true, true, false, false, false, false]
        );
        assert!(unfit(140_010, "on", "on").is_some());
        assert!(unfit(180_006, "off", "on").is_some_and(|why| why.starts_with("synchronous_commit is off")));
        assert!(unfit(180_006, "on", "off").is_some());
        for fit in ["on", "local", "remote_write", "remote_apply"] {
            assert_eq!(unfit(180_006, fit, "on"), None);
        }
    }
}
