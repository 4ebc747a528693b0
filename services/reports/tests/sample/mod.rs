//! Figures of a made-up day, with a hostile product among them.
#![allow(dead_code)] // each test binary uses a part of it
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use chrono::{DateTime, Utc};
use stocktide_domain::Money;
use stocktide_domain::interval::BusinessDay;
use stocktide_domain::report::{
    DataQuality, Demand, Earlier, Fates, Figures, LATE_GRACE_SECONDS, LateBySource, LateEvents, LowStock,
    LowStockRow, Outlier, Outliers, OversoldRow, OversoldStock, RejectCount, Rejects, Sales, SalesGroup,
    Seller, Tenths, TopSellers, Totals, ValueMismatch, ValueMismatches,
};

/// A name that a spreadsheet would run, a browser would run, and a CSV reader would stumble over.
pub const HOSTILE: &str = "=HYPERLINK(\"http://x\"),<script>alert('1')</script>\r\n& \"CO\"";

pub fn money(text: &str) -> Money {
    Money::parse(text).unwrap()
}

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn totals(orders: i64, gross: &str, returned: &str) -> Totals {
    Totals {
        orders,
        lines: orders * 2,
        units: orders * 5,
        gross: money(gross),
        cancellations: 1,
        cancelled_units: 2,
        cancelled_value: money("5.10"),
        returns: 1,
        returned_units: 1,
        returned_value: money(returned),
        ..Totals::default()
    }
    .completed()
}

fn group(key: &str, name: &str, orders: i64, gross: &str) -> SalesGroup {
    SalesGroup { key: key.to_owned(), name: name.to_owned(), totals: totals(orders, gross, "0.50") }
}

fn seller(rank: u32, product_id: &str, name: &str, units: i64, revenue: &str) -> Seller {
    Seller {
        rank,
        product_id: product_id.to_owned(),
        name: name.to_owned(),
        category: "Gifts".to_owned(),
        orders: 3,
        units,
        revenue: money(revenue),
        returned_units: 1,
        returned_value: money("2.55"),
    }
}

/// The figures; `name` is the second product's name.
pub fn figures(name: &str) -> Figures {
    let day = BusinessDay::of("2011-03-27".parse().unwrap(), chrono_tz::Tz::Europe__London);
    let total = totals(1_204, "1234567.895", "12.3450");
    Figures {
        day: day.into(),
        currency: "GBP".to_owned(),
        sales: sales(day, total, name),
        top_sellers: TopSellers {
            top_n: 2,
            by_units: vec![
                seller(1, "22423", "Cakestand", 120, "1530.00"),
                seller(2, "=1", name, 90, "9.0001"),
            ],
            by_revenue: vec![
                seller(1, "22423", "Cakestand", 120, "1530.00"),
                seller(2, "85123A", name, 7, "99"),
            ],
        },
        low_stock: low_stock(day, name),
        data_quality: data_quality(name),
    }
}

fn sales(day: BusinessDay, total: Totals, name: &str) -> Sales {
    let earlier =
        |date: &str, gross| Earlier::of(date.parse().unwrap(), totals(1_000, gross, "1.00"), &total);
    let compared = stocktide_domain::report::Comparison {
        day_before: earlier("2011-03-26", "1000000"),
        week_before: earlier("2011-03-20", "0"),
    };
    assert_eq!(day.date, "2011-03-27".parse().unwrap());
    Sales {
        by_source: vec![
            group("online_orders", "online_orders", 1_200, "1234000"),
            group("store_sales", "store_sales", 4, "567.895"),
        ],
        by_location: vec![group("online", "Online", 1_200, "1234000"), group("shop", name, 4, "567.895")],
        by_category: vec![
            group("", "", 1, "1.00"),
            group("Gifts", "Gifts", 1_203, "1230000"),
            group("Tea", "Tea", 4, "4566.895"),
        ],
        total,
        compared,
    }
}

fn low_stock(day: BusinessDay, name: &str) -> LowStock {
    let row = |product_id: &str, status: &str, quantity, units| {
        let demand = Demand { units, days: 28 };
        LowStockRow {
            product_id: product_id.to_owned(),
            name: name.to_owned(),
            category: "Gifts".to_owned(),
            location_id: "online".to_owned(),
            status: status.to_owned(),
            quantity,
            reorder_point: 10,
            demand_units: units,
            days_of_cover: demand.days_of_cover(quantity),
            suggested_order: demand.suggested_order(quantity, 10),
        }
    };
    let rows = vec![row("22423", "low", 7, 56), row("85123A", "oversold", -3, 0)];
    LowStock { as_of: day.end, cover_days: 28, demand_days: 28, found: 2, rows }
}

fn data_quality(name: &str) -> DataQuality {
    DataQuality {
        fates: vec![Fates {
            topic: "online_orders".to_owned(),
            consumed: 1_213,
            applied: 1_204,
            duplicates: 5,
            rejected: 4,
            parked: 0,
        }],
        rejects: Rejects {
            records: 4,
            by_reason: vec![RejectCount {
                topic: "online_orders".to_owned(),
                reason: "unknown_product".to_owned(),
                records: 3,
            }],
            reason_aged_out: 1,
        },
        outliers: outliers(name),
        value_mismatches: ValueMismatches {
            orders: 1,
            difference: money("-0.01"),
            rows: vec![ValueMismatch {
                source: "online_orders".to_owned(),
                order_id: "536365".to_owned(),
                stated_value: money("10.00"),
                order_value: money("10.01"),
            }],
        },
        late_events: LateEvents {
            grace_seconds: LATE_GRACE_SECONDS,
            events: 2,
            by_source: vec![LateBySource {
                source: "store_sales".to_owned(),
                events: 2,
                lines: 3,
                last_processed_at: at("2011-03-28T09:00:00Z"),
            }],
        },
        oversold: OversoldStock {
            at_end: 1,
            during_day: 1,
            rows: vec![OversoldRow {
                product_id: "85123A".to_owned(),
                name: name.to_owned(),
                location_id: "online".to_owned(),
                quantity_at_end: -3,
                lowest_in_day: Some(-5),
            }],
        },
    }
}

fn outliers(name: &str) -> Outliers {
    Outliers {
        window_days: 28,
        window_lines: 40_000,
        median_quantity: Some(4),
        spread_factor: Some(Tenths(30)),
        largest_usual: Some(1_200),
        found: 1,
        rows: vec![Outlier {
            source: "online_orders".to_owned(),
            order_id: "581483".to_owned(),
            line_no: 1,
            kind: "sale".to_owned(),
            product_id: "23843".to_owned(),
            name: name.to_owned(),
            quantity: 80_995,
            unit_price: money("2.08"),
            occurred_at: at("2011-03-27T09:15:00Z"),
            z_score: Tenths(61),
        }],
    }
}
