use http::{Response, StatusCode};
use serde_json::json;

use super::{ApiBody, json, refuse};
use crate::cache::retention::Pin;
use crate::jobs::{self, PinRefused};
use crate::mirror::Mirror;

/// All pins, and which of them the configuration made.
pub(in crate::server) async fn list(mirror: &Mirror) -> Response<ApiBody> {
    answer(jobs::list_pins(mirror).await.map_err(PinRefused::Index))
}

/// Adds every `pin` of the query, or none if one is invalid. Existing pins stay.
pub(in crate::server) async fn add(mirror: &Mirror, query: &[(String, String)]) -> Response<ApiBody> {
    answer(jobs::add_pins(mirror, &patterns(query)).await)
}

/// Removes every `pin` of the query, or none if one of them does not exist.
pub(in crate::server) async fn remove(mirror: &Mirror, query: &[(String, String)]) -> Response<ApiBody> {
    answer(jobs::remove_pins(mirror, &patterns(query)).await)
}

fn patterns(query: &[(String, String)]) -> Vec<String> {
    query.iter().filter(|(key, _)| key == "pin").map(|(_, text)| text.clone()).collect()
}

fn answer(done: Result<Vec<Pin>, PinRefused>) -> Response<ApiBody> {
    let err = match done {
        Ok(pins) => return json(StatusCode::OK, &json!({ "pins": pins })),
        Err(err) => err,
    };
    let status = match err {
        PinRefused::None | PinRefused::TooMany | PinRefused::Invalid { .. } => StatusCode::BAD_REQUEST,
        PinRefused::Unknown(_) => StatusCode::NOT_FOUND,
        PinRefused::Configured(_) => StatusCode::CONFLICT,
        PinRefused::Index(_) => StatusCode::SERVICE_UNAVAILABLE,
    };
    refuse(status, &err.to_string())
}
