//! The queries of the dashboards, with their variables and macros filled in as Grafana would.

use std::collections::BTreeMap;

use serde_json::Value;

use super::file;

/// A query of a panel, or of a variable.
#[derive(Debug, Clone)]
pub struct Query {
    /// `Dashboard / Panel A`.
    pub name: String,
    /// PromQL; else SQL.
    pub is_promql: bool,
    /// As it stands in the dashboard.
    pub text: String,
}

/// The dashboards, by the names of their files.
pub fn dashboards() -> BTreeMap<String, Value> {
    let entries = std::fs::read_dir(file("grafana/dashboards")).unwrap();
    let dashboard = |entry: std::io::Result<std::fs::DirEntry>| {
        let path = entry.unwrap().path();
        let parsed = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        (path.file_name().unwrap().to_str().unwrap().to_owned(), parsed)
    };
    entries.map(dashboard).collect()
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// The queries of all panels.
pub fn of_panels() -> Vec<Query> {
    let mut queries = Vec::new();
    for dashboard in dashboards().values() {
        for panel in list(&dashboard["panels"]) {
            for target in list(&panel["targets"]) {
                let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                let name = [&dashboard["title"], &panel["title"], &target["refId"]].map(text);
                let is_promql = target["datasource"]["type"] == "prometheus";
                let query = text(if is_promql { &target["expr"] } else { &target["rawSql"] });
                queries.push(Query {
                    name: format!("{} / {} {}", name[0], name[1], name[2]),
                    is_promql,
                    text: query,
                });
            }
        }
    }
    queries
}

/// The SQL queries of all variables.
pub fn of_variables() -> Vec<Query> {
    let mut queries = Vec::new();
    for dashboard in dashboards().values() {
        for variable in list(&dashboard["templating"]["list"]) {
            if let Some(sql) = variable["query"].as_str() {
                let name = format!(
                    "{} / ${}",
                    dashboard["title"].as_str().unwrap(),
                    variable["name"].as_str().unwrap()
                );
                queries.push(Query { name, is_promql: false, text: sql.to_owned() });
            }
        }
    }
    queries
}

/// A PromQL query as Grafana sends it, with all topics chosen.
pub fn promql(text: &str) -> String {
    text.replace("$__rate_interval", "10s")
        .replace("$__range", "5m")
        .replace("$topic", "online_orders|store_sales|supplier_restocks")
}

/// A SQL query as Grafana sends it for the last 30 days, all topics and locations, and one product. A macro that this does not
/// know stays, and PostgreSQL refuses it.
pub fn sql(text: &str, locations: &[String], product: &str) -> String {
    let quoted =
        |values: &[String]| values.iter().map(|value| format!("'{value}'")).collect::<Vec<_>>().join(",");
    let topics = ["online_orders", "store_sales", "supplier_restocks"].map(str::to_owned);
    let filled = text
        .replace("$location", &quoted(locations))
        .replace("$product", product)
        .replace("$topic", &quoted(&topics));
    let filled = expand(&filled, "$__timeFilter", |column| {
        format!("{column} BETWEEN now() - interval '30 days' AND now()")
    });
    expand(&filled, "$__timeGroupAlias", |arguments| {
        let column = arguments.split(',').next().unwrap();
        format!("floor(extract(epoch FROM {column}) / 60) * 60 AS \"time\"")
    })
}

/// Replaces `NAME(arguments)`.
fn expand(text: &str, name: &str, with: impl Fn(&str) -> String) -> String {
    let (mut rest, mut expanded) = (text, String::new());
    while let Some(at) = rest.find(name) {
        expanded.push_str(&rest[..at]);
        let arguments = &rest[at + name.len()..];
        let mut depth = 0;
        let end = arguments.find(|c| {
            depth += i32::from(c == '(') - i32::from(c == ')');
            depth == 0
        });
        let end = end.expect("a macro has its parentheses");
        expanded.push_str(&with(&arguments[1..end]));
        rest = &arguments[end + 1..];
    }
    expanded + rest
}

/// The names of Stocktide's metrics and recorded series in a text.
pub fn metrics_in(text: &str) -> Vec<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let words = text.split(|c: char| !is_part(c));
    let named = words.filter(|word| word.starts_with("stocktide_") || word.starts_with("stocktide:"));
    let mut names: Vec<String> = named.map(|name| name.trim_end_matches(':').to_owned()).collect();
    names.sort();
    names.dedup();
    names
}
