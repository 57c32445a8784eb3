use std::sync::Arc;

use http::{Response, StatusCode};
use serde_json::json;

use super::asked::Asked;
use super::{ApiBody, json};
use crate::jobs::{self, PinEntry, Refused};
use crate::mirror::Mirror;

/// All pins, and which of them the configuration made.
pub(in crate::server) async fn list(mirror: &Arc<Mirror>) -> Result<Response<ApiBody>, Refused> {
    Ok(answer(&jobs::list_pins(mirror).await?))
}

/// Adds every `pin` of the query, or none if one is invalid. Existing pins stay.
pub(in crate::server) async fn add(mirror: &Arc<Mirror>, asked: &Asked) -> Result<Response<ApiBody>, Refused> {
    Ok(answer(&jobs::add_pins(mirror, &asked.texts("pin")).await?))
}

/// Removes every `pin` of the query, or none if one of them does not exist.
pub(in crate::server) async fn remove(mirror: &Arc<Mirror>, asked: &Asked) -> Result<Response<ApiBody>, Refused> {
    Ok(answer(&jobs::remove_pins(mirror, &asked.texts("pin")).await?))
}

fn answer(pins: &[PinEntry]) -> Response<ApiBody> {
    json(StatusCode::OK, &json!({ "pins": pins }))
}
