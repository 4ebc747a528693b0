//! Daily reports.

use axum::Json;
use axum::extract::State;
use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use stocktide_store::api::{self, ReportRow};
use stocktide_store::reports::{self, ReportsError};
use utoipa::{IntoParams, ToSchema};

use crate::answer::{Answer, Listed};
use crate::params::{Cursor, Day, Limit, Revision, page};
use crate::problem::Problem;
use crate::query::{PathOf, Query};
use crate::state::App;

/// Which reports are wanted.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ReportsQuery {
    /// Days at most.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 500, default = 100)]
    limit: Option<Limit>,
    /// What `next` of the page before said.
    #[param(value_type = Option<String>)]
    cursor: Option<Cursor<NaiveDate>>,
}

/// The days that have a report, the newest first.
#[utoipa::path(get, path = "/reports", tag = "reports", params(ReportsQuery),
    responses((status = 200, body = Listed<ReportRow>)))]
pub async fn list(State(app): State<App>, query: Query<ReportsQuery>) -> Answer<Listed<ReportRow>> {
    let page = page(query.0.limit, query.0.cursor);
    let rows = api::reports(&app.pool, &page).await?;
    Ok(Json(Listed::of(rows, page.limit, |row| row.report_date)))
}

/// Which revision is wanted.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ReportQuery {
    /// The revision; none: the last.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 2_147_483_647)]
    revision: Option<Revision>,
}

/// A day's report.
#[derive(Debug, Serialize, ToSchema)]
pub struct Report {
    /// The business day.
    report_date: NaiveDate,
    /// The revision, from 1.
    revision: u32,
    /// What it says, as in report.json (docs/report.schema.json).
    #[schema(value_type = Object)]
    figures: Value,
    /// SHA-256 of the figures.
    figures_sha256: String,
    /// The version of the program that wrote the files last.
    code_version: String,
    /// When this revision was recorded first.
    created_at: DateTime<Utc>,
}

/// One day's report.
#[utoipa::path(get, path = "/reports/{date}", tag = "reports",
    params(("date" = String, Path, description = "The business day, as YYYY-MM-DD", format = Date,
        pattern = "^(19|2[0-9])[0-9]{2}-[0-9]{2}-[0-9]{2}$"), ReportQuery),
    responses(
        (status = 200, body = Report),
        (status = 404, description = "The day has no report, or not that revision", body = Problem,
         content_type = "application/problem+json"),
    ))]
pub async fn one(State(app): State<App>, date: PathOf<Day>, query: Query<ReportQuery>) -> Answer<Report> {
    let date = date.0.0;
    let found = match query.0.revision {
        None => reports::latest(&app.pool, date).await,
        Some(revision) => reports::revision(&app.pool, date, revision.0).await,
    };
    let found = found.map_err(|error| match error {
        ReportsError::Database(error) => Problem::from(api::ReadError::from(error)),
        other => {
            tracing::error!("{other}");
            Problem::internal("the log says more")
        }
    })?;
    let missing = || match query.0.revision {
        None => Problem::not_found(format!("there is no report of {date}")),
        Some(revision) => {
            Problem::not_found(format!("there is no revision {} of {date}'s report", revision.0))
        }
    };
    let report = found.ok_or_else(missing)?;
    let figures =
        serde_json::to_value(&report.figures).map_err(|error| Problem::internal(error.to_string()))?;
    Ok(Json(Report {
        report_date: report.date,
        revision: report.revision,
        figures,
        figures_sha256: report.figures_sha256,
        code_version: report.code_version,
        created_at: report.created_at,
    }))
}
