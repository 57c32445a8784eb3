//! Answers: status, headers and body of what the mirror found.

use bytes::Bytes;
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, IF_NONE_MATCH, IF_RANGE, LINK, RANGE,
    RETRY_AFTER,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};

use crate::fill::BlobSource;
use crate::mirror::{BlobAnswer, ManifestAnswer, Outcome, Provenance, ReferrersAnswer, TagsAnswer};
use crate::oci::{Digest, MediaType, RangeHeader, Repository};

use crate::server::request::conditional;
use crate::server::response::body::Body;
use crate::server::response::cached_headers::CachedHeaders;
use crate::server::response::error::WireError;
use crate::server::response::headers::{IMMUTABLE, REVALIDATE, base_headers, etag, header_value, list_headers};

const OCI_FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");

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
