//! Lines of unusual quantity.

use chrono::{Days, NaiveDate};
use chrono_tz::Europe::London;
use stocktide_domain::Money;
use stocktide_domain::report::{Outlier, Outliers, Tenths};

use super::{Catalogue, Kind, Line};

/// By median and MAD of ln(quantity) over the sale lines of 28 days; unusual is 0.6745 × (x − median) ÷ MAD above 3.5.
pub fn lines(all: &[Line], date: NaiveDate, catalogue: &Catalogue) -> Outliers {
    let first = date - Days::new(27);
    let in_window =
        |line: &&Line| line.kind == Kind::Sale && line.at.date() >= first && line.at.date() <= date;
    let mut quantities: Vec<i64> = all.iter().filter(in_window).map(|line| line.quantity).collect();
    let window_lines = quantities.len() as i64;
    if quantities.len() < 30 {
        return Outliers {
            window_days: 28,
            window_lines,
            median_quantity: None,
            spread_factor: None,
            largest_usual: None,
            found: 0,
            rows: Vec::new(),
        };
    }
    quantities.sort_unstable();
    let median = quantities[(quantities.len() - 1) / 2];
    let far = |quantity: i64| (quantity as f64 / median as f64).ln();
    let mut distances: Vec<f64> = quantities.iter().map(|&quantity| far(quantity).abs()).collect();
    distances.sort_unstable_by(f64::total_cmp);
    let mad = distances[(distances.len() - 1) / 2].max(2.0f64.ln());
    let score = |quantity: i64| 0.6745 * far(quantity) / mad;
    let largest_usual = (1..1_000_000).take_while(|&quantity| score(quantity) <= 3.5).last().unwrap();

    let mut unusual: Vec<&Line> = all
        .iter()
        .filter(|line| line.kind != Kind::Adjustment && line.at.date() == date)
        .filter(|line| score(line.quantity.abs()) > 3.5)
        .collect();
    unusual.sort_by_key(|line| (-line.quantity.abs(), line.topic, line.invoice.clone(), line.line_no));
    let tenths = |number: f64| Tenths((number * 10.0).round() as i64);
    let row = |line: &&Line| Outlier {
        source: line.topic.to_owned(),
        order_id: line.invoice.clone(),
        line_no: line.line_no,
        kind: if line.kind == Kind::Sale { "sale" } else { "return" }.to_owned(),
        product_id: line.product.clone(),
        name: catalogue[&line.product].0.clone(),
        quantity: line.quantity,
        unit_price: Money::from_ten_thousandths(line.price),
        occurred_at: line.at.and_local_timezone(London).unwrap().to_utc(),
        z_score: tenths(score(line.quantity.abs())),
    };
    Outliers {
        window_days: 28,
        window_lines,
        median_quantity: Some(median),
        spread_factor: Some(tenths(mad.exp())),
        largest_usual: Some(largest_usual),
        found: unusual.len() as i64,
        rows: unusual.iter().take(100).map(row).collect(),
    }
}
