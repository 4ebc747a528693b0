//! What the histories add up to, as tables for people.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use stocktide_store::broken::Broken;

use crate::controls::{NO_VARIANT, is_found, variant_of};
use crate::fault::Kind;
use crate::history::{self, Episode};

const BEGIN: &str = "<!-- Made by `stocktide-torture table` from tests/faults/history; from here on nothing is written by hand. -->";

/// The file of the episodes that differed: what of the product was found in them is mended.
const FOUND: &str = "found.jsonl";

/// The tables of all histories of a directory.
///
/// # Errors
/// A history cannot be read.
pub fn render(directory: &Path) -> anyhow::Result<String> {
    let (controls, episodes): (Vec<_>, Vec<_>) =
        history::read(directory)?.into_iter().partition(|(_, episode)| variant_of(episode).is_some());
    let (found, episodes): (Vec<_>, Vec<_>) =
        episodes.into_iter().partition(|(file, _)| file.ends_with(FOUND));
    let mut text = format!("{BEGIN}\n\n");
    summary(&mut text, &episodes)?;
    kinds(&mut text, &episodes)?;
    runs(&mut text, &episodes)?;
    negative_controls(&mut text, &controls)?;
    differing(&mut text, &found)?;
    Ok(text)
}

/// A document, with its generated part anew.
///
/// # Errors
/// The document or a history cannot be read.
pub fn document(file: &Path, directory: &Path) -> anyhow::Result<(String, String)> {
    let old = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let by_hand = old.split_once(BEGIN).map_or(old.as_str(), |(by_hand, _)| by_hand);
    let new = format!("{}\n\n{}", by_hand.trim_end(), render(directory)?);
    Ok((old, new))
}

fn summary(text: &mut String, episodes: &[(PathBuf, Episode)]) -> anyhow::Result<()> {
    let injections: usize = episodes.iter().map(|(_, episode)| episode.injections()).sum();
    let differing = episodes.iter().filter(|(_, episode)| !episode.is_well()).count();
    let minutes: f64 = episodes.iter().map(|(_, episode)| episode.seconds).sum::<f64>() / 60.0;
    writeln!(
        text,
        "**{injections} faults in {} episodes, {minutes:.0} minutes of faults; {differing} episodes differ.**\n",
        episodes.len()
    )?;
    Ok(())
}

fn kinds(text: &mut String, episodes: &[(PathBuf, Episode)]) -> anyhow::Result<()> {
    let mut counts: BTreeMap<Kind, (usize, usize)> = BTreeMap::new();
    let mut in_vain: BTreeMap<Kind, usize> = BTreeMap::new();
    for (_, episode) in episodes {
        for kind in episode.kinds() {
            let count = counts.entry(kind).or_default();
            count.0 += 1;
            count.1 += usize::from(!episode.is_well());
        }
        for kind in episode.missed() {
            *in_vain.entry(kind).or_default() += 1;
        }
    }
    writeln!(text, "| fault | what it is | times | in vain | outcome |\n|---|---|---|---|---|")?;
    for kind in Kind::ALL {
        let (times, differing) = counts.get(kind).copied().unwrap_or_default();
        let outcome = match (times, differing) {
            (0, _) => "not done".to_owned(),
            (_, 0) => "all holds".to_owned(),
            (_, differing) => format!("{differing} in episodes that differ"),
        };
        let in_vain = in_vain.get(kind).copied().unwrap_or_default();
        writeln!(text, "| `{kind}` | {} | {times} | {in_vain} | {outcome} |", kind.words())?;
    }
    writeln!(text)?;
    Ok(())
}

fn runs(text: &mut String, episodes: &[(PathBuf, Episode)]) -> anyhow::Result<()> {
    writeln!(
        text,
        "| history | seeds | code | seconds of faults | faults | records | slowest to lag zero | outcome |"
    )?;
    writeln!(text, "|---|---|---|---|---|---|---|---|")?;
    for run in
        episodes.chunk_by(|a, b| a.0 == b.0 && a.1.code == b.1.code && b.1.seed.wrapping_sub(a.1.seed) <= 1)
    {
        let Some(((file, first), (_, last))) = run.first().zip(run.last()) else { continue };
        let seeds = if first.seed == last.seed {
            first.seed.to_string()
        } else {
            format!("{} to {}", first.seed, last.seed)
        };
        let seconds: f64 = run.iter().map(|(_, episode)| episode.seconds).sum();
        let faults: usize = run.iter().map(|(_, episode)| episode.injections()).sum();
        let records = run.iter().map(|(_, episode)| episode.findings.records).max().unwrap_or_default();
        let slowest = run.iter().map(|(_, episode)| episode.findings.drained_after).fold(0.0, f64::max);
        let differing = run.iter().filter(|(_, episode)| !episode.is_well()).count();
        let outcome = if differing == 0 { "all holds".to_owned() } else { format!("{differing} differ") };
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        writeln!(
            text,
            "| {name} | {seeds} | {} | {seconds:.0} | {faults} | {records} | {slowest:.1} s | {outcome} |",
            first.code
        )?;
    }
    writeln!(text)?;
    Ok(())
}

fn negative_controls<'a>(text: &mut String, controls: &'a [(PathBuf, Episode)]) -> anyhow::Result<()> {
    let of = |variant: &str| -> Vec<&'a Episode> {
        controls.iter().map(|(_, episode)| episode).filter(|e| variant_of(e) == Some(variant)).collect()
    };
    let commit = |episode: &&'a Episode| -> &'a str { episode.code.rsplit(' ').next().unwrap_or_default() };
    writeln!(text, "| broken variant | what is wrong | found after | by | code |\n|---|---|---|---|---|")?;
    for variant in Broken::ALL {
        let played = of(variant.name());
        let found = played.iter().position(|episode| is_found(episode));
        let after = match found {
            Some(0) => "1 episode".to_owned(),
            Some(index) => format!("{} episodes", index + 1),
            None => format!("not in {} episodes", played.len()),
        };
        let by = found.map(|index| played[index].problem_names().join(", ")).unwrap_or_default();
        let (name, words) = (variant.name(), variant.words());
        let shown = found.and_then(|index| played.get(index)).or(played.last());
        writeln!(text, "| `{name}` | {words} | {after} | {by} | {} |", shown.map_or("", commit))?;
    }
    let without = of(NO_VARIANT);
    if let Some(episode) = without.last() {
        let outcome = if episode.is_well() { "all holds" } else { "differs" };
        writeln!(
            text,
            "| none | the same program, told of no variant: {} faults of all kinds | {outcome} | | {} |",
            episode.injections(),
            commit(episode)
        )?;
    }
    writeln!(text)?;
    Ok(())
}

fn differing(text: &mut String, found: &[(PathBuf, Episode)]) -> anyhow::Result<()> {
    if found.is_empty() {
        return Ok(());
    }
    writeln!(
        text,
        "Earlier episodes that differed and are not counted above, kept in `{FOUND}`; what it was, and what was done about it, \
         stands above:\n"
    )?;
    writeln!(text, "| seed | code | faults | failed |\n|---|---|---|---|")?;
    for (_, episode) in found {
        writeln!(
            text,
            "| {} | {} | {} | {} |",
            episode.seed,
            episode.code,
            episode.injections(),
            episode.problem_names().join(", ")
        )?;
    }
    Ok(())
}
