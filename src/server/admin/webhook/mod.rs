//! `POST /webhook`: a registry tells that tags have moved. It can do no more than have them checked at their next pull.

mod payload;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, AUTHORIZATION};
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use ring::hmac;
use serde_json::json;

use super::api::{ApiBody, json, refuse};
use super::is_same;
use crate::jobs::change::moved;
use crate::jobs::{JobOutcome, Refused, RefusedCode};
use crate::mirror::Mirror;
use crate::oci::Authority;

pub(super) const PATH: &str = "/webhook";
/// Largest body. Bytes.
const MAX_BODY: usize = 256 * 1024;
/// Longest time for a body to come.
const BODY_DEADLINE: Duration = Duration::from_secs(10);

/// Reads a notification, and has the tags that it names checked at their next pull.
pub(super) async fn answer(
    mirror: &Arc<Mirror>,
    token_file: &Path,
    request: Request<Incoming>,
) -> Result<Response<ApiBody>, Refused> {
    if request.method() != Method::POST {
        let mut refused = refuse(&Refused::new(RefusedCode::MethodNotAllowed, "it takes POST"));
        refused.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
        return Ok(refused);
    }
    let token = tokio::fs::read_to_string(token_file).await.unwrap_or_default();
    let token = token.trim().as_bytes();
    let (head, body) = request.into_parts();
    let shown = Shown::of(&head);
    if !shown.may_have(token) {
        return Err(shown.refused());
    }
    let whole = tokio::time::timeout(BODY_DEADLINE, Limited::new(body, MAX_BODY).collect()).await;
    let whole = whole.map_err(|_late| Refused::invalid("the body does not come"))?;
    let body = whole
        .map_err(|_cut| {
            Refused::new(RefusedCode::TooLarge, format!("the body is cut, or longer than {MAX_BODY} bytes"))
        })?
        .to_bytes();
    if !shown.has(token, &body) {
        return Err(shown.refused());
    }
    let registry = shown.registry.map(|name| name.parse::<Authority>()).transpose();
    let registry = registry.map_err(|err| Refused::invalid(format!("registry: {err}")))?;
    let names = payload::moved_tags(&body, registry.as_ref())?;
    let items = moved(mirror, &names).await;
    let expired = items.iter().filter(|item| item.outcome == JobOutcome::Done).count();
    tracing::info!(
        tags = names.len(),
        expired,
        "a registry tells that tags have moved; they are checked at their next pull"
    );
    Ok(json(StatusCode::OK, &json!({ "items": items })))
}

/// What a registry shows of itself. Some can set a header, some sign, some have only the URL.
struct Shown {
    token: Option<String>,
    /// HMAC-SHA256 of the body, with the token as its key (`X-Hub-Signature-256`).
    signature: Option<String>,
    /// The registry that the notification is about.
    registry: Option<String>,
}

impl Shown {
    fn of(head: &Parts) -> Self {
        let text = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
        let query: Vec<(String, String)> =
            url::form_urlencoded::parse(head.uri.query().unwrap_or_default().as_bytes()).into_owned().collect();
        let queried = |key: &str| query.iter().find(|(name, _)| name == key).map(|(_, value)| value.clone());
        let header = text(AUTHORIZATION.as_str());
        let header = header.map(|value| value.strip_prefix("Bearer ").unwrap_or(value).trim().to_owned());
        let signature = text("x-hub-signature-256").and_then(|value| value.strip_prefix("sha256="));
        Self {
            token: header.or_else(|| queried("token")),
            signature: signature.map(str::to_ascii_lowercase),
            registry: queried("registry"),
        }
    }

    /// Whether the body is worth reading.
    fn may_have(&self, token: &[u8]) -> bool {
        !token.is_empty() && (self.signature.is_some() || self.has_token(token))
    }

    fn has(&self, token: &[u8], body: &Bytes) -> bool {
        match &self.signature {
            Some(signature) => {
                let right = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, token), body);
                let right = right.as_ref().iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
                is_same(signature.as_bytes(), right.as_bytes())
            }
            None => self.has_token(token),
        }
    }

    fn has_token(&self, token: &[u8]) -> bool {
        self.token.as_ref().is_some_and(|shown| is_same(shown.as_bytes(), token))
    }

    fn refused(&self) -> Refused {
        let is_silent = self.token.is_none() && self.signature.is_none();
        let code = if is_silent { RefusedCode::Unauthorized } else { RefusedCode::Forbidden };
        let why = "this needs what is in `server.webhook_token_file`: as `Authorization: Bearer`, as `?token=`, or as the \
                   key of `X-Hub-Signature-256`";
        Refused::new(code, why)
    }
}
