//! `stocktide report`: what was recorded is shown, and what is kept is fetched, from a directory and from S3.

use std::path::Path;

use crate::command::{Outcome, run, stocktide};
use crate::s3::S3Server;
use crate::sample::{HOSTILE, figures, money};
use sqlx::PgPool;
use stocktide_devstack::{Stack, StackOptions};
use stocktide_domain::report::Figures;
use stocktide_reports::{RenderContext, Storage, StorageOptions, figures_sha256, render};
use stocktide_store::migrate;
use stocktide_store::reports::{NewReport, plan, record};

/// A database, and a place for files.
struct Shop {
    stack: Stack,
    pool: PgPool,
    url: String,
    settings: Vec<(String, String)>,
}

impl Shop {
    async fn open(url: String, settings: Vec<(String, String)>) -> Shop {
        let stack = Stack::start(StackOptions { kafka: false, ..StackOptions::default() }).await.unwrap();
        migrate::run(&stack.database_url(), "GBP", "Europe/London").await.unwrap();
        let pool = PgPool::connect(&stack.database_url()).await.unwrap();
        Shop { stack, pool, url, settings }
    }

    /// Makes a report of these figures, as its job does.
    async fn report(&self, figures: &Figures) -> Vec<&'static str> {
        let date = figures.day.date;
        let digest = figures_sha256(figures).unwrap();
        let plan = plan(&self.pool, date, &digest).await.unwrap();
        let context = RenderContext {
            revision: plan.revision,
            code_version: "0.1.0".to_owned(),
            previous: plan.previous,
        };
        let files = render(figures, &context).unwrap();
        let options = StorageOptions { settings: self.settings.clone(), ..StorageOptions::default() };
        let storage = Storage::open(&self.url, &options).unwrap();
        let put = storage.put_report(date, &files).await.unwrap();
        let new = NewReport {
            revision: plan.revision,
            figures,
            figures_sha256: &digest,
            code_version: "0.1.0",
            place: &storage.report_place(date),
            seen: None,
            now: "2011-03-28T05:00:00Z".parse().unwrap(),
        };
        record(&self.pool, &new).await.unwrap();
        put.written
    }

    fn stocktide(&self, args: &[&str]) -> Outcome {
        let mut command = stocktide(args);
        command.env("STOCKTIDE_DATABASE_URL", self.stack.database_url());
        command.env("STOCKTIDE_REPORTS_URL", &self.url).env("STOCKTIDE_BUSINESS_TIMEZONE", "Europe/London");
        for (name, value) in &self.settings {
            command.env(name, value);
        }
        run(&mut command)
    }
}

const DAY: &str = "daily_report/date=2011-03-27";

fn digests(outcome: &Outcome) -> Vec<String> {
    let files = outcome.documents()[0]["files"].as_array().unwrap().clone();
    files.iter().map(|file| file["sha256"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_report_is_shown_in_words_and_as_json_revision_by_revision() {
    let place = tempfile::tempdir().unwrap();
    let shop = Shop::open(format!("file://{}", place.path().display()), Vec::new()).await;
    let none = shop.stocktide(&["report", "show"]);
    assert_eq!((none.code, none.complaint().starts_with("there is no report yet")), (1, true));

    let first = figures("Tea");
    assert_eq!(shop.report(&first).await.len(), 7);
    assert!(shop.report(&first).await.is_empty(), "the same report was written twice");
    let shown = shop.stocktide(&["report", "show"]).done().stdout;
    insta::assert_snapshot!(shown.replace(&place.path().display().to_string(), "PLACE"));

    let mut second = first.clone();
    second.sales.total.gross = money("1234570.00");
    shop.report(&second).await;
    let revised = shop.stocktide(&["report", "show", "2011-03-27"]).done().stdout;
    let why = "\nRevision 2: the ledger, the catalogue or the report's settings changed. 1 figure differs from revision 1.\n  \
               sales · total · gross: from 1234567.895 to 1234570.00\n";
    assert!(revised.contains(why), "{revised}");
    let json = |args: &[&str]| shop.stocktide(args).done().documents().remove(0);
    let latest = json(&["report", "show", "2011-03-27", "--json"]);
    assert_eq!((&latest["revision"], &latest["sales"]["total"]["gross"]), (&2.into(), &"1234570.00".into()));
    let earlier = json(&["report", "show", "2011-03-27", "--revision", "1", "--json"]);
    assert_eq!(
        (&earlier["revision"], &earlier["sales"]["total"]["gross"]),
        (&1.into(), &"1234567.895".into())
    );
    let stored = std::fs::read(place.path().join(DAY).join("report.json")).unwrap();
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&stored).unwrap(), latest);
}

#[tokio::test]
async fn a_report_is_fetched_with_equal_digests_from_a_directory_and_from_s3() {
    let place = tempfile::tempdir().unwrap();
    let server = S3Server::start(&["shop"]);
    let in_directory = Shop::open(format!("file://{}", place.path().display()), Vec::new()).await;
    let in_s3 = Shop::open("s3://shop/nightly".to_owned(), server.settings()).await;
    let mut fetched = Vec::new();
    for shop in [&in_directory, &in_s3] {
        shop.report(&figures(HOSTILE)).await;
        let target = tempfile::tempdir().unwrap();
        let to = target.path().to_str().unwrap();
        let outcome = shop.stocktide(&["report", "fetch", "2011-03-27", "--to", to, "--json"]).done();
        fetched.push(digests(&outcome));
        for file in std::fs::read_dir(target.path().join(DAY)).unwrap() {
            let file = file.unwrap();
            let kept = place.path().join(DAY).join(file.file_name());
            assert_eq!(std::fs::read(file.path()).unwrap(), std::fs::read(kept).unwrap(), "{file:?}");
        }
        assert_eq!(std::fs::read_dir(target.path().join(DAY)).unwrap().count(), 7);
    }
    assert_eq!((fetched[0].len(), &fetched[0]), (6, &fetched[1]));
}

#[tokio::test]
async fn what_cannot_be_shown_or_fetched_is_told_in_one_line() {
    let server = S3Server::start(&["shop"]);
    let mut shop = Shop::open("s3://shop/nightly".to_owned(), server.settings()).await;
    shop.report(&figures("Tea")).await;
    let complaint = |shop: &Shop, args: &[&str]| {
        let outcome = shop.stocktide(args);
        (outcome.code, outcome.complaint().to_owned())
    };
    for command in ["show", "fetch"] {
        let (code, line) = complaint(&shop, &["report", command, "2999-01-01"]);
        assert_eq!(code, 2);
        assert!(
            line.starts_with("2999-01-01 is not over yet in Europe/London; allowed: dates up to 2"),
            "{line}"
        );
        let (code, line) = complaint(&shop, &["report", command, "yesterday"]);
        assert!(code == 2 && line.contains("allowed: a date like 2011-03-27"), "{line}");
        let (code, line) = complaint(&shop, &["report", command, "2011-03-26"]);
        assert!(code == 1 && line.starts_with("there is no report"), "{line}");
    }
    let (code, line) = complaint(&shop, &["report", "show", "2011-03-27", "--revision", "9"]);
    assert_eq!((code, line.as_str()), (1, "there is no revision 9 of the report of 2011-03-27"));

    // A file that was changed where it is kept.
    let sales = server.object("shop", &format!("nightly/{DAY}/sales.csv"));
    std::fs::write(&sales, "gross\r\n0.00\r\n").unwrap();
    let target = tempfile::tempdir().unwrap();
    let to = target.path().to_str().unwrap();
    let (code, line) = complaint(&shop, &["report", "fetch", "2011-03-27", "--to", to]);
    assert_eq!(
        (code, line),
        (1, format!("s3://shop/nightly/{DAY}/sales.csv differs from its manifest; make the report again"))
    );
    assert!(is_empty(target.path()));

    // A manifest that names a file outside the report.
    let manifest = server.object("shop", &format!("nightly/{DAY}/manifest.json"));
    let text = std::fs::read_to_string(&manifest).unwrap().replace("sales.csv", "../../../sales.csv");
    std::fs::write(&manifest, text).unwrap();
    let (code, line) = complaint(&shop, &["report", "fetch", "2011-03-27", "--to", to]);
    assert!(code == 1 && line.contains("which is no file of a report"), "{line}");
    assert!(is_empty(target.path()));

    shop.settings = server.settings_with("AWS_SECRET_ACCESS_KEY", "not-the-secret");
    let (code, line) = complaint(&shop, &["report", "fetch", "2011-03-27", "--to", to]);
    assert!(
        code == 1 && line.starts_with("s3://shop/nightly refuses access: SignatureDoesNotMatch"),
        "{line}"
    );
    shop.url = "s3://elsewhere".to_owned();
    shop.settings = server.settings();
    let (code, line) = complaint(&shop, &["report", "fetch", "2011-03-27", "--to", to]);
    assert!(code == 1 && line.starts_with("s3://elsewhere: there is no such bucket"), "{line}");
}

fn is_empty(directory: &Path) -> bool {
    std::fs::read_dir(directory).unwrap().next().is_none()
}
