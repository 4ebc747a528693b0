//! Every index costs each batch something, so each must be one that a query of the product can use.
#![allow(clippy::unwrap_used)]

mod database;

use std::collections::BTreeSet;

use sqlx::{AssertSqlSafe, Connection, PgConnection};
use stocktide_store::migrate;

/// An index, who needs it, and the part of its query that decides.
const USED: [(&str, &str, &str); 22] = [
    (
        "orders_order_id",
        "writer.rs, order_lines",
        "SELECT FROM orders WHERE source = 'online_orders' AND order_id = 'a'",
    ),
    (
        "orders_original_id",
        "writer.rs, returns_of",
        "SELECT FROM orders WHERE original_id = ANY('{a}') AND kind = 'return'",
    ),
    (
        "orders_processed_at",
        "outputs.rs, UPDATES",
        "SELECT FROM orders WHERE processed_at >= now() AND delta IS NOT NULL",
    ),
    ("orders_timestamp", "report/sales.rs", "SELECT FROM orders WHERE \"timestamp\" >= now()"),
    ("orders_product", "api/movements.rs", "SELECT FROM orders WHERE product_id = 'a'"),
    (
        "restock_lines_processed_at",
        "outputs.rs, UPDATES",
        "SELECT FROM restock_lines WHERE processed_at >= now()",
    ),
    ("restock_lines_timestamp", "report/stock.rs", "SELECT FROM restock_lines WHERE \"timestamp\" >= now()"),
    ("restock_lines_product", "api/movements.rs", "SELECT FROM restock_lines WHERE product_id = 'a'"),
    (
        "events_log_processed_at",
        "retention.rs, count",
        "SELECT FROM events_log WHERE processed_at >= '2025-01-01' AND processed_at < '2025-02-01'",
    ),
    (
        "events_log_rejected",
        "outputs.rs, DEAD_LETTERS",
        "SELECT FROM events_log WHERE status = 'rejected' AND processed_at >= '2025-01-01'",
    ),
    (
        "events_log_timer_seq",
        "timer.rs, timer_outputs_of",
        "SELECT FROM events_log WHERE topic = 'payments' AND partition = 0 AND timer_seq > 5",
    ),
    ("order_headers_user_id", "api/orders.rs", "SELECT FROM order_headers WHERE user_id = 'a'"),
    (
        "order_headers_mismatch",
        "report/quality.rs",
        "SELECT FROM order_headers WHERE value_mismatch AND ordered_at >= now()",
    ),
    ("payments_order_id", "api/orders.rs", "SELECT FROM payments WHERE order_id = 'a'"),
    ("payments_amount_mismatch", "api/fates.rs", "SELECT FROM payments WHERE amount_mismatch LIMIT 10001"),
    (
        "parked_payments_order_id",
        "writer.rs, mark_orders_seen",
        "SELECT FROM parked_payments WHERE order_id = ANY('{a}') AND NOT order_seen",
    ),
    (
        "parked_payments_order_seen",
        "writer.rs, due_payments",
        "SELECT FROM parked_payments WHERE partition = 0 AND order_seen",
    ),
    (
        "parked_payments_parked_at",
        "writer.rs, waiting",
        "SELECT min(parked_at) FROM parked_payments WHERE partition = 0",
    ),
    (
        "parked_payments_expires_at",
        "writer.rs, due_payments",
        "SELECT FROM parked_payments WHERE partition = 0 AND expires_at <= now() ORDER BY expires_at",
    ),
    ("job_runs_unfinished", "jobs/history.rs, waiting", "SELECT FROM job_runs WHERE state = 'queued'"),
    (
        "job_runs_by_date",
        "jobs/history.rs",
        "SELECT DISTINCT ON (job) run_id FROM job_runs ORDER BY job, data_date DESC",
    ),
    (
        "dlq_actions_pending",
        "dlq/actions.rs, pending",
        "SELECT FROM dlq_actions WHERE done_at IS NULL ORDER BY topic, partition",
    ),
];

/// The indexes that keep no rule: neither a primary key nor unique; a partition's goes by the name of its table's.
const THAT_ONLY_SPEED_UP: &str = "SELECT c.relname FROM pg_index x JOIN pg_class c ON c.oid = x.indexrelid
    WHERE c.relnamespace = 'public'::regnamespace AND NOT x.indisunique AND NOT c.relispartition";

#[test]
fn every_index_is_one_that_a_query_of_the_product_uses() {
    database::run(async {
        let url = database::empty().await;
        migrate::run(&url, "GBP", "UTC").await.unwrap();
        let mut connection = PgConnection::connect(&url).await.unwrap();
        let there: Vec<String> =
            sqlx::query_scalar(THAT_ONLY_SPEED_UP).fetch_all(&mut connection).await.unwrap();
        let listed: BTreeSet<&str> = USED.iter().map(|(index, ..)| *index).collect();
        let unlisted: Vec<_> = there.iter().filter(|index| !listed.contains(index.as_str())).collect();
        assert!(unlisted.is_empty(), "no query is known that uses {unlisted:?}: list it, or drop them");
        assert_eq!(there.len(), listed.len(), "an index is listed that is not there: {there:?}");

        // The tables are empty: what matters is whether the index fits, not whether it pays.
        sqlx::raw_sql("SET enable_seqscan = off; SET enable_sort = off")
            .execute(&mut connection)
            .await
            .unwrap();
        for (index, who, sql) in &USED {
            let explain = AssertSqlSafe(format!("EXPLAIN {sql}"));
            let plan: Vec<String> = sqlx::query_scalar(explain).fetch_all(&mut connection).await.unwrap();
            let names = names_of(&mut connection, index).await;
            let uses =
                plan.iter().any(|line| names.iter().any(|name| line.split(' ').any(|word| word == name)));
            assert!(uses, "{index}, which {who} needs, is not used: {plan:#?}");
        }
    });
}

/// An index and, where it is a partitioned table's, those of the partitions.
async fn names_of(connection: &mut PgConnection, index: &str) -> Vec<String> {
    let sql = "SELECT relname::text FROM pg_class WHERE oid = $1::regclass
        UNION ALL SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = $1::regclass";
    sqlx::query_scalar(sql).bind(index).fetch_all(connection).await.unwrap()
}
