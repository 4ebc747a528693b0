//! Whoever ended without having been asked to.

use crate::world::World;

/// Who did, with the last words of each. The producers do not count: one that lost records to a broker says so by its exit
/// code, and what did not arrive was never sent.
pub async fn unasked(world: &World) -> Vec<String> {
    let mut told = Vec::new();
    for service in world.processors.iter().chain(&world.workers) {
        told.extend(service.endings().await.into_iter().map(|ending| format!("stopped: {ending}")));
    }
    for service in &world.producers {
        service.endings().await;
    }
    told
}
