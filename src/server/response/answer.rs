//! Answers: status, headers and body of what the mirror found.

use std::ops::Range;

use bytes::Bytes;
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, IF_NONE_MATCH, IF_RANGE, LINK, RANGE,
    RETRY_AFTER, WWW_AUTHENTICATE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};

use crate::cache::blocks::BlockWatch;
use crate::fill::BlobSource;
use crate::mirror::{BlobAnswer, ManifestAnswer, Outcome, Provenance, ReferrersAnswer, TagsAnswer};
use crate::oci::{ByteRange, Digest, MediaType, RangeHeader, Repository};

use crate::server::request::conditional;
use crate::server::response::body::Body;
use crate::server::response::cached_headers::CachedHeaders;
use crate::server::response::error::WireError;
use crate::server::response::headers::{
    IMMUTABLE, REVALIDATE, base_headers, etag, header_value, list_headers, provenance_headers,
};
use crate::server::response::multipart::Multipart;

/// Most ranges of one request for a blob that is not stored.
const MAX_PASSED_RANGES: usize = 16;
const OCI_FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");

/// A successful response before it is sent.
pub(in crate::server) struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    /// The body of a GET. HEAD answers with its length only.
    body: Payload,
    provenance: Provenance,
    /// Of a manifest.
    manifest: Option<Digest>,
}

enum Payload {
    None,
    Bytes(Bytes),
    /// A list between what stands around it.
    Around {
        before: String,
        list: Bytes,
        after: &'static str,
    },
    Blob {
        source: BlobSource,
        watch: Option<BlockWatch>,
        range: Range<u64>,
    },
    Several {
        source: BlobSource,
        watch: Option<BlockWatch>,
        multipart: Multipart,
    },
}

impl Payload {
    fn of(source: BlobSource, watch: Option<BlockWatch>, range: Range<u64>) -> Self {
        match source {
            // A body in one piece goes out in one write with the headers.
            BlobSource::Memory(bytes) => Self::Bytes(slice(&bytes, &range)),
            source @ (BlobSource::Nothing
            | BlobSource::Stored(_)
            | BlobSource::Filling(_)
            | BlobSource::PassThrough(_)
            | BlobSource::Unproven(_)) => Self::Blob { source, watch, range },
        }
    }
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
        let provenance = Provenance { outcome: Outcome::Hit, age: None, stale_because: None, held_back: None };
        Self {
            status: StatusCode::OK,
            headers,
            body: Payload::Bytes(Bytes::from_static(b"{}")),
            provenance,
            manifest: None,
        }
    }

    /// The answer of the token server.
    pub(in crate::server) fn token(token: &serde_json::Value) -> Self {
        let body = Payload::Bytes(token.to_string().into());
        let mut answer = Self { body, ..Self::ping() };
        answer.headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        answer
    }

    pub(in crate::server) fn provenance(&self) -> &Provenance {
        &self.provenance
    }

    /// The digest of the manifest that this is.
    pub(in crate::server) const fn manifest(&self) -> Option<Digest> {
        self.manifest
    }

    pub(in crate::server) fn into_response(self, method: &Method) -> Response<Body> {
        let length = match &self.body {
            Payload::None => None,
            Payload::Bytes(bytes) => Some(bytes.len() as u64),
            Payload::Around { before, list, after } => Some((before.len() + list.len() + after.len()) as u64),
            Payload::Blob { range, .. } => Some(range.end - range.start),
            Payload::Several { multipart, .. } => Some(multipart.length()),
        };
        let body = match self.body {
            _ if method == Method::HEAD => Body::empty(),
            Payload::None => Body::empty(),
            Payload::Bytes(bytes) => Body::bytes(bytes),
            Payload::Around { before, list, after } => {
                Body::pieces(vec![before.into(), list, Bytes::from_static(after.as_bytes())])
            }
            Payload::Blob { source, watch, range } => {
                let length = range.end - range.start;
                Body::reader(source.reader(range, watch), length)
            }
            Payload::Several { source, watch, multipart } => {
                let length = multipart.length();
                Body::multipart(source.reader(0..0, watch), multipart, length)
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
    let size_bytes = bytes.len() as u64;
    let content = (&digest, size_bytes, BlobSource::Memory(bytes), None);
    Ok(Answer { manifest: Some(digest), ..ranged(headers, provenance, content, request, method)? })
}

fn slice(bytes: &Bytes, range: &Range<u64>) -> Bytes {
    let within = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
    bytes.slice(within(range.start)..within(range.end))
}

pub(in crate::server) fn blob(
    blob: BlobAnswer,
    ready: &CachedHeaders,
    request: &HeaderMap,
    method: &Method,
) -> Result<Answer, WireError> {
    let BlobAnswer { digest, size_bytes, source, watch, provenance } = blob;
    let headers = ready.headers(&digest, MediaType::OCTET_STREAM, IMMUTABLE, &provenance)?;
    ranged(headers, provenance, (&digest, size_bytes, source, watch), request, method)
}

/// The part of the content that a request asks for.
enum Selection {
    Whole,
    One(Range<u64>),
    Several(Multipart),
    /// Nothing of it: 416.
    Outside,
}

impl Selection {
    /// Several ranges whose answer would be longer than the content get the content.
    fn of(asked: RangeHeader, (digest, size_bytes, source): (&Digest, u64, &BlobSource), kind: &str) -> Self {
        let passes_through = matches!(source, BlobSource::PassThrough(_));
        let ranges = match asked {
            RangeHeader::Ignored => return Self::Whole,
            RangeHeader::One(range) => return range.within(size_bytes).map_or(Self::Outside, Self::One),
            // Each range of a blob that is not stored is a question to upstream.
            RangeHeader::Several(ranges) if passes_through && ranges.len() > MAX_PASSED_RANGES => return Self::Whole,
            RangeHeader::Several(ranges) => ByteRange::all_within(&ranges, size_bytes),
        };
        let Ok(ranges) = ranges else { return Self::Outside };
        if let [range] = ranges.as_slice() {
            return Self::One(range.clone());
        }
        let multipart = Multipart::new(ranges, digest, kind, size_bytes);
        if multipart.length() < size_bytes { Self::Several(multipart) } else { Self::Whole }
    }
}

/// Answers 304, 206, 416 or 200 by `If-None-Match`, `If-Range` and `Range`. HEAD ignores `Range`.
fn ranged(
    mut headers: HeaderMap,
    mut provenance: Provenance,
    (digest, size_bytes, source, watch): (&Digest, u64, BlobSource, Option<BlockWatch>),
    request: &HeaderMap,
    method: &Method,
) -> Result<Answer, WireError> {
    let has = |name| request.contains_key(name);
    let selected = if has(IF_NONE_MATCH) || has(IF_RANGE) || has(RANGE) {
        let etag = etag(digest);
        if conditional::is_not_modified(request, &etag) {
            headers.remove(CONTENT_TYPE);
            return Ok(Answer {
                status: StatusCode::NOT_MODIFIED,
                headers,
                body: Payload::None,
                provenance,
                manifest: None,
            });
        }
        let asked = if method == Method::HEAD { RangeHeader::Ignored } else { conditional::range(request, &etag) };
        let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        Selection::of(asked, (digest, size_bytes, &source), kind)
    } else {
        Selection::Whole
    };
    let (status, body) = match selected {
        Selection::Whole => (StatusCode::OK, Payload::of(source, watch, 0..size_bytes)),
        Selection::One(range) => {
            let last = range.end.saturating_sub(1);
            headers.insert(CONTENT_RANGE, header_value(&format!("bytes {}-{last}/{size_bytes}", range.start))?);
            let source = source.lazily(&range);
            if let BlobSource::Unproven(_) = source {
                provenance.outcome = Outcome::Unproven;
                provenance_headers(&mut headers, &provenance)?;
                headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
            }
            (StatusCode::PARTIAL_CONTENT, Payload::of(source, watch, range))
        }
        Selection::Several(multipart) => {
            headers.insert(CONTENT_TYPE, header_value(&multipart.content_type())?);
            (StatusCode::PARTIAL_CONTENT, Payload::Several { source, watch, multipart })
        }
        Selection::Outside => {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            // The content is immutable, but this refusal is not: caches in between must not keep it.
            headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
            headers.insert(CONTENT_RANGE, header_value(&format!("bytes */{size_bytes}"))?);
            let body = error_body(&WireError::range_not_satisfiable(), "");
            (StatusCode::RANGE_NOT_SATISFIABLE, Payload::Bytes(body))
        }
    };
    Ok(Answer { status, headers, body, provenance, manifest: None })
}

pub(in crate::server) fn tags(tags: TagsAnswer, repository: &Repository, link: &Link) -> Result<Answer, WireError> {
    let mut headers = list_headers("application/json", &tags.provenance)?;
    if let Some(next) = &link.query {
        let pairs = url::form_urlencoded::parse(next.as_bytes());
        let cursor = pairs.filter(|(key, _)| key != "ns" && key != "oci-ref-name");
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(cursor).extend_pairs(&link.kept);
        headers.insert(LINK, header_value(&format!("<{}?{}>; rel=\"next\"", link.path, query.finish()))?);
    }
    // A repository's name needs no escapes.
    let before = format!("{{\"name\":\"{repository}\",\"tags\":");
    let body = Payload::Around { before, list: tags.tags, after: "}" };
    Ok(Answer { status: StatusCode::OK, headers, body, provenance: tags.provenance, manifest: None })
}

pub(in crate::server) fn referrers(referrers: ReferrersAnswer, filtered: bool) -> Result<Answer, WireError> {
    let ReferrersAnswer { descriptors: list, provenance } = referrers;
    let mut headers = list_headers(MediaType::OCI_INDEX, &provenance)?;
    if filtered {
        headers.insert(OCI_FILTERS_APPLIED, HeaderValue::from_static("artifactType"));
    }
    let before = format!("{{\"schemaVersion\":2,\"mediaType\":\"{}\",\"manifests\":", MediaType::OCI_INDEX);
    let body = Payload::Around { before, list, after: "}" };
    Ok(Answer { status: StatusCode::OK, headers, body, provenance, manifest: None })
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
    if let Some(challenge) = &error.challenge {
        headers.insert(WWW_AUTHENTICATE, challenge.clone());
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
