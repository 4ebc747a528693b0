//! What happened in the small installation.

use std::collections::BTreeMap;

use chrono::NaiveDate;
use serde_json::json;

use super::{About, World, event_id, micros};
use crate::facts::{Facts, LineKind, Month, OrderStatus, Progress, TopUser, User};

impl World {
    /// Everything as it should be; two orders, a store's sale, a return, a cancellation, two restocks, a duplicate, two
    /// rejects, and payments.
    pub fn sound() -> World {
        let mut facts = Facts::new("Europe/London".parse().unwrap(), "GBP");
        for product in ["22423", "84879", "POST"] {
            facts.catalogue.products.insert(facts.names.intern(product));
        }
        for location in ["online", "store-1"] {
            facts.catalogue.locations.insert(facts.names.intern(location));
        }
        facts.catalogue.services.insert(facts.names.intern("POST"));
        facts.catalogue.suppliers.insert(facts.names.intern("S"));
        for topic in ["online_orders", "payments", "store_sales", "supplier_restocks"] {
            let slot = facts.slot(topic, 0);
            facts.partitions[usize::from(slot.0)].progress = Some(Progress::default());
        }
        let topics =
            ["online_orders", "payments", "store_sales", "supplier_restocks", "inventory_updates", "dlq"];
        let mut world = World {
            facts,
            topics: topics.into_iter().map(|topic| (topic, Vec::new())).collect(),
            low: BTreeMap::new(),
            logged: BTreeMap::new(),
            aged_before: None,
            ahead: 0,
            now: Vec::new(),
        };
        world.open_stock("22423", "online", 50);
        world.open_stock("84879", "online", 10);
        world.online();
        world.store_and_restocks();
        world.rollups();
        world.payments();
        world.facts.sort();
        world
    }

    fn online(&mut self) {
        let order = json!({"event_id": event_id(1), "order_id": "A", "user_id": "u1", "order_timestamp": "2010-12-01T08:26:00Z",
            "order_value": 38.3, "payment_method": "card", "shipping_address": "1 High St", "items": [
                {"product_id": "22423", "quantity": 6, "price_per_unit": "2.55"},
                {"product_id": "POST", "quantity": 1, "price_per_unit": 18},
                {"product_id": "22423", "quantity": 2, "price_per_unit": 2.5}]});
        let a = About {
            kind: LineKind::Sale,
            business_id: "A",
            original: None,
            party: Some("u1"),
            location: "online",
            at: "2010-12-01T08:26:00Z",
        };
        self.apply(
            "online_orders",
            1,
            &order,
            a,
            &[(1, "22423", 6, 25_500), (2, "POST", 1, 180_000), (3, "22423", 2, 25_000)],
        );
        self.header(1, a, Some(383_000), 383_000, OrderStatus::Cancelled);

        let order = json!({"event_id": event_id(2), "order_id": "B", "currency": "gbp", "order_timestamp": "2011-06-30T23:30:00Z",
            "order_value": "20.00", "items": [{"product_id": "84879", "quantity": 12}]});
        let b = About { business_id: "B", party: None, at: "2011-06-30T23:30:00Z", ..a };
        self.apply("online_orders", 2, &order, b, &[(1, "84879", 12, 16_900)]);
        self.header(2, b, Some(200_000), 202_800, OrderStatus::Shipped);

        let again = self.topics["online_orders"][0].clone();
        self.consume("online_orders", again, |progress| progress.duplicates += 1);
        self.reject("online_orders", Some(b"not json"), "malformed_json");

        let back = json!({"event_id": event_id(3), "type": "returned", "order_id": "RA", "original_id": "A", "user_id": "u1",
            "order_timestamp": "2010-12-03T09:00:00+01:00", "items": [{"product_id": "22423", "quantity": 1}]});
        let returned = About {
            kind: LineKind::Return,
            business_id: "RA",
            original: Some("A"),
            at: "2010-12-03T09:00:00+01:00",
            ..a
        };
        self.apply("online_orders", 3, &back, returned, &[(1, "22423", -1, 25_500)]);

        let cancel = json!({"event_id": event_id(4), "type": "cancelled", "order_id": "A",
            "order_timestamp": "2010-12-04T09:00:00Z"});
        let cancelled = About { kind: LineKind::Cancellation, at: "2010-12-04T09:00:00Z", ..a };
        let lines = [(1, "22423", -5, 25_500), (2, "POST", -1, 180_000), (3, "22423", -2, 25_000)];
        self.apply("online_orders", 4, &cancel, cancelled, &lines);

        let shipped = json!({"event_id": event_id(5), "type": "shipped", "order_id": "B",
            "order_timestamp": "2011-07-02T09:00:00Z"});
        self.apply("online_orders", 5, &shipped, b, &[]);
    }

    /// An order of one piece that comes back and is cancelled then: nothing is left to give back, so its cancellation has one
    /// line of no units.
    pub fn add_cancellation_of_nothing(&mut self) {
        let about = |kind, original, at| About {
            kind,
            business_id: "C",
            original,
            party: Some("u2"),
            location: "online",
            at,
        };
        let items = json!([{"product_id": "22423", "quantity": 1, "price_per_unit": "2.50"}]);
        let event = |n, kind: &str, original: Option<&str>, at: &str| {
            json!({"event_id": event_id(n), "type": kind, "order_id": "C", "original_id": original, "user_id": "u2",
                "order_timestamp": at, "items": items, "payment_method": "card", "shipping_address": "1 High St"})
        };
        let [placed, returned, cancelled] =
            ["2011-01-31T10:00:00Z", "2011-02-01T10:00:00Z", "2011-03-31T23:30:00Z"];
        let sold = about(LineKind::Sale, None, placed);
        self.apply("online_orders", 21, &event(21, "placed", None, placed), sold, &[(1, "22423", 1, 25_000)]);
        self.header(21, sold, None, 25_000, OrderStatus::Cancelled);
        let back = about(LineKind::Return, Some("C"), returned);
        self.apply(
            "online_orders",
            22,
            &event(22, "returned", Some("C"), returned),
            back,
            &[(1, "22423", -1, 25_000)],
        );
        let cancel = about(LineKind::Cancellation, None, cancelled);
        let nothing = [(1, "22423", 0, 25_000)];
        self.apply("online_orders", 23, &event(23, "cancelled", None, cancelled), cancel, &nothing);

        let slot = self.facts.slot("online_orders", 0);
        let user = self.facts.names.intern("u2");
        let mut month = |month, row| {
            self.facts.months.insert((NaiveDate::from_ymd_opt(2011, month, 1).unwrap(), slot), row);
        };
        month(1, Month { orders: 1, units: 1, gross: 25_000, ..Month::default() });
        month(2, Month { returns: 1, returned_units: 1, returned_value: 25_000, ..Month::default() });
        // Half past eleven in the evening of 31 March in UTC: summer time has begun in London.
        month(4, Month { cancelled_orders: 1, ..Month::default() });
        let at = Some(micros(placed));
        let row = User {
            orders: 1,
            units: 1,
            gross: 25_000,
            cancelled_orders: 1,
            returned_value: 25_000,
            first_order_at: at,
            last_order_at: at,
            ..User::default()
        };
        self.facts.users.insert(user, row);
        self.facts.top_users.insert(user, TopUser { spend: 0, orders: 1 });
    }

    fn store_and_restocks(&mut self) {
        let sale = json!({"event_id": event_id(6), "sale_id": "A", "store_id": "store-1", "sold_at": "2010-12-05T10:00:00Z",
            "items": [{"product_id": "22423", "quantity": 1, "price_per_unit": "3"}]});
        let sold = About {
            kind: LineKind::Sale,
            business_id: "A",
            original: None,
            party: None,
            location: "store-1",
            at: "2010-12-05T10:00:00Z",
        };
        self.open_stock("22423", "store-1", 0);
        self.apply("store_sales", 6, &sale, sold, &[(1, "22423", 1, 30_000)]);
        self.header(6, sold, None, 30_000, OrderStatus::Placed);
        self.reject("store_sales", None, "malformed_json");

        let delivery = json!({"event_id": event_id(7), "restock_id": "R1", "supplier_id": "S", "location_id": "online",
            "received_at": "2010-12-06T10:00:00Z", "items": [{"product_id": "84879", "quantity": 100, "unit_cost": 0.8}]});
        let received = About {
            kind: LineKind::Received,
            business_id: "R1",
            party: Some("S"),
            location: "online",
            ..sold
        };
        let received = About { at: "2010-12-06T10:00:00Z", ..received };
        self.apply("supplier_restocks", 7, &delivery, received, &[(1, "84879", 100, 8_000)]);
        let count = json!({"event_id": event_id(8), "type": "adjustment", "restock_id": "R2", "location_id": "online",
            "received_at": "2010-12-06T10:00:00Z", "items": [{"product_id": "84879", "quantity": -98, "unit_cost": "0.80"}]});
        let counted = About { kind: LineKind::Adjustment, business_id: "R2", party: None, ..received };
        self.apply("supplier_restocks", 8, &count, counted, &[(1, "84879", -98, 8_000)]);
    }

    fn rollups(&mut self) {
        let online = self.facts.slot("online_orders", 0);
        let store = self.facts.slot("store_sales", 0);
        let december = NaiveDate::from_ymd_opt(2010, 12, 1).unwrap();
        let first = Month {
            orders: 1,
            units: 9,
            gross: 383_000,
            cancelled_orders: 1,
            cancelled_units: 8,
            cancelled_value: 357_500,
            returns: 1,
            returned_units: 1,
            returned_value: 25_500,
        };
        // Half past eleven in the evening in UTC is July already in London.
        let july = NaiveDate::from_ymd_opt(2011, 7, 1).unwrap();
        let second = Month { orders: 1, units: 12, gross: 202_800, ..Month::default() };
        let third = Month { orders: 1, units: 1, gross: 30_000, ..Month::default() };
        self.facts.months =
            [((december, online), first), ((july, online), second), ((december, store), third)]
                .into_iter()
                .collect();
        let placed = Some(micros("2010-12-01T08:26:00Z"));
        let user = User {
            orders: 1,
            units: 9,
            gross: 383_000,
            cancelled_orders: 1,
            cancelled_value: 357_500,
            returned_value: 25_500,
            first_order_at: placed,
            last_order_at: placed,
        };
        let name = self.facts.names.intern("u1");
        self.facts.users.insert(name, user);
        self.facts.top_users.insert(name, TopUser { spend: 0, orders: 1 });
    }
}
