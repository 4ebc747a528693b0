//! Whoever ended without having been asked to.

use crate::world::World;

/// Which processors did, with the last words of each. Producers and job workers may: one that finds no database when it is started
/// says so and ends, a producer that lost records to a broker too, and whatever runs them starts them again.
pub async fn unasked(world: &World) -> Vec<String> {
    let mut told = Vec::new();
    for processor in &world.processors {
        told.extend(processor.endings().await.into_iter().map(|ending| format!("stopped: {ending}")));
    }
    for other in world.producers.iter().chain(&world.workers) {
        other.endings().await;
    }
    told
}
