//! The target of a redirect. https never turns into http (docs/SECURITY-THREATS.md, T3).

use http::header::LOCATION;
use http::{HeaderMap, StatusCode};
use url::Url;

use super::error::Failure;

pub(super) const fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

pub(super) fn target(from: &Url, headers: &HeaderMap) -> Result<Url, Failure> {
    let location = headers.get(LOCATION).and_then(|location| location.to_str().ok());
    let to = location.and_then(|location| from.join(location).ok());
    let to = to.ok_or_else(|| Failure::Refused("a redirect without a usable Location".to_owned()))?;
    if !to.username().is_empty() || to.password().is_some() {
        return Err(Failure::Refused("a redirect to a URL with a user name".to_owned()));
    }
    match (from.scheme(), to.scheme()) {
        (_, "https") | ("http", "http") => Ok(to),
        (_, scheme) => Err(Failure::Refused(format!("a redirect from {} to {scheme}", from.scheme()))),
    }
}
