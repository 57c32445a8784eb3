use http::{Response, StatusCode};
use serde_json::json;

use super::{ApiBody, json, refuse, unreadable};
use crate::cache::scrub::{self, Rate};
use crate::jobs::VerifyJobs;
use crate::mirror::Mirror;

/// The running pass, else the last one, else `null`.
pub(in crate::server) fn look(jobs: &VerifyJobs) -> Response<ApiBody> {
    json(StatusCode::OK, &json!({ "job": jobs.job() }))
}

/// Starts a pass at `rate`, or answers with the one that runs.
pub(in crate::server) async fn start(jobs: &VerifyJobs, query: &[(String, String)]) -> Response<ApiBody> {
    let rate = query.iter().find(|(key, _)| key == "rate").map(|(_, rate)| rate.parse::<Rate>());
    let rate = match rate.transpose() {
        Ok(rate) => rate,
        Err(err) => return refuse(StatusCode::BAD_REQUEST, &format!("rate: {err}")),
    };
    match jobs.start(rate).await {
        Some(started) if started.started => json(StatusCode::ACCEPTED, &started),
        Some(joined) => json(StatusCode::OK, &joined),
        None => refuse(StatusCode::SERVICE_UNAVAILABLE, "the server is shutting down"),
    }
}

/// Content that was found wrong and cannot be fetched again.
pub(in crate::server) async fn lost(mirror: &Mirror) -> Response<ApiBody> {
    match scrub::lost(mirror.cache()).await {
        Ok(lost) => json(StatusCode::OK, &json!({ "lost": lost })),
        Err(err) => unreadable(&err),
    }
}
