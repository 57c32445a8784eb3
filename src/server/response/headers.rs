//! Headers of answers.

use std::fmt::Write as _;

use bytes::Bytes;
use http::header::{ACCEPT_RANGES, AGE, CACHE_CONTROL, CONTENT_TYPE, ETAG, WARNING, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use crate::mirror::{Outcome, Provenance};
use crate::oci::{Authority, Digest};

use crate::server::response::error::WireError;

const DOCKER_CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
const OCI_NAMESPACE: HeaderName = HeaderName::from_static("oci-namespace");
const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");

pub(in crate::server) const IMMUTABLE: &str = "public, max-age=31536000, immutable";
/// The same where not everybody may read it.
pub(in crate::server) const PRIVATE_IMMUTABLE: &str = "private, max-age=31536000, immutable";
/// A tag may move, so caches between client and mirror must revalidate.
pub(in crate::server) const REVALIDATE: &str = "no-cache";
/// The same, for one client alone.
pub(in crate::server) const PRIVATE_REVALIDATE: &str = "private, no-cache";

/// The headers of every answer, with capacity for the others.
pub(super) fn base_headers() -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(16);
    headers.insert(API_VERSION, HeaderValue::from_static("registry/2.0"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers
}

pub(in crate::server) fn request_headers(headers: &mut HeaderMap, ns: Option<&Authority>, request: &str) {
    // Both values are checked and always valid in a header.
    if let Ok(request) = HeaderValue::from_str(request) {
        headers.insert(REQUEST_ID, request);
    }
    if let Some(ns) = ns.and_then(|ns| HeaderValue::from_str(ns.as_str()).ok()) {
        headers.insert(OCI_NAMESPACE, ns);
    }
}

pub(in crate::server) fn etag(digest: &Digest) -> String {
    let mut etag = String::with_capacity(140);
    etag.push('"');
    // Writing to a `String` cannot fail.
    let _infallible = write!(etag, "{digest}");
    etag.push('"');
    etag
}

pub(super) fn content_headers(
    digest: &Digest,
    content_type: &str,
    caching: &'static str,
    provenance: &Provenance,
) -> Result<HeaderMap, WireError> {
    let mut headers = base_headers();
    // Both values share one allocation.
    let etag = Bytes::from(etag(digest));
    headers.insert(DOCKER_CONTENT_DIGEST, shared_value(etag.slice(1..etag.len().saturating_sub(1)))?);
    headers.insert(ETAG, shared_value(etag)?);
    headers.insert(CONTENT_TYPE, header_value(content_type)?);
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(caching));
    provenance_headers(&mut headers, provenance)?;
    Ok(headers)
}

pub(super) fn list_headers(content_type: &'static str, provenance: &Provenance) -> Result<HeaderMap, WireError> {
    let mut headers = base_headers();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(REVALIDATE));
    provenance_headers(&mut headers, provenance)?;
    Ok(headers)
}

/// `Cache-Status` (RFC 9211), `Age`, and a `Warning` on stale answers (distribution-spec: 299 without a date).
pub(super) fn provenance_headers(headers: &mut HeaderMap, provenance: &Provenance) -> Result<(), WireError> {
    let status = match provenance.outcome {
        Outcome::Hit => "roadstead; hit",
        Outcome::Alias => "roadstead; hit; detail=\"tag is an alias\"",
        Outcome::Pinned => "roadstead; hit; detail=\"tag pinned to this digest\"",
        Outcome::HeldBack => "roadstead; hit; detail=\"the newer digest is too young\"",
        Outcome::Revalidated => "roadstead; fwd=stale; fwd-status=304",
        Outcome::Fill => "roadstead; fwd=miss; stored",
        Outcome::Joined => "roadstead; fwd=miss; collapsed",
        Outcome::Unproven => "roadstead; fwd=bypass; detail=\"unproven\"",
        Outcome::Stale => "roadstead; hit; fwd=stale; detail=\"served stale\"",
    };
    headers.insert(CACHE_STATUS, HeaderValue::from_static(status));
    if let Some(age) = provenance.age {
        headers.insert(AGE, HeaderValue::from(age.as_secs()));
    }
    if let Some(because) = &provenance.stale_because {
        headers.insert(WARNING, header_value(&format!("299 - \"served stale: {}\"", quotable(because)))?);
    }
    if let Some(newer) = &provenance.held_back {
        let text = format!("299 - \"held back by min_age: the tag is now {}\"", quotable(newer));
        headers.append(WARNING, header_value(&text)?);
    }
    Ok(())
}

/// The text as the inside of a header's quoted string: visible ASCII, cut to a sensible length.
fn quotable(text: &str) -> String {
    text.chars().filter(|c| (c.is_ascii_graphic() || *c == ' ') && !matches!(c, '"' | '\\')).take(300).collect()
}

pub(super) fn header_value(text: &str) -> Result<HeaderValue, WireError> {
    HeaderValue::from_str(text).map_err(|_unprintable| unprintable())
}

fn shared_value(text: Bytes) -> Result<HeaderValue, WireError> {
    HeaderValue::from_maybe_shared(text).map_err(|_unprintable| unprintable())
}

fn unprintable() -> WireError {
    WireError::new(StatusCode::BAD_GATEWAY, None, "upstream sent what cannot stand in a header")
}
