//! Asks `access` about a request, where it is configured.

use http::header::CACHE_CONTROL;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method};

use crate::server::ListenerSettings;
use crate::server::access::{Access, Identified, Origin, Refusal};
use crate::server::request::route::Route;
use crate::server::response::answer::Answer;
use crate::server::response::error::WireError;
use crate::server::response::headers::{IMMUTABLE, PRIVATE_IMMUTABLE, PRIVATE_REVALIDATE, REVALIDATE};

/// Where the token server is, behind a mount.
const TOKEN_PATH: &str = "/token";

/// Whether a path is that of the token server.
pub(super) fn is_token_path(mounts: &[String], path: &str) -> bool {
    mounts.iter().any(|mount| path.strip_prefix(mount.as_str()) == Some(TOKEN_PATH))
}

/// How the client reached this server. What it says of the host comes back to nobody but itself.
pub(super) fn origin(
    listener: &ListenerSettings,
    host: Option<&str>,
    local: std::net::SocketAddr,
    parts: &Parts,
) -> Origin {
    let path = parts.uri.path();
    let host = host.and_then(|host| host.parse::<crate::oci::Authority>().ok());
    let mounts = || listener.mounts.iter().filter(|mount| path.starts_with(mount.as_str()));
    let route = Route::parse(&listener.mounts, path, parts.uri.query()).ok();
    let is_plain = |name: &String| {
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/._:-".contains(&byte))
    };
    Origin {
        scheme: if listener.tls.is_some() { "https" } else { "http" },
        host: host.map_or_else(|| local.to_string(), |host| host.to_string()),
        mount: mounts().max_by_key(|mount| mount.len()).cloned().unwrap_or_default(),
        name: route.map(|route| route.name).filter(is_plain),
    }
}

/// Answers a request for a token with one for who the client is.
pub(super) fn token(
    access: &Access,
    identified: Result<Identified, Refusal>,
    method: &Method,
    origin: impl FnOnce() -> Origin,
) -> Result<Answer, WireError> {
    // Clients that would rather POST take this for an older token server, and GET.
    if method != Method::GET {
        return Err(WireError::method_not_allowed());
    }
    let identified = identified.map_err(|refusal| access.answer_of_token_server(&refusal, &origin()))?;
    access.token(&identified).map(|token| Answer::token(&token)).ok_or_else(WireError::method_not_allowed)
}

/// What is not open to everybody is no matter for caches that others share.
pub(super) fn keep_private(headers: &mut HeaderMap) {
    let Some(said) = headers.get(CACHE_CONTROL) else { return };
    let private = [(IMMUTABLE, PRIVATE_IMMUTABLE), (REVALIDATE, PRIVATE_REVALIDATE)];
    if let Some((_, private)) = private.into_iter().find(|(public, _)| said == public) {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static(private));
    }
}
