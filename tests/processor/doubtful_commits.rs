//! A COMMIT that the server answers with a warning (rule 5): nothing of it is published by whoever got that answer.

use std::time::Duration;

use stocktide_devstack::PostgresStop;

use crate::support::World;
use crate::support::records::{order, payment};

const DOUBT: &str = "COMMIT answered with a warning";

async fn shop() -> World {
    let world = World::start(&[("STOCKTIDE_TOPICS_PARTITIONS", "1")]).await;
    world.stock_shelves().await;
    world
}

/// A failover may lose such a commit: what is published of it would be published again, with other figures.
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_a_standby_may_not_have_is_not_published_and_stops_the_processor() {
    let mut world = shop().await;
    world.send_events("online_orders", "k", &[order()]).await;
    world.process().await;
    world.send_events("online_orders", "k", &[order()]).await;
    let said = without_its_standby(&mut world).await;
    assert!(said.contains(DOUBT), "{said}");
    assert_eq!(world.stock().await["apple@online"], (98, 2), "the server has it all the same");
    assert_eq!(world.read("inventory_updates").len(), 1, "and only what was before it is published");

    assert_eq!(world.process().await.consumed, 0);
    assert_eq!(world.read("inventory_updates").len(), 2);
    world.verify().await;
}

/// The timer has a COMMIT of its own.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_timer_put_out_that_a_standby_may_not_have_is_not_published_either() {
    let mut world = shop().await;
    world.send_events("payments", "k", &[payment("ghost")]).await;
    assert_eq!(world.process().await.parked, 1);
    world.execute("UPDATE parked_payments SET expires_at = now()").await;
    let said = without_its_standby(&mut world).await;
    assert!(said.contains(DOUBT), "{said}");
    let put_out = "SELECT count(*) FROM events_log WHERE timer_seq = 1";
    assert_eq!(world.number(put_out).await, 1, "the server has it all the same");
    assert_eq!(world.read("dlq").len(), 0);

    assert_eq!(world.process().await.consumed, 0);
    assert_eq!(world.read("dlq").len(), 1);
    world.verify().await;
}

/// What a processor says that stops by itself where every COMMIT waits for a standby that there is not, until the server is told to
/// wait no longer: then it says so in a warning, and answers.
async fn without_its_standby(world: &mut World) -> String {
    world.execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'").await;
    // A COMMIT might slip through a reload that is not everywhere yet.
    world.stack.stop_postgres(PostgresStop::Fast).await.unwrap();
    world.stack.start_postgres().await.unwrap();
    let stopped = tokio::spawn(world.start_processor().stopped());
    while !stopped.is_finished() {
        world
            .execute("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'")
            .await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    world.execute("ALTER SYSTEM RESET synchronous_standby_names").await;
    // Here it may: what waits then is let go without a warning.
    world.execute("SELECT pg_reload_conf()").await;
    stopped.await.unwrap()
}
