//! Jobs: those that run, what became of their items, and how to end one.

use http::{Response, StatusCode};
use serde_json::json;

use super::asked::Asked;
use super::{ApiBody, json};
use crate::jobs::{JobRunner, NoJob, Refused, RefusedCode, RunningJob};

/// Most results in one answer.
const MAX_ITEMS: usize = 1000;

/// All that run, and the last ones that have ended.
pub(super) fn list(runner: &JobRunner) -> Response<ApiBody> {
    json(StatusCode::OK, &json!({ "jobs": runner.jobs().list() }))
}

/// One job, and the results behind the first `skip`.
pub(super) fn look(runner: &JobRunner, asked: &Asked) -> Result<Response<ApiBody>, Refused> {
    let job = find(runner, asked)?;
    let skip = asked.parsed::<u32>("skip")?.unwrap_or(0);
    let limit = asked.parsed::<usize>("limit")?.unwrap_or(MAX_ITEMS);
    if !(1..=MAX_ITEMS).contains(&limit) {
        return Err(Refused::invalid(format!("limit: it is between 1 and {MAX_ITEMS}")));
    }
    // In this order: a job that has ended has all its results.
    let report = job.report();
    Ok(json(StatusCode::OK, &json!({ "job": report, "items": job.items(skip as usize, limit) })))
}

/// Ends a job soon. One that has ended stays as it is.
pub(super) fn cancel(runner: &JobRunner, asked: &Asked) -> Result<Response<ApiBody>, Refused> {
    let job = find(runner, asked)?;
    job.cancel();
    Ok(json(StatusCode::ACCEPTED, &json!({ "job": job.report() })))
}

pub(super) fn started(job: Result<std::sync::Arc<RunningJob>, NoJob>) -> Result<Response<ApiBody>, Refused> {
    Ok(json(StatusCode::ACCEPTED, &json!({ "job": job.map_err(refusal)?.report() })))
}

pub(super) fn refusal(none: NoJob) -> Refused {
    let code = match none {
        NoJob::Stopping => RefusedCode::Unavailable,
        NoJob::TooMany => RefusedCode::Conflict,
    };
    Refused::new(code, none)
}

fn find(runner: &JobRunner, asked: &Asked) -> Result<std::sync::Arc<RunningJob>, Refused> {
    runner.jobs().get(&asked.id).ok_or_else(|| Refused::not_found("there is no job of this id; `jobs` lists them"))
}
