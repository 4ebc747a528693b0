//! One thing at a time is spoilt, and the verification must say which.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod rejects;

use crate::digest::Digest;
use crate::facts::{Coordinates, Facts, Forgotten, OrderStatus, Replay, StockStatus, TopFloor, TopUser};
use crate::report::Report;
use crate::world::{PROCESSED_AT, World, event_id};

/// Spoils a sound world, and asserts which checks fail and what they name; nothing else may fail.
fn spoilt(spoil: impl FnOnce(&mut World), expected: &[(&str, &str)]) {
    let mut world = World::sound();
    spoil(&mut world);
    world.facts.sort();
    let report = world.report();
    let told: Vec<(&str, String)> =
        report.checks.iter().filter(|c| c.differing > 0).map(|c| (c.name, c.examples.join(" | "))).collect();
    assert_eq!(told, expected.iter().map(|(name, words)| (*name, (*words).to_owned())).collect::<Vec<_>>());
    assert!(!report.ok);
}

#[test]
fn a_sound_world_holds_and_everything_in_it_is_looked_at() {
    let report = World::sound().report();
    let told: Vec<_> = report.checks.iter().map(|c| (c.name, c.checked, c.differing)).collect();
    assert_eq!(
        told,
        [
            ("fates_balance", 4, 0),
            ("one_fate_per_record", 18, 0),
            ("log_bytes", 15, 0),
            ("rejects_deserved", 18, 0),
            ("fates_by_day", 4, 0),
            ("applied_once", 12, 0),
            ("events_match_lines", 8, 0),
            ("order_headers", 3, 0),
            ("order_values", 3, 0),
            ("cancellations_and_returns", 1, 0),
            ("stock_balances", 3, 0),
            ("movements_chain", 7, 0),
            ("statuses", 7, 0),
            ("rollups_by_month", 3, 0),
            ("user_stats", 1, 0),
            ("top_users", 1, 0),
            ("payments_match_events", 3, 0),
            ("payments_and_orders", 3, 0),
            ("payments_stand", 2, 0),
            ("timer_numbers", 1, 0),
            ("replays", 0, 0),
            ("forgotten_users", 0, 0),
            ("inventory_updates", 7, 0),
            ("dlq", 3, 0),
        ],
        "{report:?}"
    );
    assert!(report.ok && report.notes.is_empty());
}

#[test]
fn a_movement_row_that_is_deleted_is_named() {
    spoilt(
        |world| world.facts.lines.retain(|line| line.event != event_id(7)),
        &[
            ("events_match_lines", "R1 (supplier_restocks-0@0): line 1 (84879 x 100) is not in the ledger"),
            ("stock_balances", "84879@online: ledger says -100, inventory says 0"),
            ("movements_chain", "84879@online (supplier_restocks-0@1): version 3 follows version 1"),
            (
                "inventory_updates",
                "84879@online version 2 (event 01890a5d-ac96-774b-bcce-000000000007): \
                 published as inventory_updates-0@5, but not in the ledger",
            ),
        ],
    );
}

#[test]
fn a_line_whose_quantity_is_changed_is_named() {
    spoilt(
        |world| world.line("online_orders", 0, 3).quantity = 1,
        &[
            ("events_match_lines", "A (online_orders-0@0): line 3 (22423): quantity is 2, the ledger says 1"),
            ("order_values", "online_orders A: order_value is 38.30, its lines add up to 35.80"),
            (
                "cancellations_and_returns",
                "online_orders A: the cancellation of line 3 fits no line that was sold",
            ),
            ("stock_balances", "22423@online: ledger says 51, inventory says 50"),
            (
                "movements_chain",
                "22423@online (online_orders-0@0): version 1 says -8, its lines add up to -7",
            ),
            (
                "rollups_by_month",
                "2010-12 online_orders-0: units: ledger says 8, rollup says 9, gross: ledger says 35.80, rollup says 38.30",
            ),
            (
                "user_stats",
                "user u1: units: ledger says 8, rollup says 9, gross: ledger says 35.80, rollup says 38.30",
            ),
        ],
    );
}

#[test]
fn a_stock_figure_that_is_changed_is_named() {
    spoilt(
        |world| world.facts.stock[0].on_hand += 1,
        &[("stock_balances", "22423@online: ledger says 50, inventory says 51")],
    );
    spoilt(
        |world| world.facts.stock[0].version += 1,
        &[("stock_balances", "22423@online: the ledger has 3 changes, inventory is at version 4")],
    );
    spoilt(
        |world| {
            world.facts.stock.remove(2);
        },
        &[("stock_balances", "22423@store-1: the ledger has 1 movements, inventory has no such row")],
    );
}

#[test]
fn a_published_record_that_is_repeated_is_named() {
    spoilt(
        |world| {
            let again = world.topics["inventory_updates"][1].clone();
            world.add("inventory_updates", again);
        },
        &[(
            "inventory_updates",
            "84879@online version 1: published more than once, again as inventory_updates-0@7",
        )],
    );
}

#[test]
fn a_published_record_that_is_missing_or_altered_is_named() {
    spoilt(
        |world| {
            world.topics.get_mut("inventory_updates").unwrap().remove(1);
        },
        &[(
            "inventory_updates",
            "84879@online version 1: not published (event 01890a5d-ac96-774b-bcce-000000000002, online_orders-0@1)",
        )],
    );
    let alter = |from: &str, to: &str| {
        let (from, to) = (from.to_owned(), to.to_owned());
        move |world: &mut World| {
            let value = world.topics.get_mut("inventory_updates").unwrap()[0].value.as_mut().unwrap();
            let text = String::from_utf8(value.clone()).unwrap();
            assert!(text.contains(&from), "{text}");
            *value = text.replace(&from, &to).into_bytes();
        }
    };
    spoilt(
        alter("\"quantity_on_hand\":42", "\"quantity_on_hand\":43"),
        &[("inventory_updates", "22423@online version 1: quantity_on_hand: ledger says 42, the topic 43")],
    );
    spoilt(
        alter(".123456Z", ".123457Z"),
        &[(
            "inventory_updates",
            "22423@online version 1: processed_at: ledger says 1900000000123456, the topic 2030-03-17T17:46:40.123457Z",
        )],
    );
    spoilt(
        |world| world.topics.get_mut("inventory_updates").unwrap()[0].key = Some(b"84879".to_vec()),
        &[("inventory_updates", "22423@online version 1: the key is not the product_id")],
    );
    spoilt(
        |world| world.topics.get_mut("inventory_updates").unwrap()[0].headers[2].1 = Some(b"4".to_vec()),
        &[(
            "inventory_updates",
            "22423@online version 1: the headers' record: ledger says online_orders-0@0, the topic online_orders-0@4",
        )],
    );
}

#[test]
fn a_dlq_record_that_is_removed_is_named() {
    spoilt(
        |world| {
            world.topics.get_mut("dlq").unwrap().remove(0);
        },
        &[("dlq", "online_orders-0@3: rejected (malformed_json), but not in dlq")],
    );
}

#[test]
fn a_dlq_record_that_is_repeated_altered_or_uncalled_for_is_named() {
    spoilt(
        |world| {
            let again = world.topics["dlq"][1].clone();
            world.add("dlq", again);
        },
        &[("dlq", "store_sales-0@1: is in dlq more than once, again as dlq-0@3")],
    );
    let alter = |alter: fn(&mut crate::world::Kept), words: &str| {
        spoilt(|world| alter(&mut world.topics.get_mut("dlq").unwrap()[0]), &[("dlq", words)]);
    };
    alter(|kept| kept.value = Some(b"not jsoN".to_vec()), "online_orders-0@3: dlq has another value");
    alter(|kept| kept.key = None, "online_orders-0@3: dlq has another key");
    alter(|kept| kept.headers[1].1 = Some(Vec::new()), "online_orders-0@3: dlq has other headers");
    alter(
        |kept| kept.headers.last_mut().unwrap().1 = Some(b"too_large".to_vec()),
        "online_orders-0@3: dlq gives the reason too_large, the log malformed_json",
    );
    alter(
        |kept| kept.headers.retain(|(name, _)| name != "__connect.errors.stage"),
        "online_orders-0@3: the header __connect.errors.stage is missing",
    );
    spoilt(
        |world| {
            let mut wrong = world.topics["dlq"][0].clone();
            wrong.headers[4].1 = Some(b"0".to_vec());
            world.add("dlq", wrong);
        },
        &[("dlq", "online_orders-0@0: is in dlq (dlq-0@3), but was not rejected")],
    );
}

#[test]
fn a_value_cut_to_the_topic_s_limit_is_held_against_the_log() {
    let cut = |kept: &'static [u8], whole: &'static str| {
        move |world: &mut World| {
            let record = &mut world.topics.get_mut("dlq").unwrap()[0];
            record.value = Some(kept.to_vec());
            record.headers.push(("stocktide.truncated".to_owned(), Some(whole.into())));
        }
    };
    let mut world = World::sound();
    cut(b"not", "8")(&mut world);
    assert!(world.report().ok);
    let words = "online_orders-0@3: dlq has 3 bytes of 8, which is not how the log's 8 begin";
    spoilt(cut(b"nut", "8"), &[("dlq", words)]);
    let words = "online_orders-0@3: dlq has 3 bytes of 9, which is not how the log's 8 begin";
    spoilt(cut(b"not", "9"), &[("dlq", words)]);
}

#[test]
fn a_record_without_a_fate_is_named() {
    spoilt(
        |world| {
            world.facts.log.retain(|row| row.event != Some(event_id(5)));
            world.facts.applied.retain(|event| *event != event_id(5));
        },
        &[
            ("fates_balance", "online_orders-0: 5 are said to be applied, the log has 4"),
            (
                "one_fate_per_record",
                "online_orders-0@6: has no fate: it is not in the log, \
                 and event 01890a5d-ac96-774b-bcce-000000000005 is not applied",
            ),
            ("order_headers", "online_orders B: its events say placed, its header shipped"),
        ],
    );
    spoilt(
        |world| world.progress("store_sales").duplicates += 1,
        &[
            (
                "fates_balance",
                "store_sales-0: 2 records, 3 fates (1 applied, 1 duplicate, 1 rejected, 0 parked)",
            ),
            ("fates_by_day", "store_sales-0: 1 are said to be duplicate, the days add up to 0"),
        ],
    );
}

#[test]
fn a_record_that_was_applied_twice_is_named() {
    spoilt(
        |world| {
            // The duplicate at 2 took effect, too; its row says so.
            let mut row = world.facts.log[0];
            row.at.offset = 2;
            world.facts.log.push(row);
            let progress = world.progress("online_orders");
            (progress.applied, progress.duplicates) = (progress.applied + 1, progress.duplicates - 1);
            let slot = world.facts.find_slot("online_orders", 0).unwrap();
            let day = world.facts.days.get_mut(&slot).unwrap();
            (day[0], day[1]) = (day[0] + 1, day[1] - 1);
        },
        &[
            (
                "applied_once",
                "event 01890a5d-ac96-774b-bcce-000000000001: applied twice, by online_orders-0@0 and online_orders-0@2",
            ),
            ("events_match_lines", "A (online_orders-0@2): line 1 (22423 x 6) is not in the ledger"),
        ],
    );
    spoilt(
        |world| {
            let row = world.facts.log[0];
            world.facts.log.push(row);
        },
        &[
            ("fates_balance", "online_orders-0: 5 are said to be applied, the log has 6"),
            ("one_fate_per_record", "online_orders-0@0: is in the log more than once"),
            (
                "applied_once",
                "event 01890a5d-ac96-774b-bcce-000000000001: applied twice, by online_orders-0@0 and online_orders-0@0",
            ),
        ],
    );
}

#[test]
fn bytes_that_the_log_does_not_keep_are_named() {
    let value = "online_orders-0@1: the log has another value than the topic";
    spoilt(|world| world.facts.log[1].value = Some(Digest::of(b"other")), &[("log_bytes", value)]);
    spoilt(
        |world| world.facts.rejections.values_mut().for_each(|rejection| rejection.key = None),
        &[(
            "log_bytes",
            "online_orders-0@3: the log has another key than the topic | \
                 payments-0@4: the log has another key than the topic | \
                 store_sales-0@1: the log has another key than the topic",
        )],
    );
}

#[test]
fn an_order_that_gives_back_too_much_is_named() {
    spoilt(
        |world| {
            // A second return of what was cancelled: two of six pieces come back, and five by the cancellation.
            world.line("online_orders", 4, 1).quantity = -2;
        },
        &[
            (
                "events_match_lines",
                "RA (online_orders-0@4): line 1 (22423): quantity is -1, the ledger says -2",
            ),
            ("cancellations_and_returns", "online_orders A: 22423: 8 sold, 9 given back"),
            ("stock_balances", "22423@online: ledger says 51, inventory says 50"),
            (
                "movements_chain",
                "22423@online (online_orders-0@4): version 2 says +1, its lines add up to +2",
            ),
            (
                "rollups_by_month",
                "2010-12 online_orders-0: returned_units: ledger says 2, rollup says 1, \
                 returned_value: ledger says 5.10, rollup says 2.55",
            ),
            ("user_stats", "user u1: returned_value: ledger says 5.10, rollup says 2.55"),
        ],
    );
    spoilt(
        |world| world.facts.headers[0].status = OrderStatus::Delivered,
        &[
            ("order_headers", "online_orders A: its events say cancelled, its header delivered"),
            ("cancellations_and_returns", "online_orders A: has cancellation lines, but is delivered"),
        ],
    );
}

#[test]
fn a_status_that_does_not_fit_and_a_header_that_does_not_are_named() {
    spoilt(
        |world| {
            for line in world.facts.lines.iter_mut().filter(|line| line.event == event_id(6)) {
                line.result.as_mut().unwrap().status = StockStatus::Low;
            }
        },
        &[
            ("statuses", "22423@store-1 version 1: -1 units are called low"),
            (
                "inventory_updates",
                "22423@store-1 version 1: stock_status: ledger says low, the topic oversold",
            ),
        ],
    );
    spoilt(
        |world| world.facts.headers[1].value_mismatch = false,
        &[("order_values", "online_orders B: stated 20.00, true 20.28, value_mismatch false")],
    );
    spoilt(
        |world| world.facts.headers[1].stated_value = None,
        &[
            ("order_headers", "B (online_orders-0@1): states the value 20.00, its header keeps nothing"),
            ("order_values", "online_orders B: stated nothing, true 20.28, value_mismatch true"),
        ],
    );
}

#[test]
fn an_input_topic_without_its_beginning_is_checked_from_the_log() {
    let lose_the_beginning = |world: &mut World| {
        world.low.insert("online_orders", 2);
        let orders = world.topics.get_mut("online_orders").unwrap();
        orders.retain(|record| record.offset >= 2);
    };
    let mut world = World::sound();
    lose_the_beginning(&mut world);
    let report = world.report();
    assert!(report.ok, "{report:?}");
    assert_eq!(
        report.notes,
        ["online_orders-0 begins at 2, the database at 0: what is gone was checked from the log alone"]
    );
    spoilt(
        |world| {
            lose_the_beginning(world);
            world.line("online_orders", 1, 1).party = Some(world_name(&mut world.facts));
        },
        &[
            ("events_match_lines", "B (online_orders-0@1): line 1: party is nothing, the ledger says u1"),
            (
                "user_stats",
                "user u1: orders: ledger says 2, rollup says 1, units: ledger says 21, rollup says 9, gross: ledger says \
                 58.58, rollup says 38.30, last_order_at: ledger says 2011-06-30T23:30:00+00:00, rollup says \
                 2010-12-01T08:26:00+00:00",
            ),
        ],
    );
}

#[test]
fn a_record_that_was_rejected_before_is_judged_by_its_last_rejection() {
    let mut world = World::sound();
    // Its own headers tell of an earlier rejection, in which it was masked; everything agrees that they are its own.
    let earlier = [
        ("__connect.errors.offset", "77"),
        ("stocktide.redacted", "true"),
        ("stocktide.reason", "card_number"),
    ];
    let earlier = earlier.map(|(name, value)| (name.to_owned(), Some(value.as_bytes().to_vec())));
    for (topic, at) in [("online_orders", 3), ("dlq", 0)] {
        world.topics.get_mut(topic).unwrap()[at].headers.splice(0..0, earlier.clone());
    }
    let own = &world.topics["online_orders"][3].headers;
    let headers = Digest::of_headers(own.iter().map(|(name, value)| (name.as_str(), value.as_deref())));
    for rejection in world.facts.rejections.iter_mut().filter(|(at, _)| at.offset == 3).map(|(_, r)| r) {
        (rejection.headers, rejection.header_count) = (headers, 5);
    }
    let report = world.report();
    assert!(report.ok, "{report:?}");
}

#[test]
fn a_user_who_is_wrongly_at_the_top_or_wrongly_not_is_named() {
    let truth = "user u1: user_stats says 0.00 in 1 orders, top_users says";
    spoilt(|world| world.facts.top_users.clear(), &[("top_users", &format!("{truth} nothing"))]);
    spoilt(|world| world.top_user().spend = 10_000, &[("top_users", &format!("{truth} 1.00 in 1 orders"))]);
    // At one floor only, or at none with what is true, and at one with what is not.
    let floors = |spend, orders| TopFloor { spend: Some(spend), orders };
    spoilt(
        |world| {
            world.facts.top_floor = floors(1, 1);
            world.top_user().orders = 2;
        },
        &[("top_users", &format!("{truth} 0.00 in 2 orders"))],
    );
    spoilt(
        |world| {
            world.facts.top_floor = floors(1, 2);
            world.top_user().spend = 1;
        },
        &[("top_users", &format!("{truth} 0.0001 in 1 orders"))],
    );
    spoilt(
        |world| {
            let nobody = world.facts.names.intern("nobody");
            world.facts.top_users.insert(nobody, TopUser { spend: 50_000, orders: 2 });
        },
        &[("top_users", "user nobody: user_stats says nothing, top_users says 5.00 in 2 orders")],
    );
}

#[test]
fn who_stands_below_both_floors_may_be_left_over_or_not_be_there() {
    for left_over in [Some(TopUser { spend: -7, orders: 0 }), None] {
        let mut world = World::sound();
        world.facts.top_floor = TopFloor { spend: Some(1), orders: 2 };
        match left_over {
            Some(row) => *world.top_user() = row,
            None => world.facts.top_users.clear(),
        }
        let report = world.report();
        assert!(report.ok, "{report:?}");
    }
}

#[test]
fn a_cancellation_of_what_has_come_back_is_a_line_of_no_units() {
    let mut world = World::sound();
    world.add_cancellation_of_nothing();
    world.facts.sort();
    let report = world.report();
    assert!(report.ok, "{report:?}");
    spoilt(
        |world| {
            world.add_cancellation_of_nothing();
            let user = world.facts.names.find("u2").unwrap();
            world.facts.users.get_mut(&user).unwrap().cancelled_orders = 0;
        },
        &[("user_stats", "user u2: cancelled_orders: ledger says 1, rollup says 0")],
    );
    spoilt(
        |world| {
            world.add_cancellation_of_nothing();
            world.facts.lines.retain(|line| line.event != event_id(23));
        },
        &[
            ("events_match_lines", "C (online_orders-0@9): cancels, yet has no line"),
            ("rollups_by_month", "2011-04 online_orders-0: cancelled_orders: ledger says 0, rollup says 1"),
            ("user_stats", "user u2: cancelled_orders: ledger says 0, rollup says 1"),
        ],
    );
}

#[test]
fn a_days_fates_that_are_not_those_of_the_progress_are_named() {
    spoilt(
        |world| {
            let slot = world.facts.find_slot("online_orders", 0).unwrap();
            world.facts.days.get_mut(&slot).unwrap()[1] += 1;
        },
        &[("fates_by_day", "online_orders-0: 1 are said to be duplicate, the days add up to 2")],
    );
    spoilt(
        |world| world.facts.days.clear(),
        &[(
            "fates_by_day",
            "online_orders-0: 5 are said to be applied, the days add up to 0 | \
             payments-0: 3 are said to be applied, the days add up to 0 | \
             store_sales-0: 1 are said to be applied, the days add up to 0 | \
             supplier_restocks-0: 2 are said to be applied, the days add up to 0",
        )],
    );
}

fn world_name(facts: &mut Facts) -> crate::names::Name {
    facts.names.intern("u1")
}

fn of_updates(report: &Report) -> &crate::Check {
    report.checks.iter().find(|check| check.name == "inventory_updates").unwrap()
}

#[test]
fn updates_that_aged_out_are_not_missed_and_those_after_them_are() {
    let mut world = World::sound();
    world.low.insert("inventory_updates", 3);
    world.topics.get_mut("inventory_updates").unwrap().retain(|record| record.offset >= 3);
    assert_eq!(
        of_updates(&world.report()).differing,
        3,
        "the topic keeps everything, so somebody took them away"
    );
    world.aged_before = Some(PROCESSED_AT - 1);
    assert_eq!(of_updates(&world.report()).differing, 3, "they were too young to age out");
    world.aged_before = Some(i64::MAX);
    let report = world.report();
    assert!(report.ok, "{report:?}");
    assert_eq!(
        report.notes,
        ["inventory_updates: 3 records are not there and were not missed: not yet published, or aged out"]
    );
    for line in world.facts.lines.iter_mut().filter(|line| line.event == event_id(2)) {
        line.processed_at += 1;
    }
    let report = world.report();
    assert_eq!(of_updates(&report).examples.len(), 1, "{report:?}");
}

#[test]
fn a_payment_that_is_lost_is_named() {
    // Its row of the ledger.
    spoilt(
        |world| world.facts.payment_events.retain(|event| event.payment.event != event_id(33)),
        &[
            ("payments_match_events", "payments-0@3: applied, but not in payment_events"),
            ("payments_stand", "payment P2: no applied event tells of it"),
        ],
    );
    // What waits, though the count has it.
    spoilt(
        |world| world.facts.parked.clear(),
        &[
            ("fates_balance", "payments-0: 1 are said to be parked, 0 wait"),
            (
                "applied_once",
                "event 01890a5d-ac96-774b-bcce-000000000023: is in applied_events, but not in the log",
            ),
        ],
    );
    // Without a trace.
    spoilt(
        |world| {
            world.facts.parked.clear();
            world.facts.applied.retain(|event| *event != event_id(35));
            world.progress("payments").parked = 0;
        },
        &[
            (
                "fates_balance",
                "payments-0: 7 records, 6 fates (3 applied, 2 duplicate, 1 rejected, 0 parked)",
            ),
            (
                "one_fate_per_record",
                "payments-0@6: has no fate: it is not in the log, \
                 and event 01890a5d-ac96-774b-bcce-000000000023 is not applied",
            ),
            ("fates_by_day", "payments-0: 0 are said to be parked, the days add up to 1"),
        ],
    );
}

#[test]
fn a_payment_that_is_joined_twice_is_named() {
    spoilt(
        |world| {
            let again = world.facts.payment_events[2];
            world.facts.payment_events.push(again);
        },
        &[("payments_match_events", "payments-0@3: is in payment_events 2 times")],
    );
    // Joined, and still waiting.
    spoilt(
        |world| {
            let mut parked = world.facts.parked[0];
            (parked.at.offset, parked.event) = (3, event_id(33));
            world.facts.parked.push(parked);
            world.progress("payments").parked += 1;
            world.progress("payments").applied -= 1;
        },
        &[
            ("fates_balance", "payments-0: 2 are said to be applied, the log has 3"),
            (
                "one_fate_per_record",
                "payments-0@3: waits, and is in the log, too | payments-0@3: is in the log, but not in its topic",
            ),
            ("log_bytes", "payments-0@3: waits with another value than the topic has"),
            ("fates_by_day", "payments-0: 2 are said to be applied, the days add up to 3"),
            (
                "applied_once",
                "event 01890a5d-ac96-774b-bcce-000000000021: applied twice, by payments-0@3 and payments-0@3",
            ),
        ],
    );
}

#[test]
fn an_orphan_that_is_not_in_dlq_or_has_a_wrong_number_is_named() {
    spoilt(
        |world| {
            world.topics.get_mut("dlq").unwrap().pop();
        },
        &[("dlq", "payments-0@4: rejected (orphan_payment), but not in dlq")],
    );
    spoilt(
        |world| {
            let again = world.topics["dlq"][2].clone();
            world.add("dlq", again);
        },
        &[("dlq", "payments-0@4: is in dlq more than once, again as dlq-0@3")],
    );
    spoilt(
        |world| {
            let row = world.facts.log.iter_mut().find(|row| row.timer_seq.is_some()).unwrap();
            row.timer_seq = Some(2);
        },
        &[("timer_numbers", "payments-0: the progress is at number 1, the log has 1 of them up to 2")],
    );
}

#[test]
fn a_wrong_count_of_what_waits_is_named() {
    spoilt(
        |world| world.progress("payments").parked = 2,
        &[
            (
                "fates_balance",
                "payments-0: 7 records, 8 fates (3 applied, 2 duplicate, 1 rejected, 2 parked)",
            ),
            ("fates_by_day", "payments-0: 2 are said to be parked, the days add up to 1"),
        ],
    );
    spoilt(
        |world| (world.progress("payments").parked, world.progress("payments").duplicates) = (0, 3),
        &[
            ("fates_balance", "payments-0: 0 are said to be parked, 1 wait"),
            ("fates_by_day", "payments-0: 3 are said to be duplicate, the days add up to 2"),
        ],
    );
}

#[test]
fn a_payment_that_does_not_stand_as_its_newest_event_says_is_named() {
    spoilt(
        |world| {
            let older = world.facts.payment_events[0].payment;
            *world.facts.payments.iter_mut().find(|p| p.payment == older.payment).unwrap() = older;
        },
        &[(
            "payments_stand",
            "payment P1: is not as its newest event (01890a5d-ac96-774b-bcce-000000000020) says",
        )],
    );
    spoilt(
        |world| {
            world.facts.payment_events[2].payment.amount = Some(202_800);
            world.facts.payments.iter_mut().for_each(|p| {
                if p.event == event_id(33) {
                    p.amount = Some(202_800);
                }
            });
        },
        &[
            ("payments_match_events", "payments-0@3: amount is 20.00, payment_events says 20.28"),
            ("payments_and_orders", "payments-0@3: paid 20.28 of 20.28, amount_mismatch true"),
        ],
    );
    spoilt(
        |world| {
            let (order, ghost) = (world.facts.names.find("A").unwrap(), world.facts.names.intern("ghost"));
            let spoil = |payment: &mut crate::facts::Payment| {
                if payment.event == event_id(32) {
                    assert_eq!(payment.order, order);
                    payment.order = ghost;
                }
            };
            world.facts.payment_events.iter_mut().for_each(|event| spoil(&mut event.payment));
            world.facts.payments.iter_mut().for_each(spoil);
        },
        &[
            ("payments_match_events", "payments-0@1: order_id is A, payment_events says ghost"),
            ("payments_and_orders", "payments-0@1: order ghost is not there"),
            ("payments_stand", "payment P1: paid order A and order ghost"),
        ],
    );
}

#[test]
fn a_payment_that_waits_though_its_order_is_there_is_told() {
    let mut world = World::sound();
    world.facts.parked[0].order = world.facts.names.find("A").unwrap();
    let report = world.report();
    assert!(report.ok, "{report:?}");
    assert_eq!(
        report.notes,
        [
            "1 payments wait though their order is there (0 have been told): a running processor joins them at its next look"
        ]
    );
}

#[test]
fn what_a_timer_put_out_after_the_database_was_read_is_left_out() {
    let mut world = World::sound();
    let mut later = world.topics["dlq"][2].clone();
    for (name, value) in &mut later.headers {
        if name == "__connect.errors.offset" {
            *value = Some(b"6".to_vec());
        }
    }
    world.add("dlq", later);
    let report = world.report();
    assert!(report.ok, "{report:?}");
}

/// A replay of the first record of online_orders that is said to have become another record of it.
fn replayed(world: &mut World, sent_offset: Option<i64>, copies: &[usize]) {
    let id = event_id(900);
    for at in copies {
        let header = ("stocktide.replay.id".to_owned(), Some(id.to_string().into_bytes()));
        let record = &mut world.topics.get_mut("store_sales").unwrap()[*at];
        record.headers.push(header);
    }
    let slot = world.facts.find_slot("store_sales", 0).unwrap();
    let value = world.topics["store_sales"][0].value.as_deref().map(Digest::of);
    world.facts.replays.push(Replay { id, of: Coordinates { slot, offset: 1 }, sent_offset, value });
}

#[test]
fn a_replay_that_is_where_and_as_it_was_sent_holds_and_any_other_is_named() {
    spoilt_only_in_replays(|world| replayed(world, Some(0), &[0]), None);
    // Not noted yet where it lies: it may be anywhere.
    spoilt_only_in_replays(|world| replayed(world, None, &[0]), None);
    spoilt_only_in_replays(|world| replayed(world, Some(0), &[]), Some("is not there"));
    spoilt_only_in_replays(|world| replayed(world, Some(1), &[0]), Some("is said to be at offset 1"));
    spoilt_only_in_replays(|world| replayed(world, Some(1), &[1]), Some("another value"));
    spoilt_only_in_replays(|world| replayed(world, Some(0), &[0, 1]), Some("twice"));
}

fn spoilt_only_in_replays(spoil: impl FnOnce(&mut World), expected: Option<&str>) {
    let mut world = World::sound();
    spoil(&mut world);
    let report = world.report();
    let check = report.checks.iter().find(|check| check.name == "replays").unwrap();
    match expected {
        None => assert_eq!(check.differing, 0, "{:?}", check.examples),
        Some(words) => assert!(check.examples.iter().any(|e| e.contains(words)), "{:?}", check.examples),
    }
}

/// Forgets the user of the first online order, as a right program would, and whatever the test changes of it.
fn forgetting(spoil: impl FnOnce(&mut World)) -> Report {
    let mut world = World::sound();
    let user = world.facts.names.find("u1").unwrap();
    let token = world.facts.names.intern("forgotten:1");
    let digest = Digest::of(b"saltu1");
    world.facts.forgotten.push(Forgotten { token, salt: b"salt".to_vec(), digest, at: PROCESSED_AT + 1 });
    for header in world.facts.headers.iter_mut().filter(|header| header.user == Some(user)) {
        (header.user, header.address) = (Some(token), None);
    }
    let mut theirs = Vec::new();
    for line in world.facts.lines.iter_mut().filter(|line| line.party == Some(user)) {
        line.party = Some(token);
        theirs.push(line.at);
    }
    for row in world.facts.log.iter_mut().filter(|row| theirs.contains(&row.at)) {
        (row.erased, row.value) = (true, Some(Digest::of(b"erased")));
    }
    let stats = world.facts.users.remove(&user).unwrap();
    world.facts.users.insert(token, stats);
    let top = world.facts.top_users.remove(&user).unwrap();
    world.facts.top_users.insert(token, top);
    spoil(&mut world);
    world.report()
}

#[test]
fn a_forgotten_user_is_compared_by_the_digest_and_everything_else_as_before() {
    let report = forgetting(|_| {});
    assert!(report.ok, "{report:?}");
    assert!(
        report.notes.iter().any(|note| note.contains("had a user erased (1 forgotten)")),
        "{:?}",
        report.notes
    );
    let named = |spoil: fn(&mut World), check: &str| {
        let report = forgetting(spoil);
        let found = report.checks.iter().find(|c| c.name == check).unwrap();
        assert!(found.differing > 0, "{check} says nothing: {report:?}");
    };
    // The digest is another user's.
    named(|world| world.facts.forgotten[0].digest = Digest::of(b"saltu2"), "events_match_lines");
    // The log says nothing of an erasure.
    named(|world| world.facts.log.iter_mut().for_each(|row| row.erased = false), "log_bytes");
    named(|world| world.facts.forgotten.clear(), "forgotten_users");
    named(
        |world| {
            let user = world.facts.names.find("u1");
            let line = world.facts.lines.iter_mut().find(|line| line.party.is_some()).unwrap();
            line.party = user;
        },
        "forgotten_users",
    );
    named(|world| world.line("online_orders", 0, 3).quantity = 1, "events_match_lines");
}
