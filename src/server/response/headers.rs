//! Status and headers of answers.

use std::fmt::Write as _;
use std::sync::{PoisonError, RwLock};

use bytes::Bytes;
use http::header::{
    ACCEPT_RANGES, AGE, ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_NONE_MATCH,
    IF_RANGE, LINK, RANGE, RETRY_AFTER, WARNING, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};

use crate::fill::BlobSource;
use crate::mirror::{BlobAnswer, ManifestAnswer, Outcome, Provenance, ReferrersAnswer, TagsAnswer};
use crate::oci::{Authority, Digest, MediaType, RangeHeader, Repository};

use crate::server::request::conditional;
use crate::server::response::body::Body;
use crate::server::response::error::WireError;

const DOCKER_CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
const OCI_NAMESPACE: HeaderName = HeaderName::from_static("oci-namespace");
const OCI_FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");
const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");

const IMMUTABLE: &str = "public, max-age=31536000, immutable";
/// A tag may move, so caches between client and mirror must revalidate.
const REVALIDATE: &str = "no-cache";

/// A successful response before it is sent.
pub(in crate::server) struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    /// The body of a GET. HEAD answers with its length only.
    body: Payload,
    provenance: Provenance,
}

enum Payload {
    None,
    Bytes(Bytes),
    Blob { source: BlobSource, range: std::ops::Range<u64> },
}

/// The link to the next page of a list.
pub(in crate::server) struct Link {
    /// The path as the client requested it, mount included.
    pub(in crate::server) path: String,
    pub(in crate::server) query: Option<String>,
    /// Parameters that select the upstream.
    pub(in crate::server) kept: Vec<(String, String)>,
}

impl Answer {
    pub(in crate::server) fn ping() -> Self {
        let mut headers = base_headers();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let provenance = Provenance { outcome: Outcome::Hit, age: None, stale_because: None };
        Self { status: StatusCode::OK, headers, body: Payload::Bytes(Bytes::from_static(b"{}")), provenance }
    }

    pub(in crate::server) fn provenance(&self) -> &Provenance {
        &self.provenance
    }

    pub(in crate::server) fn into_response(self, method: &Method) -> Response<Body> {
        let length = match &self.body {
            Payload::None => None,
            Payload::Bytes(bytes) => Some(bytes.len() as u64),
            Payload::Blob { range, .. } => Some(range.end - range.start),
        };
        let body = match self.body {
            _ if method == Method::HEAD => Body::empty(),
            Payload::None => Body::empty(),
            Payload::Bytes(bytes) => Body::bytes(bytes),
            Payload::Blob { source, range } => {
                let length = range.end - range.start;
                Body::reader(source.reader(range), length)
            }
        };
        let mut response = Response::new(body);
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        // A 304 has no `Content-Length`.
        if let Some(length) = length {
            response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
        response
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

pub(in crate::server) fn manifest(
    manifest: ManifestAnswer,
    by_tag: bool,
    ready: &CachedHeaders,
    request: &HeaderMap,
    method: &Method,
) -> Result<Answer, WireError> {
    let ManifestAnswer { digest, media_type, bytes, provenance } = manifest;
    let caching = if by_tag { REVALIDATE } else { IMMUTABLE };
    let headers = ready.headers(&digest, media_type.as_str(), caching, &provenance)?;
    let whole = 0..bytes.len() as u64;
    let size = whole.end;
    ranged(headers, provenance, &digest, size, request, method, |range| Payload::Bytes(slice(&bytes, &range)))
}

fn slice(bytes: &Bytes, range: &std::ops::Range<u64>) -> Bytes {
    let within = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
    bytes.slice(within(range.start)..within(range.end))
}

pub(in crate::server) fn blob(
    blob: BlobAnswer,
    ready: &CachedHeaders,
    request: &HeaderMap,
    method: &Method,
) -> Result<Answer, WireError> {
    let BlobAnswer { digest, size_bytes, source, provenance } = blob;
    let headers = ready.headers(&digest, MediaType::OCTET_STREAM, IMMUTABLE, &provenance)?;
    ranged(headers, provenance, &digest, size_bytes, request, method, |range| match source {
        // A body in one piece goes out in one write with the headers.
        BlobSource::Memory(bytes) => Payload::Bytes(slice(&bytes, &range)),
        source
        @ (BlobSource::Nothing | BlobSource::Stored(_) | BlobSource::Filling(_) | BlobSource::PassThrough(_)) => {
            Payload::Blob { source, range }
        }
    })
}

/// Answers 304, 206, 416 or 200 by `If-None-Match`, `If-Range` and `Range`. HEAD ignores `Range`.
fn ranged(
    mut headers: HeaderMap,
    provenance: Provenance,
    digest: &Digest,
    size_bytes: u64,
    request: &HeaderMap,
    method: &Method,
    payload: impl FnOnce(std::ops::Range<u64>) -> Payload,
) -> Result<Answer, WireError> {
    let has = |name| request.contains_key(name);
    if !(has(IF_NONE_MATCH) || has(IF_RANGE) || has(RANGE)) {
        return Ok(Answer { status: StatusCode::OK, headers, body: payload(0..size_bytes), provenance });
    }
    let etag = etag(digest);
    if conditional::is_not_modified(request, &etag) {
        headers.remove(CONTENT_TYPE);
        return Ok(Answer { status: StatusCode::NOT_MODIFIED, headers, body: Payload::None, provenance });
    }
    let asked = if method == Method::HEAD { RangeHeader::Ignored } else { conditional::range(request, &etag) };
    match asked {
        RangeHeader::Ignored => {
            Ok(Answer { status: StatusCode::OK, headers, body: payload(0..size_bytes), provenance })
        }
        RangeHeader::Several => Err(WireError::several_ranges()),
        RangeHeader::One(range) => {
            let (status, body, content_range) = match range.within(size_bytes) {
                Ok(range) => {
                    let last = range.end.saturating_sub(1);
                    let content_range = format!("bytes {}-{last}/{size_bytes}", range.start);
                    (StatusCode::PARTIAL_CONTENT, payload(range), content_range)
                }
                Err(_unsatisfiable) => {
                    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
                    // The content is immutable, but this refusal is not: caches in between must not keep it.
                    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
                    let body = error_body(&WireError::range_not_satisfiable(), "");
                    (StatusCode::RANGE_NOT_SATISFIABLE, Payload::Bytes(body), format!("bytes */{size_bytes}"))
                }
            };
            headers.insert(CONTENT_RANGE, header_value(&content_range)?);
            Ok(Answer { status, headers, body, provenance })
        }
    }
}

pub(in crate::server) fn tags(tags: TagsAnswer, repository: &Repository, link: &Link) -> Result<Answer, WireError> {
    let body = serde_json::json!({ "name": repository.as_str(), "tags": tags.tags });
    let mut headers = list_headers("application/json", &tags.provenance)?;
    if let Some(next) = &link.query {
        let pairs = url::form_urlencoded::parse(next.as_bytes());
        let cursor = pairs.filter(|(key, _)| key != "ns" && key != "oci-ref-name");
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(cursor).extend_pairs(&link.kept);
        headers.insert(LINK, header_value(&format!("<{}?{}>; rel=\"next\"", link.path, query.finish()))?);
    }
    let body = Payload::Bytes(body.to_string().into());
    Ok(Answer { status: StatusCode::OK, headers, body, provenance: tags.provenance })
}

pub(in crate::server) fn referrers(referrers: &ReferrersAnswer, filtered: bool) -> Result<Answer, WireError> {
    let body = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": MediaType::OCI_INDEX,
        "manifests": referrers.descriptors,
    });
    let mut headers = list_headers(MediaType::OCI_INDEX, &referrers.provenance)?;
    if filtered {
        headers.insert(OCI_FILTERS_APPLIED, HeaderValue::from_static("artifactType"));
    }
    let (body, provenance) = (Payload::Bytes(body.to_string().into()), referrers.provenance.clone());
    Ok(Answer { status: StatusCode::OK, headers, body, provenance })
}

/// The headers of a hit on one target, kept from the previous hit.
#[derive(Debug, Default)]
pub(in crate::server) struct CachedHeaders {
    made: RwLock<Option<HeaderParts>>,
}

#[derive(Debug)]
struct HeaderParts {
    /// A tag can move, so its headers are kept with the digest that they are for.
    digest: Digest,
    content_type: String,
    headers: HeaderMap,
}

impl CachedHeaders {
    fn headers(
        &self,
        digest: &Digest,
        content_type: &str,
        caching: &'static str,
        provenance: &Provenance,
    ) -> Result<HeaderMap, WireError> {
        if provenance.outcome != Outcome::Hit {
            return content_headers(digest, content_type, caching, provenance);
        }
        let made = self.made.read().unwrap_or_else(PoisonError::into_inner);
        let same = made.as_ref().filter(|made| made.digest == *digest && made.content_type == content_type);
        let ready = same.map(|made| made.headers.clone());
        drop(made);
        if let Some(mut headers) = ready {
            provenance_headers(&mut headers, provenance)?;
            return Ok(headers);
        }
        let headers = content_headers(digest, content_type, caching, provenance)?;
        let mut timeless = headers.clone();
        timeless.remove(AGE);
        let made = HeaderParts { digest: *digest, content_type: content_type.to_owned(), headers: timeless };
        *self.made.write().unwrap_or_else(PoisonError::into_inner) = Some(made);
        Ok(headers)
    }
}

fn content_headers(
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

fn list_headers(content_type: &'static str, provenance: &Provenance) -> Result<HeaderMap, WireError> {
    let mut headers = base_headers();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(REVALIDATE));
    provenance_headers(&mut headers, provenance)?;
    Ok(headers)
}

/// `Cache-Status` (RFC 9211), `Age`, and a `Warning` on stale answers (distribution-spec: 299 without a date).
fn provenance_headers(headers: &mut HeaderMap, provenance: &Provenance) -> Result<(), WireError> {
    let status = match provenance.outcome {
        Outcome::Hit => "roadstead; hit",
        Outcome::Revalidated => "roadstead; fwd=stale; fwd-status=304",
        Outcome::Fill => "roadstead; fwd=miss; stored",
        Outcome::Joined => "roadstead; fwd=miss; collapsed",
        Outcome::Stale => "roadstead; hit; fwd=stale; detail=\"served stale\"",
    };
    headers.insert(CACHE_STATUS, HeaderValue::from_static(status));
    if let Some(age) = provenance.age {
        headers.insert(AGE, HeaderValue::from(age.as_secs()));
    }
    if let Some(because) = &provenance.stale_because {
        headers.insert(WARNING, header_value(&format!("299 - \"served stale: {}\"", quotable(because)))?);
    }
    Ok(())
}

/// The text as the inside of a header's quoted string: visible ASCII, cut to a sensible length.
fn quotable(text: &str) -> String {
    text.chars().filter(|c| (c.is_ascii_graphic() || *c == ' ') && !matches!(c, '"' | '\\')).take(300).collect()
}

fn header_value(text: &str) -> Result<HeaderValue, WireError> {
    HeaderValue::from_str(text).map_err(|_unprintable| unprintable())
}

fn shared_value(text: Bytes) -> Result<HeaderValue, WireError> {
    HeaderValue::from_maybe_shared(text).map_err(|_unprintable| unprintable())
}

fn unprintable() -> WireError {
    WireError::new(StatusCode::BAD_GATEWAY, None, "upstream sent what cannot stand in a header")
}

pub(in crate::server) fn error(error: &WireError, request: &str, method: &Method) -> Response<Body> {
    let bytes = error_body(error, request);
    let length = HeaderValue::from(bytes.len());
    let mut response = Response::new(if method == Method::HEAD { Body::empty() } else { Body::bytes(bytes) });
    *response.status_mut() = error.status;
    *response.headers_mut() = base_headers();
    let headers = response.headers_mut();
    headers.insert(CONTENT_LENGTH, length);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if error.status == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    if let Some(wait) = error.retry_after {
        headers.insert(RETRY_AFTER, HeaderValue::from(wait.as_secs().max(1)));
    }
    response
}

/// An error body as in distribution-spec. A 5xx carries the request id instead of an error code of the spec.
fn error_body(error: &WireError, request: &str) -> Bytes {
    let code = error.code.map_or("UNKNOWN", crate::oci::ErrorCode::as_str);
    let mut entry = serde_json::json!({ "code": code, "message": error.message });
    if error.status.is_server_error()
        && let Some(entry) = entry.as_object_mut()
    {
        entry.insert("detail".to_owned(), serde_json::json!({ "request": request }));
    }
    serde_json::json!({ "errors": [entry] }).to_string().into()
}

/// The headers of every answer, with capacity for the others.
fn base_headers() -> HeaderMap {
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
