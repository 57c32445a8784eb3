use std::sync::Arc;

use http::{Response, StatusCode};
use serde_json::json;

use super::asked::Asked;
use super::{ApiBody, json};
use crate::jobs::{self, BlockEntry, Refused};
use crate::mirror::Mirror;

/// All blocks.
pub(in crate::server) async fn list(mirror: &Arc<Mirror>) -> Result<Response<ApiBody>, Refused> {
    Ok(answer(&jobs::list_blocks(mirror).await?))
}

/// Makes every `block` of the query, or none if one is invalid. One that is there gets the new reason.
pub(in crate::server) async fn add(mirror: &Arc<Mirror>, asked: &Asked) -> Result<Response<ApiBody>, Refused> {
    Ok(answer(&jobs::add_blocks(mirror, &asked.texts("block"), asked.text("reason")).await?))
}

/// Takes back every `block` of the query, or none if one of them does not exist.
pub(in crate::server) async fn remove(mirror: &Arc<Mirror>, asked: &Asked) -> Result<Response<ApiBody>, Refused> {
    Ok(answer(&jobs::remove_blocks(mirror, &asked.texts("block")).await?))
}

fn answer(blocks: &[BlockEntry]) -> Response<ApiBody> {
    json(StatusCode::OK, &json!({ "blocks": blocks }))
}
