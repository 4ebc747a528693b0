//! Whoever ended without having been asked to.

use std::collections::BTreeMap;

use crate::world::World;

/// Which processors did, with the last words of each. Producers and job workers may: one that finds no database when it is started
/// says so and ends, a producer that lost records to a broker too, and whatever runs them starts them again.
pub async fn unasked(world: &World) -> Vec<String> {
    let mut told: BTreeMap<String, usize> = BTreeMap::new();
    for processor in &world.processors {
        for ending in processor.endings().await {
            *told.entry(ending).or_default() += 1;
        }
    }
    for other in world.producers.iter().chain(&world.workers) {
        other.endings().await;
    }
    told.into_iter().map(|(ending, times)| format!("stopped: {times} times: {ending}")).collect()
}
