//! Each cell of who may do what is tried.

use std::fmt::Write as _;

use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use stocktide_store::roles::{self, Right, Role};

use crate::world::World;

/// What a role may not do besides: a statement that fails for a lack of rights and for nothing else.
const FORBIDDEN: [(&str, &str); 14] = [
    ("CREATE TABLE", "CREATE TABLE mine (x int)"),
    ("CREATE SCHEMA", "CREATE SCHEMA mine"),
    ("CREATE FUNCTION", "CREATE FUNCTION mine() RETURNS int LANGUAGE sql AS 'SELECT 1'"),
    ("CREATE ROLE", "CREATE ROLE mine"),
    ("CREATE EXTENSION", "CREATE EXTENSION citext"),
    ("ALTER TABLE", "ALTER TABLE orders ADD COLUMN mine int"),
    ("DROP TABLE", "DROP TABLE orders"),
    ("TRUNCATE", "TRUNCATE orders"),
    ("switch off a trigger", "ALTER TABLE partition_progress DISABLE TRIGGER ALL"),
    ("become a superuser", "ALTER ROLE CURRENT_USER SUPERUSER"),
    ("become the owner", "SET ROLE \"stocktide-owner\""),
    ("read passwords", "SELECT rolpassword FROM pg_authid"),
    ("read the server's files", "SELECT pg_read_file('/etc/passwd')"),
    ("run programs", "COPY installation FROM PROGRAM 'true'"),
];

/// The functions that run with their owner's rights, and who may call them.
const FUNCTIONS: [(&str, &str, Role); 3] = [
    ("make a month of the log", "SELECT ensure_events_log_partition(now())", Role::Processor),
    ("lock a month of the log", "SELECT lock_events_log_month('2020-01-01')", Role::Jobs),
    ("drop a month of the log", "SELECT drop_events_log_month('2020-01-01')", Role::Jobs),
];

/// Whether it is allowed; any failure but a lack of rights fails the test.
async fn allowed(connection: &mut PgConnection, sql: &str) -> bool {
    let mut transaction = connection.begin().await.unwrap();
    let outcome = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut *transaction).await;
    transaction.rollback().await.unwrap();
    let Err(error) = outcome else { return true };
    let code = error.as_database_error().and_then(|e| e.code().map(std::borrow::Cow::into_owned));
    // 42501: insufficient privilege; 55000: a view that nobody can write into.
    assert!(matches!(code.as_deref(), Some("42501" | "55000")), "{sql}: {error}");
    false
}

async fn as_user(world: &World, user: &str) -> PgConnection {
    PgConnection::connect(&world.url(user, "ca.pem")).await.unwrap()
}

/// A statement that does nothing, and that is refused without the right.
async fn attempt(world: &World, right: Right, table: &str, role: Option<Role>) -> String {
    if let Some(column) = role.and_then(|role| roles::column(role, table)).filter(|_| right == Right::Update)
    {
        return format!("UPDATE {table} SET {column} = NULL WHERE false");
    }
    let sql = "SELECT quote_ident(attname) FROM pg_attribute WHERE attrelid = $1::regclass AND attnum > 0
                   AND attidentity = '' AND NOT attisdropped ORDER BY attnum LIMIT 1";
    let column: String = sqlx::query_scalar(sql).bind(table).fetch_one(&world.database).await.unwrap();
    match right {
        Right::Select => format!("SELECT {column} FROM {table} LIMIT 0"),
        Right::Insert => format!("INSERT INTO {table} ({column}) SELECT NULL WHERE false"),
        Right::Update => format!("UPDATE {table} SET {column} = NULL WHERE false"),
        Right::Delete => format!("DELETE FROM {table} WHERE false"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_role_may_do_what_the_table_says_and_nothing_else() {
    let world = World::start(2060).await;
    world.migrate_database().await;
    let services = [
        ("processor", Some(Role::Processor)),
        ("jobs", Some(Role::Jobs)),
        ("api", Some(Role::Api)),
        ("owner", None),
    ];
    let mut connections = Vec::new();
    for (user, role) in services {
        connections.push((user, role, as_user(&world, user).await));
    }
    let mut wrong = Vec::new();
    let mut cells = 0;
    let existing: Vec<String> = sqlx::query_scalar(
        "SELECT relname::text FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v', 'm')
             AND relname !~ '^events_log_[0-9]{6}$' ORDER BY 1",
    )
    .fetch_all(&world.database)
    .await
    .unwrap();
    for table in &existing {
        assert!(
            roles::tables().any(|known| known == table),
            "services/store/src/roles.rs says nothing of {table}"
        );
        let is_view: bool = sqlx::query_scalar("SELECT relkind = 'v' FROM pg_class WHERE oid = $1::regclass")
            .bind(table)
            .fetch_one(&world.database)
            .await
            .unwrap();
        for right in Right::ALL {
            for (user, role, connection) in &mut connections {
                let sql = attempt(&world, right, table, *role).await;
                let may =
                    role.map_or(!is_view || right == Right::Select, |role| roles::may(role, right, table));
                // Nobody needs to write into a view, simple as it may be.
                let found = if is_view && role.is_none() && right != Right::Select {
                    false
                } else {
                    allowed(connection, &sql).await
                };
                cells += 1;
                if found != may {
                    wrong.push(format!("{user} {} {table}: {found}, should be {may}", right.name()));
                }
            }
        }
    }
    for (what, sql) in FORBIDDEN {
        for (user, role, connection) in &mut connections {
            if role.is_some() {
                cells += 1;
                if allowed(connection, sql).await {
                    wrong.push(format!("{user} may {what}"));
                }
            }
        }
    }
    for (what, sql, whose) in FUNCTIONS {
        for (user, role, connection) in &mut connections {
            cells += 1;
            let may = role.is_none_or(|role| role == whose);
            if allowed(connection, sql).await != may {
                wrong.push(format!("{user} {what}: not {may}"));
            }
        }
    }
    println!("{cells} cells tried");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rights_that_somebody_gave_besides_are_taken_again_by_the_next_migrate() {
    let world = World::start(2060).await;
    world.migrate_database().await;
    world.sql("GRANT DELETE ON orders TO stocktide_api").await;
    let mut api = as_user(&world, "api").await;
    assert!(allowed(&mut api, "DELETE FROM orders WHERE false").await);
    let granted = roles::grant(&world.url("owner", "ca.pem"), "stocktide").await.unwrap();
    assert_eq!(granted, ["stocktide_processor", "stocktide_jobs", "stocktide_api"]);
    assert!(!allowed(&mut api, "DELETE FROM orders WHERE false").await);
    // Where there are no such roles nothing is given, and nothing goes wrong.
    assert!(roles::grant(&world.url("owner", "ca.pem"), "another").await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_cannot_move_the_processors_positions() {
    let world = World::start(2060).await;
    world.migrate_database().await;
    let mut jobs = as_user(&world, "jobs").await;
    assert!(allowed(&mut jobs, "UPDATE partition_progress SET log_floor = 1").await);
    assert!(!allowed(&mut jobs, "UPDATE partition_progress SET next_offset = 1").await);
}

#[test]
fn the_page_of_roles_says_what_the_code_says() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/roles.md");
    let mut page = std::fs::read_to_string(path).unwrap();
    let (begin, end) = ("<!-- rights -->\n", "<!-- /rights -->");
    let (head, rest) = page.split_once(begin).unwrap();
    let (_, tail) = rest.split_once(end).unwrap();
    let mut table = "| | processor | jobs | api |\n|---|---|---|---|\n".to_owned();
    for name in roles::tables() {
        let of = |role| {
            let rights: Vec<String> = Right::ALL
                .into_iter()
                .filter(|right| roles::may(role, *right, name))
                .map(|right| match roles::column(role, name).filter(|_| right == Right::Update) {
                    Some(column) => format!("update of {column}"),
                    None => right.name().to_lowercase(),
                })
                .collect();
            if rights.is_empty() { "–".to_owned() } else { rights.join(", ") }
        };
        writeln!(table, "| `{name}` | {} | {} | {} |", of(Role::Processor), of(Role::Jobs), of(Role::Api))
            .unwrap();
    }
    let wanted = format!("{head}{begin}{table}{end}{tail}");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, &wanted).unwrap();
        page.clone_from(&wanted);
    }
    assert_eq!(page, wanted, "UPDATE_DOCS=1 writes it anew");
}
