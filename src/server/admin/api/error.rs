//! Refusals as JSON: `{"error": {"code": …, "message": …}}`.

use http::header::WWW_AUTHENTICATE;
use http::{HeaderValue, Response, StatusCode};
use serde_json::json;

use super::{ApiBody, json};
use crate::jobs::{Refused, RefusedCode};

/// The answer to what is refused.
pub(in crate::server::admin) fn refuse(refused: &Refused) -> Response<ApiBody> {
    let Refused { code, message } = refused;
    let mut answer = json(status_of(*code), &json!({ "error": { "code": code.name(), "message": message } }));
    if *code == RefusedCode::Unauthorized {
        answer.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    answer
}

pub(in crate::server::admin) const fn status_of(code: RefusedCode) -> StatusCode {
    match code {
        RefusedCode::Invalid | RefusedCode::Ambiguous => StatusCode::BAD_REQUEST,
        RefusedCode::Unauthorized => StatusCode::UNAUTHORIZED,
        RefusedCode::Forbidden | RefusedCode::CrossSite => StatusCode::FORBIDDEN,
        RefusedCode::NotFound | RefusedCode::UnknownRegistry => StatusCode::NOT_FOUND,
        RefusedCode::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
        RefusedCode::Conflict | RefusedCode::Pinned => StatusCode::CONFLICT,
        RefusedCode::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        RefusedCode::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        RefusedCode::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
    }
}
