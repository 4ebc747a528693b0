//! `docs/schema.md` is what the migrations make: its diagram and its tables come from a live PostgreSQL.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use sqlx::postgres::PgRow;
use sqlx::{PgPool, Row as _};
use stocktide_devstack::{Stack, StackOptions};
use stocktide_store::migrate;

/// What belongs together by value, without a foreign key: (one, many, columns of the many, columns of the one). The processor
/// holds an event against the catalogue before it appends lines, so the database does not check each line again.
const BY_VALUE: [(&str, &str, &[&str], &[&str]); 16] = [
    ("order_headers", "orders", &["source", "order_id"], &["source", "order_id"]),
    ("products", "orders", &["product_id"], &["product_id"]),
    ("inventory", "orders", &["product_id", "location_id"], &["product_id", "location_id"]),
    ("products", "restock_lines", &["product_id"], &["product_id"]),
    ("inventory", "restock_lines", &["product_id", "location_id"], &["product_id", "location_id"]),
    ("suppliers", "restock_lines", &["supplier_id"], &["supplier_id"]),
    ("locations", "order_headers", &["location_id"], &["location_id"]),
    ("user_stats", "order_headers", &["user_id"], &["user_id"]),
    ("applied_events", "events_log", &["event_id"], &["event_id"]),
    ("partition_progress", "events_log", &["topic", "partition"], &["topic", "partition"]),
    ("partition_progress", "sales_by_month", &["topic", "partition"], &["topic", "partition"]),
    ("order_headers", "payments", &["order_id"], &["order_id"]),
    ("order_headers", "payment_events", &["order_id"], &["order_id"]),
    ("payments", "payment_events", &["payment_id"], &["payment_id"]),
    ("partition_progress", "dlq_actions", &["topic", "partition"], &["topic", "partition"]),
    ("partition_progress", "parked_payments", &["partition"], &["partition"]),
];

const HEAD: &str = "<!-- Made from a migrated PostgreSQL; UPDATE_DOCS=1 cargo test -p stocktide --test docs schema writes it anew. -->

# The schema

What `stocktide migrate` makes of an empty database (`migrations/`). Lines are foreign keys; dotted lines belong together by
value, without one. Partitions of `events_log` and sqlx's own table of migrations are left out.

";

/// A table or a view.
struct Relation {
    name: String,
    comment: Option<String>,
    is_view: bool,
    /// How a partitioned table is divided.
    divided_by: Option<String>,
    columns: Vec<Column>,
    keys: Vec<Key>,
    indexes: Vec<String>,
}

struct Column {
    name: String,
    ty: String,
    required: bool,
    default: Option<String>,
    comment: Option<String>,
}

/// A constraint.
struct Key {
    /// `p`, `u`, `f` or `c`, as in pg_constraint.
    kind: String,
    columns: Vec<String>,
    /// A foreign key's table.
    of: Option<String>,
    definition: String,
}

#[tokio::test]
async fn docs_schema_is_what_the_migrations_make() {
    let stack = Stack::start(StackOptions { kafka: false, ..StackOptions::default() }).await.unwrap();
    migrate::run(&stack.database_url(), "GBP", "UTC").await.unwrap();
    let pool = PgPool::connect(&stack.database_url()).await.unwrap();
    let content = document(&relations(&pool).await);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/schema.md");
    if std::env::var_os("UPDATE_DOCS").is_some_and(|value| value == "1") {
        std::fs::write(&path, &content).unwrap();
    }
    let stored = std::fs::read_to_string(&path).unwrap_or_default();
    let difference = stored.lines().zip(content.lines()).find(|(stored, made)| stored != made);
    assert!(
        stored == content,
        "docs/schema.md is not what the migrations make, first at {difference:?} (there, made); \
         UPDATE_DOCS=1 cargo test -p stocktide --test docs schema writes it anew"
    );
}

// Reading -----------------------------------------------------------------------------------------------------------------

/// Tables and views in the order in which they were made, which is the order of the migrations.
async fn relations(pool: &PgPool) -> Vec<Relation> {
    let sql = "SELECT c.oid::bigint, c.relname::text, obj_description(c.oid, 'pg_class'), c.relkind = 'v',
            pg_get_partkeydef(c.oid)
        FROM pg_class c
        WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v') AND NOT c.relispartition
          AND c.relname <> '_sqlx_migrations'
        ORDER BY c.oid";
    let mut relations = Vec::new();
    for row in sqlx::query(sql).fetch_all(pool).await.unwrap() {
        let oid: i64 = row.get(0);
        relations.push(Relation {
            name: row.get(1),
            comment: row.get(2),
            is_view: row.get(3),
            divided_by: row.get(4),
            columns: columns(pool, oid).await,
            keys: keys(pool, oid).await,
            indexes: indexes(pool, oid).await,
        });
    }
    relations
}

async fn columns(pool: &PgPool, relation: i64) -> Vec<Column> {
    let sql = "SELECT a.attname::text, format_type(a.atttypid, a.atttypmod), a.attnotnull,
            pg_get_expr(d.adbin, d.adrelid), col_description(a.attrelid, a.attnum)
        FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
        WHERE a.attrelid = $1::oid AND a.attnum > 0 AND NOT a.attisdropped
        ORDER BY a.attnum";
    let column = |row: PgRow| Column {
        name: row.get(0),
        ty: row.get::<String, _>(1).replace("timestamp with time zone", "timestamptz"),
        required: row.get(2),
        default: row.get(3),
        comment: row.get(4),
    };
    sqlx::query(sql).bind(relation).fetch_all(pool).await.unwrap().into_iter().map(column).collect()
}

async fn keys(pool: &PgPool, relation: i64) -> Vec<Key> {
    let sql = "SELECT c.contype::text, of.relname::text, pg_get_constraintdef(c.oid),
            ARRAY(SELECT a.attname::text FROM unnest(c.conkey) WITH ORDINALITY AS k(attnum, at)
                  JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k.attnum ORDER BY k.at)
        FROM pg_constraint c LEFT JOIN pg_class of ON of.oid = c.confrelid
        WHERE c.conrelid = $1::oid AND c.contype IN ('p', 'u', 'f', 'c')
        ORDER BY array_position(ARRAY['p', 'u', 'f', 'c'], c.contype::text), c.conname";
    let key =
        |row: PgRow| Key { kind: row.get(0), of: row.get(1), definition: row.get(2), columns: row.get(3) };
    sqlx::query(sql).bind(relation).fetch_all(pool).await.unwrap().into_iter().map(key).collect()
}

/// The indexes that no constraint made.
async fn indexes(pool: &PgPool, relation: i64) -> Vec<String> {
    let sql = "SELECT pg_get_indexdef(i.indexrelid) FROM pg_index i
        WHERE i.indrelid = $1::oid AND NOT EXISTS (SELECT FROM pg_constraint c WHERE c.conindid = i.indexrelid AND c.conrelid = $1::oid)
        ORDER BY i.indexrelid";
    let found: Vec<String> = sqlx::query_scalar(sql).bind(relation).fetch_all(pool).await.unwrap();
    found
        .into_iter()
        .map(|definition| definition.replace(" ON ONLY ", " ON ").replace("public.", ""))
        .collect()
}

// Writing -----------------------------------------------------------------------------------------------------------------

fn document(relations: &[Relation]) -> String {
    let mut text = HEAD.to_owned();
    text.push_str(&diagram(relations));
    text.push_str("\n## Tables\n");
    for table in relations.iter().filter(|r| !r.is_view) {
        describe(&mut text, table);
    }
    text.push_str("\n## Views\n");
    for view in relations.iter().filter(|r| r.is_view) {
        describe(&mut text, view);
    }
    text
}

fn diagram(relations: &[Relation]) -> String {
    let mut text = "```mermaid\nerDiagram\n".to_owned();
    for table in relations.iter().filter(|r| !r.is_view) {
        for key in table.keys.iter().filter(|key| key.kind == "f") {
            let of = key.of.as_deref().unwrap();
            writeln!(text, "    {of} ||--o{{ {} : \"{}\"", table.name, key.columns.join(", ")).unwrap();
        }
    }
    for (one, many, columns, of) in BY_VALUE {
        assert_columns(relations, many, columns);
        assert_columns(relations, one, of);
        writeln!(text, "    {one} |o..o{{ {many} : \"{}\"", columns.join(", ")).unwrap();
    }
    for table in relations.iter().filter(|r| !r.is_view) {
        writeln!(text, "    {} {{", table.name).unwrap();
        for column in &table.columns {
            let marks = marks(table, &column.name);
            let marks = if marks.is_empty() { String::new() } else { format!(" {marks}") };
            let comment =
                column.comment.as_ref().map_or_else(String::new, |c| format!(" \"{}\"", c.replace('"', "'")));
            // Mermaid takes no precision in a type.
            let ty = column.ty.split('(').next().unwrap_or_default();
            writeln!(text, "        {ty} {}{marks}{comment}", column.name).unwrap();
        }
        text.push_str("    }\n");
    }
    text.push_str("```\n");
    text
}

fn assert_columns(relations: &[Relation], table: &str, columns: &[&str]) {
    let found =
        relations.iter().find(|r| r.name == table).unwrap_or_else(|| panic!("BY_VALUE names {table}"));
    let names: BTreeSet<&str> = found.columns.iter().map(|c| c.name.as_str()).collect();
    assert!(
        columns.iter().all(|c| names.contains(c)),
        "BY_VALUE names {table} {columns:?}, and there are {names:?}"
    );
}

/// `PK`, `FK`, `UK`, as the column has a part in such keys.
fn marks(table: &Relation, column: &str) -> String {
    let has = |kind: &str| table.keys.iter().any(|k| k.kind == kind && k.columns.iter().any(|c| c == column));
    let marks: Vec<&str> = [("p", "PK"), ("f", "FK"), ("u", "UK")]
        .into_iter()
        .filter(|(kind, _)| has(kind))
        .map(|(_, mark)| mark)
        .collect();
    marks.join(", ")
}

fn describe(text: &mut String, relation: &Relation) {
    writeln!(text, "\n### {}\n", relation.name).unwrap();
    if let Some(comment) = &relation.comment {
        writeln!(text, "{}\n", sentence(comment)).unwrap();
    }
    if relation.is_view {
        let columns: Vec<String> =
            relation.columns.iter().map(|c| format!("`{}` {}", c.name, c.ty)).collect();
        writeln!(text, "{}", columns.join(", ")).unwrap();
        return;
    }
    text.push_str("| column | type | null | default | |\n|---|---|---|---|---|\n");
    for column in &relation.columns {
        let null = if column.required { "no" } else { "yes" };
        let default = column.default.as_ref().map_or_else(String::new, |d| format!("`{}`", cell(d)));
        let comment = cell(column.comment.as_deref().unwrap_or_default());
        writeln!(text, "| `{}` | {} | {null} | {default} | {comment} |", column.name, column.ty).unwrap();
    }
    let definitions: Vec<&String> =
        relation.keys.iter().map(|k| &k.definition).chain(&relation.indexes).collect();
    if !definitions.is_empty() {
        text.push('\n');
    }
    for definition in definitions {
        writeln!(text, "- `{definition}`").unwrap();
    }
    if let Some(divided_by) = &relation.divided_by {
        writeln!(text, "- `PARTITION BY {divided_by}`").unwrap();
    }
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

/// A comment begins small and without a full stop; between paragraphs it stands as a sentence.
fn sentence(comment: &str) -> String {
    let mut letters = comment.chars();
    let first = letters.next().map_or_else(String::new, |c| c.to_uppercase().to_string());
    // A name of the schema keeps its small letter.
    if comment.split([' ', ',']).next().is_some_and(|word| word.contains('_')) {
        return format!("{comment}.");
    }
    format!("{first}{}.", letters.as_str())
}
