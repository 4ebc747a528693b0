//! Negative controls: the harness must find each variant of the processor that is broken on purpose.

use std::path::Path;
use std::time::Duration;

use stocktide_store::broken::Broken;

use crate::episode::{Plan, play};
use crate::fault::{Kind, Mix};
use crate::history::Episode;
use crate::world::{PROCESSORS, Setup, World};

/// After so many episodes without a difference a variant counts as not found: a hole in the harness.
pub const MOST_EPISODES: u32 = 10;
/// How long one episode's faults last.
const LENGTH: Duration = Duration::from_secs(15);
/// A broken processor may never get to the end.
const LAG_BOUND: Duration = Duration::from_secs(40);

/// What stands before a variant's name, and its commit, as the code of an episode.
const CODE: &str = "broken: ";
/// In place of a variant's name, where there is none.
pub const NO_VARIANT: &str = "none";

/// The code of a variant's episode.
pub fn code(variant: &str, commit: &str) -> String {
    format!("{CODE}{variant} {commit}")
}

/// The variant that an episode was played with, if any.
pub fn variant_of(episode: &Episode) -> Option<&str> {
    episode.code.strip_prefix(CODE)?.split(' ').next()
}

/// The kinds of faults that expose a variant. Others would, too, but later: the mix is steered, to save time.
pub fn steered(variant: Broken) -> &'static [(Kind, u32)] {
    match variant {
        Broken::OffsetsFirst => {
            &[(Kind::KillProcessor, 4), (Kind::KillProcessors, 1), (Kind::CutDatabase, 2)]
        }
        Broken::PendingIgnored => &[(Kind::FreezeProcessor, 1)],
        // A slow way, so that a processor is frozen with a batch in hand.
        Broken::FenceOff => &[(Kind::FreezeProcessor, 1), (Kind::SlowDatabase, 1)],
        Broken::NoGeneration | Broken::StampedAnew => &[(Kind::FreezeProcessor, 3), (Kind::StopBrokers, 3)],
        Broken::BatchDedupe | Broken::SoundRejected => &[(Kind::Rebalance, 1)],
        Broken::LostAnswer => &[(Kind::LoseAnswer, 1)],
        Broken::RollupsApart => &[(Kind::KillProcessor, 2), (Kind::LoseAnswer, 1), (Kind::Terminate, 1)],
        // Where all are down nothing times out.
        Broken::TimerCursorLost => &[(Kind::KillProcessor, 1)],
        Broken::ReplaysDropped | Broken::NoTransaction | Broken::DlqApart => {
            &[(Kind::KillProcessor, 4), (Kind::KillProcessors, 1), (Kind::StopBrokers, 2)]
        }
    }
}

/// Whether the checker has seen the variant's doing. That a processor stopped or did not get to the end may have any cause, and
/// with it come records without a fate and outputs that are not published yet.
pub fn is_found(episode: &Episode) -> bool {
    let name = |problem: &str| problem.split(':').next().unwrap_or_default().to_owned();
    let problems = || episode.findings.problems.iter();
    let stands = problems().any(|problem| name(problem) == "lag");
    problems().any(|problem| match name(problem).as_str() {
        "lag" | "stopped" | "sums" | "jobs" | "reports" => false,
        "offsets" => !problem.contains("not yet published"),
        "one_fate_per_record" => !stands,
        _ => true,
    })
}

/// Plays an episode of all kinds of faults with the program that has the variants in it, and none of them: there nothing may
/// differ, or what is found with them proves nothing.
///
/// # Errors
/// The harness itself fails.
pub async fn play_without(program: &Path, seed: u64, commit: &str) -> anyhow::Result<Episode> {
    let world = World::start(&setup(program, seed, None)).await?;
    let plan = plan(seed, 0, Mix::default(), crate::check::LAG_BOUND, code(NO_VARIANT, commit));
    let episode = play(&world, &plan).await?;
    world.end().await?;
    Ok(episode)
}

/// Plays episodes with a variant until one differs, at most [`MOST_EPISODES`]; all of them.
///
/// # Errors
/// The harness itself fails.
pub async fn play_until_found(
    variant: Broken,
    program: &Path,
    seed: u64,
    commit: &str,
) -> anyhow::Result<Vec<Episode>> {
    let world = World::start(&setup(program, seed, Some(variant))).await?;
    let mut episodes = Vec::new();
    for number in 0..MOST_EPISODES {
        let mix = Mix { weights: steered(variant).to_vec(), only: true, ..Mix::default() };
        let code = code(variant.name(), commit);
        let episode = play(&world, &plan(seed, number, mix, LAG_BOUND, code)).await?;
        let found = is_found(&episode);
        episodes.push(episode);
        if found {
            break;
        }
    }
    world.end().await?;
    Ok(episodes)
}

fn setup(program: &Path, seed: u64, variant: Option<Broken>) -> Setup {
    let broken = variant.map(|variant| variant.name().to_owned());
    Setup { stocktide: program.to_owned(), dir: None, seed, processors: PROCESSORS, broken }
}

fn plan(seed: u64, number: u32, mix: Mix, bound: Duration, code: String) -> Plan {
    Plan { seed: seed + u64::from(number), number, length: LENGTH, mix, bound, code }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// The two of what was found that were nothing but a standstill, and one that saw what the variant did.
    #[test]
    fn a_standstill_finds_no_variant() {
        let found = include_str!("../../tests/faults/history/found.jsonl");
        let mut stood: Vec<Episode> = found
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .filter(|episode: &Episode| [10_006, 16_100].contains(&episode.seed))
            .collect();
        assert_eq!(stood.len(), 2);
        assert!(stood.iter().all(|episode| !episode.is_well() && !is_found(episode)));
        let lost = "offsets: 4 of 24 differ: online_orders-0: Kafka's committed offset 268 is ahead of the database's 200";
        stood[0].findings.problems.push(lost.to_owned());
        assert!(is_found(&stood[0]));
    }
}
