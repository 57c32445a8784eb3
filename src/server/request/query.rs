//! What the query of a request says beside its path.

use crate::mirror::TagsQuery;
use crate::server::request::route::Route;
use crate::server::response::error::WireError;

pub(super) fn tags_query(route: &Route) -> Result<TagsQuery, WireError> {
    let mut query = TagsQuery::default();
    for (key, value) in &route.query {
        match key.as_str() {
            "ns" | "oci-ref-name" => {}
            "n" => {
                if value.is_empty() || !value.bytes().all(|b| b.is_ascii_digit()) {
                    let message = "`n` is a number of tags";
                    let code = crate::oci::ErrorCode::Unsupported;
                    return Err(WireError::new(http::StatusCode::BAD_REQUEST, code, message));
                }
                // A number beyond u32 is clamped like any other large one.
                query.n = Some(value.parse().unwrap_or(u32::MAX));
            }
            "last" => query.last = Some(value.clone()),
            _ => query.cursors.push((key.clone(), value.clone())),
        }
    }
    Ok(query)
}

/// The parameters that select the upstream. The link to the next page needs them too.
pub(super) fn claims_in(route: &Route) -> Vec<(String, String)> {
    route.query.iter().filter(|(key, _)| key == "ns" || key == "oci-ref-name").cloned().collect()
}
