//! The simulator, held against the domain: what it means to be sound is applied, what it breaks is rejected for the
//! reason that it was broken by, and what it sends twice is a duplicate.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, HashMap, HashSet};

use chrono::{DateTime, Duration, Utc};
use rustc_hash::{FxHashMap, FxHashSet};
use sha2::{Digest, Sha256};
use stocktide_domain::decode::{Limits, Rules, decode};
use stocktide_domain::event::Body;
use stocktide_domain::fold::{Fate, Known, Record as Folded, Settled, fold};
use stocktide_domain::{Catalogue, Product, ProductKind, Reason, Source};
use stocktide_producers::Record;
use stocktide_producers::sim::catalogue::{SimCatalogue, Size};
use stocktide_producers::sim::dice::Dice;
use stocktide_producers::sim::faults::{Faulty, Malformation};
use stocktide_producers::sim::timeline::Spread;
use stocktide_producers::sim::{Ids, Options, Simulator, SourceMix};

fn start() -> DateTime<Utc> {
    "2026-03-02T00:00:00Z".parse().unwrap()
}

fn small() -> SimCatalogue {
    SimCatalogue::synthetic(Size { products: 300, locations: 4 })
}

fn simulate(options: Options) -> Vec<Record> {
    Simulator::new(small(), options).unwrap().collect()
}

fn options(mix: SourceMix, count: u64) -> Options {
    Options { count: Some(count), ..Options::new(mix, 42, start()) }
}

fn domain_catalogue(of: &SimCatalogue) -> Catalogue {
    let product = |p: &stocktide_producers::sim::catalogue::SimProduct| {
        let known = Product { price: p.price, reorder_point: p.reorder_point, kind: ProductKind::Stock };
        (p.product_id.clone(), known)
    };
    Catalogue {
        version: 1,
        products: of.products.iter().map(product).collect(),
        locations: of.locations().map(str::to_owned).collect(),
        suppliers: of.suppliers.iter().cloned().collect(),
    }
}

fn decoded(records: &[Record]) -> Vec<Folded> {
    let rules =
        Rules { currency: "GBP".into(), now: start() + Duration::days(100), limits: Limits::default() };
    let decode = |record: &Record| {
        let source = Source::from_topic(record.topic).unwrap();
        Folded { source, partition: 0, decoded: decode(source, record.value.as_deref(), &rules) }
    };
    records.iter().map(decode).collect()
}

fn settled(batch: &[Folded], check: impl FnOnce(&Settled<'_>)) {
    let catalogue = domain_catalogue(&small());
    let (applied, orders, returned) = (FxHashSet::default(), FxHashMap::default(), FxHashMap::default());
    let timezone = "Europe/London".parse().unwrap();
    let known = Known {
        catalogue: &catalogue,
        applied: &applied,
        orders: &orders,
        returned: &returned,
        stock: None,
        payments: &FxHashMap::default(),
        payments_may_wait: true,
        timezone,
    };
    check(&fold(batch, &known));
}

fn per_topic(records: &[Record]) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for record in records {
        *counts.entry(record.topic).or_default() += 1;
    }
    counts
}

#[test]
fn the_same_seed_catalogue_and_options_give_the_same_bytes_on_every_machine() {
    let digest = |seed| {
        let (duplicates_ppm, malformed_ppm, late_ppm) = (20_000, 10_000, 30_000);
        let options =
            Options { seed, duplicates_ppm, malformed_ppm, late_ppm, ..options(SourceMix::All, 10_000) };
        let mut hash = Sha256::new();
        for record in simulate(options) {
            hash.update(record.topic);
            hash.update(&record.key);
            hash.update(record.value.unwrap_or_default());
        }
        u64::from_be_bytes(hash.finalize()[..8].try_into().unwrap())
    };
    assert_eq!(digest(42), 0x9f3a_998c_cd16_c739);
    assert_ne!(digest(42), digest(43));
}

#[test]
fn a_longer_stream_begins_with_the_shorter_one() {
    let shorter = simulate(Options { duplicates_ppm: 50_000, ..options(SourceMix::All, 500) });
    let longer = simulate(Options { duplicates_ppm: 50_000, ..options(SourceMix::All, 1_000) });
    assert_eq!(shorter, longer[..500]);
}

#[test]
fn sound_records_are_applied_all_of_them() {
    for (mix, _) in SourceMix::NAMES.map(|(name, mix)| (mix, name)) {
        let records = simulate(Options { late_ppm: 50_000, ..options(mix, 50_000) });
        let batch = decoded(&records);
        settled(&batch, |settled| {
            for (fate, record) in settled.fates.iter().zip(&records) {
                assert_eq!(
                    *fate,
                    Fate::Applied,
                    "{mix}: {}",
                    String::from_utf8_lossy(record.value.as_deref().unwrap())
                );
            }
            assert_eq!(settled.value_mismatches, 0);
        });
    }
}

#[test]
fn every_way_to_break_a_record_meets_its_reason() {
    let sound = simulate(Options { follow_ups_ppm: 0, ..options(SourceMix::All, 600) });
    let sound = sound.iter().filter(|record| {
        let text = String::from_utf8_lossy(record.value.as_deref().unwrap());
        !text.contains("adjustment") && !text.contains("returned")
    });
    let sound: Vec<&Record> = sound.collect();
    assert!(per_topic(&sound.iter().map(|&r| r.clone()).collect::<Vec<_>>()).len() == 3);
    let mut dice = Dice::new([5, 0, 0, 0]);
    for kind in Malformation::ALL {
        let broken: Vec<Record> = sound.iter().map(|&record| kind.apply(record.clone(), &mut dice)).collect();
        let batch = decoded(&broken);
        settled(&batch, |settled| {
            for (fate, record) in settled.fates.iter().zip(&broken) {
                let Fate::Rejected(reject) = fate else { panic!("{kind:?} was {fate:?}") };
                assert_eq!(reject.reason, kind.reason(), "{kind:?} {} {}", reject.detail, record.topic);
            }
        });
    }
}

#[test]
fn shares_of_duplicates_and_broken_records_are_those_asked_for() {
    let records = simulate(Options {
        duplicates_ppm: 20_000,
        malformed_ppm: 2_000,
        ..options(SourceMix::All, 200_000)
    });
    let batch = decoded(&records);
    settled(&batch, |settled| {
        let mut reasons: BTreeMap<Reason, usize> = BTreeMap::new();
        let mut duplicates = 0_usize;
        for fate in &settled.fates {
            match fate {
                Fate::Applied => {}
                Fate::Duplicate => duplicates += 1,
                Fate::Rejected(reject) => *reasons.entry(reject.reason).or_default() += 1,
                Fate::Parked => panic!("nothing is paid here"),
            }
        }
        assert!((3_700..4_300).contains(&duplicates), "{duplicates}");
        let rejected: usize = reasons.values().sum();
        assert!((320..480).contains(&rejected), "{rejected}");
        let known: HashSet<Reason> = Malformation::ALL.iter().map(|kind| kind.reason()).collect();
        assert_eq!(reasons.keys().copied().collect::<HashSet<_>>(), known);
    });
}

#[test]
fn faults_are_mixed_into_a_stream_that_comes_through_whole() {
    let sound = simulate(Options { follow_ups_ppm: 0, ..options(SourceMix::All, 20_000) });
    let faulty: Vec<Record> = Faulty::new(sound.clone().into_iter(), 7, 20_000, 10_000).collect();
    assert_eq!(faulty, Faulty::new(sound.into_iter(), 7, 20_000, 10_000).collect::<Vec<_>>());
    let batch = decoded(&faulty);
    settled(&batch, |settled| {
        let count = |is: fn(&Fate) -> bool| settled.fates.iter().filter(|fate| is(fate)).count();
        assert_eq!(count(|fate| *fate == Fate::Applied), 20_000);
        assert!((340..480).contains(&count(|fate| *fate == Fate::Duplicate)));
        assert!((150..260).contains(&count(|fate| matches!(fate, Fate::Rejected(_)))));
    });
}

#[test]
fn redeliveries_come_soon_and_late_and_are_exact() {
    let records = simulate(Options { duplicates_ppm: 50_000, ..options(SourceMix::All, 100_000) });
    let mut first: HashMap<(&str, &[u8]), usize> = HashMap::new();
    let (mut soon, mut late) = (0, 0);
    for (at, record) in records.iter().enumerate() {
        match first.get(&(record.key.as_str(), record.value.as_deref().unwrap())) {
            Some(before) if at - before <= 60 => soon += 1,
            Some(_) => late += 1,
            None => {
                first.insert((&record.key, record.value.as_deref().unwrap()), at);
            }
        }
    }
    assert!(soon > 3_000 && late > 1_000, "{soon} {late}");
}

#[test]
fn all_sources_are_mixed_and_online_orders_go_their_way() {
    let records = simulate(options(SourceMix::All, 100_000));
    let counts = per_topic(&records);
    for (topic, share) in [("online_orders", 59_000), ("store_sales", 31_000), ("supplier_restocks", 10_000)]
    {
        assert!(counts[topic].abs_diff(share) < 700, "{topic} {}", counts[topic]);
    }
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    for record in decoded(&records) {
        let name = match (record.source, record.decoded.unwrap().body) {
            (Source::OnlineOrders, Body::Sold(_)) => "placed",
            (Source::OnlineOrders, Body::Returned(r)) if r.original_id.is_some() => "returned",
            (Source::OnlineOrders, Body::Progressed { .. }) => "progressed",
            (Source::OnlineOrders, Body::Cancelled { .. }) => "cancelled",
            (Source::StoreSales, Body::Returned(_)) => "store return",
            (Source::SupplierRestocks, Body::Restocked(r)) if r.supplier_id.is_none() => "adjustment",
            _ => "other",
        };
        *kinds.entry(name).or_default() += 1;
    }
    for (kind, at_least) in [
        ("placed", 45_000),
        ("progressed", 8_000),
        ("cancelled", 500),
        ("returned", 500),
        ("store return", 500),
        ("adjustment", 700),
    ] {
        assert!(kinds.get(kind).copied().unwrap_or(0) > at_least, "{kinds:?}");
    }
}

#[test]
fn restocks_keep_up_with_the_sales() {
    let records = simulate(options(SourceMix::All, 300_000));
    let catalogue = small();
    let mut on_hand: HashMap<(String, String), i64> = HashMap::new();
    for (at, location) in catalogue.locations().enumerate() {
        for (number, product) in catalogue.products.iter().enumerate() {
            on_hand.insert((product.product_id.clone(), location.to_owned()), catalogue.opening(at, number));
        }
    }
    let batch = decoded(&records);
    settled(&batch, |settled| {
        let mut oversold = 0;
        for change in &settled.changes {
            let row = &settled.stock[change.stock as usize];
            let units = on_hand.get_mut(&(row.product_id.to_owned(), row.location_id.to_owned())).unwrap();
            *units += change.delta;
            oversold += usize::from(*units < 0);
        }
        println!("{oversold} of {} changes oversold", settled.changes.len());
        assert!(oversold * 20 < settled.changes.len(), "{oversold} of {}", settled.changes.len());
    });
}

#[test]
fn late_events_lie_minutes_to_days_back_and_the_others_in_order() {
    let on_time = simulate(options(SourceMix::StoreSales, 20_000));
    assert!(on_time.iter().map(|record| record.occurred_at).is_sorted());
    let records = simulate(Options { late_ppm: 100_000, ..options(SourceMix::StoreSales, 20_000) });
    let mut newest = start();
    let mut late = Vec::new();
    for record in &records {
        if record.occurred_at < newest {
            late.push(newest - record.occurred_at);
        }
        newest = newest.max(record.occurred_at);
    }
    assert!((1_800..2_200).contains(&late.len()), "{}", late.len());
    assert!(
        late.iter().max().unwrap() > &Duration::days(2) && late.iter().max().unwrap() < &Duration::days(4)
    );
    assert!(late.iter().min().unwrap() < &Duration::minutes(12));
}

#[test]
fn event_ids_are_of_the_version_asked_for_and_unique() {
    for (ids, version) in [(Ids::V7, 7), (Ids::V4, 4)] {
        let records = simulate(Options { ids, ..options(SourceMix::All, 20_000) });
        let ids: HashSet<uuid::Uuid> =
            decoded(&records).into_iter().map(|r| r.decoded.unwrap().event_id).collect();
        assert_eq!(ids.len(), records.len());
        assert!(
            ids.iter()
                .all(|id| id.get_version_num() == version && id.get_variant() == uuid::Variant::RFC4122)
        );
    }
}

#[test]
fn two_runs_of_one_seed_at_different_times_share_no_ids() {
    let later =
        Options { start: start() + Duration::seconds(1), ids: Ids::V4, ..options(SourceMix::All, 5_000) };
    let ids = |options: Options| -> HashSet<String> {
        let records = simulate(options);
        let events = decoded(&records).into_iter().map(|r| r.decoded.unwrap().event_id.to_string());
        events.chain(records.iter().map(|r| r.key.clone())).collect()
    };
    assert!(ids(Options { ids: Ids::V4, ..options(SourceMix::All, 5_000) }).is_disjoint(&ids(later)));
}

#[test]
fn a_rate_spreads_the_events_evenly() {
    let options = Options { spread: Spread::Steady(100.0), ..options(SourceMix::OnlineOrders, 1_001) };
    let records = simulate(options);
    assert_eq!(records.last().unwrap().occurred_at - start(), Duration::seconds(10));
}
