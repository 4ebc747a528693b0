//! Runs of scheduled jobs.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use stocktide_store::api::{self, JobRun};
use utoipa::IntoParams;

use crate::answer::{Answer, Listed};
use crate::params::{Cursor, Id, Limit, State as RunState, page};
use crate::query::Query;
use crate::state::App;

/// Which runs are wanted.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct RunsQuery {
    /// Rows at most.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 500, default = 100)]
    limit: Option<Limit>,
    /// What `next` of the page before said.
    #[param(value_type = Option<String>)]
    cursor: Option<Cursor<i64>>,
    /// Of this job only.
    #[param(value_type = Option<String>, min_length = 1, max_length = 256)]
    job: Option<Id>,
    /// In this state only: queued, running, succeeded or failed.
    #[param(value_type = Option<String>, pattern = "^(queued|running|succeeded|failed)$")]
    state: Option<RunState>,
}

/// What ran, what failed and why; what was asked for last comes first.
#[utoipa::path(get, path = "/jobs/runs", tag = "jobs", params(RunsQuery), responses((status = 200, body = Listed<JobRun>)))]
pub async fn runs(State(app): State<App>, query: Query<RunsQuery>) -> Answer<Listed<JobRun>> {
    let RunsQuery { limit, cursor, job, state } = query.0;
    let page = page(limit, cursor);
    let job = job.as_ref().map(|id| id.0.as_str());
    let rows = api::job_runs(&app.pool, job, state.map(|state| state.0), &page).await?;
    Ok(Json(Listed::of(rows, page.limit, |row| row.run_id)))
}
