//! From what the registry holds, and what the script wants said about it, to a response.

use std::sync::Arc;

use http::header::{ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, LINK, LOCATION};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};
use serde_json::json;

use super::body::{Body, Faults};
use super::gzip::gzip;
use super::line::Line;
use super::range::{self, Asked};
use crate::support::upstream::content::bytes::{Content, blob};
use crate::support::upstream::observe::record::Recorded;
use crate::support::upstream::script::plan::{HeaderEdit, Lie, Plan};

/// Something that the registry has, before any range is cut out of it.
pub(crate) struct Found {
    content: Content,
    headers: HeaderMap,
    ranges: bool,
}

impl Found {
    pub(crate) fn new(content: Content) -> Self {
        Self { content, headers: HeaderMap::new(), ranges: false }
    }

    /// The answer of a registry that has everything.
    pub(crate) fn of_any(request: &Recorded, size: u64) -> Self {
        let found = Self::new(blob(size, 0)).media_type("application/octet-stream");
        match request.reference.as_deref().filter(|reference| reference.contains(':')) {
            Some(digest) => found.digest(digest),
            None => found,
        }
    }

    pub(crate) fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.insert(HeaderName::from_static(name), value.parse().expect("a header value"));
        self
    }

    pub(crate) fn media_type(self, media_type: &str) -> Self {
        self.header("content-type", media_type)
    }

    pub(crate) fn digest(self, digest: &str) -> Self {
        self.header("docker-content-digest", digest)
    }

    pub(crate) fn link(mut self, target: &str) -> Self {
        let link = format!("<{target}>; rel=\"next\"");
        self.headers.insert(LINK, link.parse().expect("names and cursors are ASCII"));
        self
    }

    /// Parts of it may be asked for.
    pub(crate) fn ranges(mut self) -> Self {
        self.headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        self.ranges = true;
        self
    }

    pub(crate) fn distorted(mut self, lies: &[Lie]) -> Self {
        for lie in lies {
            self.content = match lie {
                Lie::Other(content) => content.clone(),
                Lie::WrongByte(offset) => self.content.with_wrong_byte(*offset),
                Lie::Size(size) => self.content.with_size(*size),
                Lie::ExtraByte => self.content.with_size(self.content.size() + 1),
                Lie::Gzip => Content::from(gzip(&self.content.to_bytes())),
            };
        }
        self
    }

    pub(crate) fn in_answer_to(self, request: &Recorded, ignores_range: bool) -> Answer {
        let size = self.content.size();
        let heeds_range = self.ranges && !ignores_range && request.method == Method::GET;
        let asked = range::parse(request.range.as_deref().filter(|_| heeds_range), size);
        let whole =
            Answer { status: StatusCode::OK, headers: self.headers, content: self.content, first: 0, end: size };
        match asked {
            Asked::Whole => whole,
            Asked::Part { first, end } => {
                let part = Answer { status: StatusCode::PARTIAL_CONTENT, first, end, ..whole };
                part.header("content-range", &format!("bytes {first}-{}/{size}", end - 1))
            }
            Asked::Unsatisfiable => {
                let refusal = Answer::error(StatusCode::RANGE_NOT_SATISFIABLE, "RANGE_INVALID", "beyond the end");
                refusal.header(CONTENT_RANGE.as_str(), &format!("bytes */{size}"))
            }
        }
    }
}

/// All that is said, but for the body's accidents.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    headers: HeaderMap,
    content: Content,
    first: u64,
    end: u64,
}

impl Answer {
    pub(crate) fn new(status: StatusCode, content: Content) -> Self {
        let end = content.size();
        Self { status, headers: HeaderMap::new(), content, first: 0, end }
    }

    pub(crate) fn error(status: StatusCode, code: &str, message: &str) -> Self {
        let body = json!({"errors": [{"code": code, "message": message}]}).to_string();
        Self::new(status, Content::from(body)).header(CONTENT_TYPE.as_str(), "application/json")
    }

    pub(crate) fn not_found(code: &str) -> Self {
        Self::error(StatusCode::NOT_FOUND, code, "not here")
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        let name = name.parse::<HeaderName>().expect("a header name");
        self.headers.insert(name, value.parse().expect("a header value"));
        self
    }

    pub(crate) fn into_response(mut self, request: &Recorded, plan: &Plan, line: Arc<Line>) -> Response<Body> {
        if !plan.chunked {
            self.headers.insert(CONTENT_LENGTH, (self.end - self.first).into());
        }
        self.edit_headers(&plan.headers, request);
        let end = if request.method == Method::HEAD { self.first } else { self.end };
        let faults = Faults::of(plan, line);
        let body = Body::new(self.content, self.first..end, faults, Arc::clone(&request.progress));
        let mut response = Response::new(body);
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        response
    }

    fn edit_headers(&mut self, edits: &[HeaderEdit], request: &Recorded) {
        for edit in edits {
            match edit {
                HeaderEdit::Set(name, value) if name == LOCATION => {
                    let url = String::from_utf8_lossy(value.as_bytes()).replace("{path}", &request.path);
                    self.headers.insert(name, url.parse().expect("a path fits into a header"));
                }
                HeaderEdit::Set(name, value) => drop(self.headers.insert(name, value.clone())),
                HeaderEdit::Add(name, value) => drop(self.headers.append(name, value.clone())),
                HeaderEdit::Remove(name) => drop(self.headers.remove(name)),
            }
        }
    }
}

/// The spec's form of an error, with the code that goes best with the status.
pub(crate) fn error_body(status: StatusCode) -> Content {
    let code = match status.as_u16() {
        401 => "UNAUTHORIZED",
        403 => "DENIED",
        404 => "MANIFEST_UNKNOWN",
        405 => "UNSUPPORTED",
        429 => "TOOMANYREQUESTS",
        _ => "UNKNOWN",
    };
    let message = status.canonical_reason().unwrap_or("as scripted");
    Content::from(json!({"errors": [{"code": code, "message": message}]}).to_string())
}
