//! `docs/metrics.md` is what the services declare; the dashboards, the rules and the documents name nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::watched::file;
use crate::watched::queries::{dashboards, metrics_in};
use stocktide_runtime::metrics::Declared;

/// Who declares what.
const SERVICES: [(&str, &str, &[Declared]); 7] = [
    ("Every service", "`services/runtime/src/metrics.rs`", stocktide_runtime::metrics::Process::DECLARED),
    (
        "The processor",
        "`services/processor/src/metrics.rs`; each process speaks of itself",
        stocktide_processor::metrics::Metrics::DECLARED,
    ),
    ("The API", "`services/api/src/metrics.rs`", stocktide_api::metrics::Metrics::DECLARED),
    (
        "The installation, seen from outside",
        "`services/watch/src/metrics.rs`, by `jobs run` and `up`; the same whoever says it",
        stocktide_watch::Metrics::DECLARED,
    ),
    (
        "Jobs",
        "`services/jobs/src/metrics.rs`; gauges are of the tables, counters of the process",
        stocktide_jobs::metrics::Metrics::DECLARED,
    ),
    (
        "The nightly verification",
        "`services/verify/src/reconcile.rs`, by `jobs run` and `up`",
        stocktide_verify::ReconcileMetrics::DECLARED,
    ),
    (
        "Simulated sources",
        "`services/producers/src/metrics.rs`, by `produce` without `--count`",
        stocktide_producers::metrics::Metrics::DECLARED,
    ),
];

const HEAD: &str = "<!-- Made from the services' sources; UPDATE_DOCS=1 cargo test -p stocktide --test docs metrics writes it anew. -->

# Metrics

What the services serve on `/metrics` of their admin port ([operations](operations.md#health)), for Prometheus. Times are in seconds, and so are
points in time, since 1970. A label's values are few and known: topics, partitions, reasons, stages, jobs.

A job's name is the label `job`, which Prometheus calls `exported_job`, since `job` is its own name for what it scrapes.
";

fn all() -> impl Iterator<Item = &'static Declared> {
    SERVICES.iter().flat_map(|(_, _, declared)| declared.iter())
}

/// The declared metric that a name in a query belongs to.
fn declared(name: &str) -> Option<&'static Declared> {
    let parts = ["_bucket", "_sum", "_count"];
    all().find(|metric| {
        let rest = name.strip_prefix(metric.name);
        rest == Some("") || metric.kind == "histogram" && rest.is_some_and(|rest| parts.contains(&rest))
    })
}

/// Where metrics are asked for: the dashboards by title, and the file of rules.
fn sources() -> BTreeMap<String, String> {
    let titled = |dashboard: &serde_json::Value| {
        (dashboard["title"].as_str().unwrap().to_owned(), dashboard.to_string())
    };
    let mut sources: BTreeMap<String, String> = dashboards().values().map(titled).collect();
    for (name, block) in rules() {
        sources.insert(name, block);
    }
    sources
}

/// The rules by name, each with its text.
fn rules() -> Vec<(String, String)> {
    let text = std::fs::read_to_string(file("prometheus/rules/stocktide.yml")).unwrap();
    let blocks = text.split("      - ").skip(1);
    let named = blocks.map(|block| {
        (block.split_once(": ").unwrap().1.split_whitespace().next().unwrap().to_owned(), block.to_owned())
    });
    named.filter(|(name, _)| name.starts_with("stocktide:") || name.starts_with("Stocktide")).collect()
}

/// For each metric, the dashboards and alerts that show it, by way of recorded series too.
fn shown_in() -> BTreeMap<&'static str, BTreeSet<String>> {
    let sources = sources();
    let mut shown: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for (source, text) in &sources {
        for name in metrics_in(text) {
            let recorded: Vec<String> =
                sources.get(&name).map(|rule| through(rule, &sources)).unwrap_or_default();
            for metric in recorded.iter().chain([&name]).filter_map(|name| declared(name)) {
                if !source.starts_with("stocktide:") {
                    shown.entry(metric.name).or_default().insert(source.clone());
                }
            }
        }
    }
    shown
}

/// The metrics behind a recorded series.
fn through(rule: &str, sources: &BTreeMap<String, String>) -> Vec<String> {
    let own = rule.split_once('\n').map_or("", |(_, body)| body);
    metrics_in(own)
        .into_iter()
        .flat_map(|name| match sources.get(&name) {
            Some(rule) => through(rule, sources),
            None => vec![name],
        })
        .collect()
}

fn page() -> String {
    let (shown, mut page) = (shown_in(), HEAD.to_owned());
    for (title, place, metrics) in SERVICES {
        write!(page, "\n## {title}\n\n{place}\n\n| metric | kind | what | shown in |\n|---|---|---|---|\n")
            .unwrap();
        for metric in metrics {
            let labels = if metric.labels.is_empty() {
                String::new()
            } else {
                format!("{{{}}}", metric.labels.join(","))
            };
            let places =
                shown.get(metric.name).map(|places| places.iter().cloned().collect::<Vec<_>>().join(", "));
            let places = places.unwrap_or_else(|| "—".to_owned());
            writeln!(page, "| `{}{labels}` | {} | {} | {places} |", metric.name, metric.kind, metric.help())
                .unwrap();
        }
    }
    let unused: Vec<String> =
        all().filter(|m| !shown.contains_key(m.name)).map(|m| format!("`{}`", m.name)).collect();
    let unused = if unused.is_empty() { "none".to_owned() } else { unused.join(", ") };
    write!(page, "\nShown by no dashboard and used by no alert: {unused}.\n").unwrap();
    page
}

#[test]
fn the_page_of_metrics_is_what_the_services_declare() {
    let (path, page) = (file("docs/metrics.md"), page());
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    assert!(
        std::fs::read_to_string(&path).unwrap_or_default() == page,
        "docs/metrics.md is behind: UPDATE_DOCS=1 writes it anew"
    );
}

#[test]
fn names_follow_the_conventions_and_are_given_once() {
    let names: BTreeSet<&str> = all().map(|metric| metric.name).collect();
    assert_eq!(names.len(), all().count());
    for metric in all() {
        let Declared { name, kind, .. } = metric;
        assert_eq!(*kind == "counter", name.ends_with("_total"), "{name} is a {kind}");
        assert!(name.starts_with("stocktide_") && metric.help().ends_with('.'), "{name}: {}", metric.help());
        assert!(metric.labels.len() <= 3 && !name.contains("milli"), "{name}");
    }
}

#[test]
fn dashboards_and_rules_name_only_metrics_that_are_exported() {
    let recorded: BTreeSet<String> = rules().into_iter().map(|(name, _)| name).collect();
    for (source, text) in sources() {
        for name in metrics_in(&text) {
            assert!(
                declared(&name).is_some() || recorded.contains(&name),
                "{source} names {name}, which nobody exports"
            );
        }
    }
}

/// Names in documents that look like metrics and are none: a role's secret of the compose file, roles, crates in log filters.
const NO_METRICS: [&str; 4] =
    ["stocktide_password", "stocktide_processor", "stocktide_jobs", "stocktide_api"];

#[test]
fn documents_name_only_metrics_that_are_exported() {
    for path in documents(&file("docs")).into_iter().chain([file("README.md"), file("ARCHITECTURE.md")]) {
        let named = metrics_in(&std::fs::read_to_string(&path).unwrap());
        // `stocktide:0.1.0` is an image, and not a recorded series.
        for name in named.into_iter().filter(|name| name.starts_with("stocktide_")) {
            // `stocktide_jobs_…` speaks of all that begin so.
            let begins = name.ends_with('_') && all().any(|metric| metric.name.starts_with(&name));
            let is_known = begins || declared(&name).is_some() || NO_METRICS.contains(&name.as_str());
            assert!(is_known, "{} names {name}, which nobody exports", path.display());
        }
    }
}

fn documents(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(documents(&path));
        } else if path.extension().is_some_and(|extension| extension == "md") {
            found.push(path);
        }
    }
    found
}

#[test]
fn each_alert_has_its_runbook_and_each_runbook_its_alert() {
    let alerts: BTreeSet<String> =
        rules().into_iter().map(|(name, _)| name).filter(|name| name.starts_with("Stocktide")).collect();
    assert!(alerts.len() >= 12);
    let mut pages = BTreeSet::new();
    for path in documents(&file("docs/runbooks")) {
        let (name, text) =
            (path.file_stem().unwrap().to_str().unwrap().to_owned(), std::fs::read_to_string(&path).unwrap());
        if name == "README" {
            assert!(alerts.iter().all(|alert| text.contains(&format!("[{alert}]({alert}.md)"))));
            continue;
        }
        for section in ["## What it means", "## What to look at", "## What to do", "## Over when"] {
            assert!(text.contains(section), "{name} has no section {section}");
        }
        pages.insert(name);
    }
    assert_eq!(pages, alerts);
    for (name, rule) in rules().into_iter().filter(|(name, _)| alerts.contains(name)) {
        assert!(rule.contains(&format!("runbook_url: docs/runbooks/{name}.md")), "{rule}");
        assert!(rule.contains("severity: critical") || rule.contains("severity: warning"), "{rule}");
    }
}

#[test]
fn dashboards_are_what_their_sources_make_and_say_what_they_show() {
    let made = std::process::Command::new("python3")
        .arg(file("scripts/dashboards"))
        .arg("--check")
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let dashboards = dashboards();
    let titles: Vec<&str> =
        dashboards.values().map(|dashboard| dashboard["title"].as_str().unwrap()).collect();
    assert_eq!(titles, ["Night shift", "Pipeline", "Quality", "Shop floor"]);
    for dashboard in dashboards.values() {
        let panels = dashboard["panels"].as_array().unwrap();
        let title = &panels[0]["title"];
        assert!(
            panels[0]["type"] == "row" && title.as_str().unwrap().ends_with('?'),
            "it begins with its question: {title}"
        );
        for panel in panels.iter().filter(|panel| panel["type"] != "row") {
            let defaults = &panel["fieldConfig"]["defaults"];
            for said in [&panel["title"], &panel["description"], &defaults["unit"], &defaults["noValue"]] {
                assert!(
                    said.as_str().is_some_and(|said| !said.is_empty()),
                    "{}: {panel:#}",
                    dashboard["title"]
                );
            }
        }
    }
}
