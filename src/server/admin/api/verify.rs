use http::{Response, StatusCode};
use serde_json::json;

use super::asked::Asked;
use super::{ApiBody, json};
use crate::cache::scrub::{self, Rate};
use crate::jobs::{Refused, RefusedCode, VerifyJobs};
use crate::mirror::Mirror;

/// The running pass, else the last one, else `null`.
pub(in crate::server) fn look(jobs: &VerifyJobs) -> Response<ApiBody> {
    json(StatusCode::OK, &json!({ "job": jobs.job() }))
}

/// Starts a pass at `rate`, or answers with the one that runs.
pub(in crate::server) async fn start(jobs: &VerifyJobs, asked: &Asked) -> Result<Response<ApiBody>, Refused> {
    match jobs.start(asked.parsed::<Rate>("rate")?).await {
        Some(started) if started.started => Ok(json(StatusCode::ACCEPTED, &started)),
        Some(joined) => Ok(json(StatusCode::OK, &joined)),
        None => Err(Refused::new(RefusedCode::Unavailable, "the server is shutting down")),
    }
}

/// Content that was found wrong and cannot be fetched again.
pub(in crate::server) async fn lost(mirror: &Mirror) -> Result<Response<ApiBody>, Refused> {
    Ok(json(StatusCode::OK, &json!({ "lost": scrub::lost(mirror.cache()).await? })))
}
