//! Who may do what: four roles with no more than they need.
//!
//! The owner owns the schema, runs `stocktide migrate` and what people do by hand. The services' rights are given to three group
//! roles, whose members are the users that the services log in as. Roles are the whole server's, and making them takes a right that
//! an owner need not have: an administrator makes them once ([`creation`]); the owner then gives them their rights, at each
//! `migrate` anew ([`grant`]), so that new tables are never forgotten.

use std::str::FromStr as _;

use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};

use crate::migrate::MigrateError;

/// A service's group role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The processor.
    Processor,
    /// The scheduled jobs, and `verify`.
    Jobs,
    /// The HTTP API.
    Api,
}

impl Role {
    /// All of them.
    pub const ALL: [Role; 3] = [Role::Processor, Role::Jobs, Role::Api];

    /// What its name ends with.
    pub fn suffix(self) -> &'static str {
        match self {
            Role::Processor => "processor",
            Role::Jobs => "jobs",
            Role::Api => "api",
        }
    }

    /// Its name, with the configured prefix.
    pub fn name(self, prefix: &str) -> String {
        format!("{prefix}_{}", self.suffix())
    }
}

/// What a role may do with a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Right {
    /// Read.
    Select,
    /// Add rows.
    Insert,
    /// Change rows, or lock them.
    Update,
    /// Remove rows.
    Delete,
}

impl Right {
    /// All of them.
    pub const ALL: [Right; 4] = [Right::Select, Right::Insert, Right::Update, Right::Delete];

    /// Its name in SQL.
    pub fn name(self) -> &'static str {
        match self {
            Right::Select => "SELECT",
            Right::Insert => "INSERT",
            Right::Update => "UPDATE",
            Right::Delete => "DELETE",
        }
    }

    fn letter(self) -> char {
        match self {
            Right::Select => 'r',
            Right::Insert => 'a',
            Right::Update => 'w',
            Right::Delete => 'd',
        }
    }
}

/// A table or a view, and what the processor, the jobs and the API may do with it: r(ead), a(dd), w(rite over), d(elete).
type Row = (&'static str, &'static str, &'static str, &'static str);

/// What is not named here no service may touch. `verify` reads all of it.
const RIGHTS: &[Row] = &[
    // The catalogue; version and timezone are read under a lock by nobody but a load, which is the owner's.
    ("installation", "r", "r", "r"),
    ("products", "r", "r", "r"),
    ("locations", "r", "r", "r"),
    ("suppliers", "r", "r", "r"),
    // Stock, and what moves it.
    ("inventory", "raw", "r", "r"),
    ("order_headers", "raw", "r", "r"),
    ("orders", "ra", "r", "r"),
    ("restock_lines", "ra", "r", "r"),
    // Payments.
    ("payments", "raw", "r", "r"),
    ("payment_events", "ra", "r", "r"),
    ("parked_payments", "rawd", "r", "r"),
    // The log and the dedupe. A month that is old enough is dropped by a function with the owner's rights.
    ("events_log", "ra", "r", "r"),
    ("events_log_default", "", "r", ""),
    ("applied_events", "rad", "r", "r"),
    ("rejects_by_day", "", "raw", "r"),
    ("fates_by_day", "raw", "r", "r"),
    ("partition_progress", "raw", "rw", "r"),
    // Rollups.
    ("sales_by_month", "raw", "r", "r"),
    ("user_stats", "raw", "r", "r"),
    ("top_users", "rawd", "r", "r"),
    ("top_users_floor", "rw", "r", "r"),
    // Jobs and reports.
    ("job_schedules", "", "raw", "r"),
    ("job_runs", "", "rawd", "r"),
    ("job_tasks", "", "rawd", "r"),
    ("reports", "", "raw", "r"),
    // What was done with rejects, and who was forgotten: the owner's doing.
    ("dlq_actions", "r", "r", "r"),
    ("forgotten_users", "", "r", ""),
    // The schema's version, which `health` and the services ask for.
    ("_sqlx_migrations", "r", "r", "r"),
    // Views read with their owner's rights.
    ("inventory_totals", "", "r", "r"),
    ("stock_movements", "r", "r", "r"),
    ("events", "", "r", "r"),
    ("global_stats", "", "r", "r"),
    ("orders_payments_facts", "", "r", "r"),
    ("dlq_records", "r", "r", "r"),
];

/// Where a service may write over one column only. (To lock a row is to be allowed to write over something of it.)
const COLUMNS: &[(&str, Role, &str)] = &[("partition_progress", Role::Jobs, "log_floor")];

/// Functions that run with their owner's rights, and who may call them.
const FUNCTIONS: &[(&str, Role)] = &[
    ("ensure_events_log_partition(timestamptz)", Role::Processor),
    ("lock_events_log_month(date)", Role::Jobs),
    ("drop_events_log_month(date)", Role::Jobs),
];

/// Whether a role may do that with a table or view.
pub fn may(role: Role, right: Right, table: &str) -> bool {
    let row = RIGHTS.iter().find(|(name, ..)| *name == table);
    let letters = row.map(|(_, processor, jobs, api)| match role {
        Role::Processor => processor,
        Role::Jobs => jobs,
        Role::Api => api,
    });
    letters.is_some_and(|letters| letters.contains(right.letter()))
}

/// The only column that a role may write over where it may write over something; none: all of them.
pub fn column(role: Role, table: &str) -> Option<&'static str> {
    let found = COLUMNS.iter().find(|(name, whose, _)| *name == table && *whose == role);
    found.map(|(_, _, column)| *column)
}

/// The tables and views whose rights are decided.
pub fn tables() -> impl Iterator<Item = &'static str> {
    RIGHTS.iter().map(|(table, ..)| *table)
}

/// The SQL that makes the group roles, for whoever may; it can be run again.
pub fn creation(prefix: &str) -> String {
    let create = |role: Role| {
        let name = role.name(prefix);
        format!(
            "DO $$ BEGIN\n    CREATE ROLE {name} NOLOGIN;\nEXCEPTION WHEN duplicate_object THEN NULL;\nEND $$;\n"
        )
    };
    Role::ALL.into_iter().map(create).collect()
}

/// Gives the group roles that exist their rights in this database, and takes what else they have; run by the owner. Answers the
/// names of the roles. Services that run do not notice.
///
/// # Errors
/// [`MigrateError`]; nothing was changed.
pub async fn grant(url: &str, prefix: &str) -> Result<Vec<String>, MigrateError> {
    let mut connection = PgConnection::connect_with(&PgConnectOptions::from_str(url)?).await?;
    let mut transaction = connection.begin().await?;
    // Two at once would stumble over each other's rows of the system's catalogue.
    transaction.execute("SELECT pg_advisory_xact_lock(hashtext('stocktide roles'))").await?;
    let mut granted = Vec::new();
    for role in Role::ALL {
        let name = role.name(prefix);
        let exists: bool = sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)")
            .bind(&name)
            .fetch_one(&mut *transaction)
            .await?;
        if exists {
            transaction.execute(sqlx::raw_sql(AssertSqlSafe(rights_of(role, &name)))).await?;
            granted.push(name);
        }
    }
    transaction.commit().await?;
    connection.close().await?;
    Ok(granted)
}

/// One block of PL/pgSQL, so that it can pass over what an older or newer schema does not have.
fn rights_of(role: Role, name: &str) -> String {
    let mut statements = vec![
        format!("EXECUTE format('REVOKE ALL ON ALL TABLES IN SCHEMA %I FROM {name}', current_schema())"),
        format!("EXECUTE format('GRANT USAGE ON SCHEMA %I TO {name}', current_schema())"),
        format!("EXECUTE format('GRANT CONNECT ON DATABASE %I TO {name}', current_database())"),
    ];
    for table in tables() {
        let named = |right: Right| match column(role, table).filter(|_| right == Right::Update) {
            Some(column) => format!("{} ({column})", right.name()),
            None => right.name().to_owned(),
        };
        let rights: Vec<String> =
            Right::ALL.into_iter().filter(|right| may(role, *right, table)).map(named).collect();
        if !rights.is_empty() {
            let grant = format!("GRANT {} ON {table} TO {name}", rights.join(", "));
            statements.push(format!("IF to_regclass('{table}') IS NOT NULL THEN {grant}; END IF"));
        }
    }
    for (function, whose) in FUNCTIONS {
        let (verb, preposition) = if *whose == role { ("GRANT", "TO") } else { ("REVOKE", "FROM") };
        statements.push(format!("{verb} EXECUTE ON FUNCTION {function} {preposition} {name}"));
    }
    if role == Role::Jobs {
        statements.push(format!("GRANT USAGE ON SCHEMA apalis TO {name}"));
        let rights = "GRANT SELECT, INSERT, UPDATE, DELETE";
        statements.push(format!("{rights} ON ALL TABLES IN SCHEMA apalis TO {name}"));
        statements.push(format!("GRANT USAGE ON ALL SEQUENCES IN SCHEMA apalis TO {name}"));
    }
    let body = statements.join(";\n") + ";\n";
    format!("DO $roles$ BEGIN\n{body}END $roles$")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_decided_is_decided_once_and_in_known_letters() {
        let mut names: Vec<&str> = tables().collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), RIGHTS.len());
        for (table, processor, jobs, api) in RIGHTS {
            for letters in [processor, jobs, api] {
                assert!(letters.chars().all(|letter| "rawd".contains(letter)), "{table}: {letters}");
            }
        }
    }

    #[test]
    fn no_service_may_take_anything_out_of_the_ledger() {
        for ledger in ["orders", "restock_lines", "payment_events", "events_log"] {
            for role in Role::ALL {
                assert!(!may(role, Right::Update, ledger) && !may(role, Right::Delete, ledger), "{ledger}");
            }
        }
    }
}
