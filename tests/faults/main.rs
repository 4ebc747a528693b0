//! The fault harness (`torture/`), shortened; and what it has found so far, told as it was found.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;
use std::time::Duration;

use stocktide_store::broken::{self, Broken};
use stocktide_torture::check::LAG_BOUND;
use stocktide_torture::episode::{Plan, play};
use stocktide_torture::fault::Mix;
use stocktide_torture::world::{PROCESSORS, Setup, World};
use stocktide_torture::{table, truncation};

/// Long enough that every lane has its faults.
const LENGTH: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn faults_of_every_part_at_once_lose_and_repeat_nothing_and_a_truncated_topic_stops_the_processor() {
    let seed = std::env::var("STOCKTIDE_TEST_SEED")
        .map_or(20_101_201, |seed| seed.parse().expect("STOCKTIDE_TEST_SEED"));
    let stocktide = env!("CARGO_BIN_EXE_stocktide").into();
    let setup = Setup { stocktide, dir: None, seed, processors: PROCESSORS, broken: None };
    let world = World::start(&setup).await.unwrap();
    let plan = Plan {
        seed,
        number: 0,
        length: LENGTH,
        mix: Mix::default(),
        bound: LAG_BOUND,
        code: "the one that is tested".to_owned(),
    };
    let episode = play(&world, &plan).await.unwrap();
    println!("{}", serde_json::to_string(&episode).unwrap());
    assert!(episode.is_well(), "STOCKTIDE_TEST_SEED={seed}: {:#?}", episode.findings.problems);
    assert!(episode.injections() > 5, "{:#?}", episode.faults);
    assert!(episode.findings.fates["applied"] > 500, "{:?}", episode.findings.fates);
    let truncated = truncation::play(&world, &plan).await.unwrap();
    assert!(truncated.is_well(), "{:#?}", truncated.findings.problems);
    world.end().await.unwrap();
}

#[test]
fn the_tables_of_docs_faults_md_are_what_the_histories_add_up_to() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let file = root.join("docs/faults.md");
    let (old, new) = table::document(&file, &root.join("tests/faults/history")).unwrap();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&file, new).unwrap();
    } else {
        assert!(old == new, "docs/faults.md is out of step: UPDATE_DOCS=1 writes it anew");
    }
}

/// Release builds with the feature do not compile (`services/store/src/broken.rs`).
#[test]
fn no_variant_that_is_broken_on_purpose_is_in_what_is_built_without_the_feature() {
    let built_with = cfg!(feature = "broken");
    assert!(built_with || Broken::ALL.iter().all(|variant| !broken::is(*variant)));
}
