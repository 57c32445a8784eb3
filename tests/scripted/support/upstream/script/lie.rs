//! Steps that say what is not so, about bytes and in headers.

use http::{HeaderName, HeaderValue};

use super::plan::{HeaderEdit, Lie, Unknown};
use super::step::Step;
use crate::support::upstream::content::bytes::Content;

/// Lies about bytes. Ranges, sizes and totals agree with the lie; digest headers do not.
impl Step {
    pub(crate) fn content(self, other: impl Into<Content>) -> Self {
        let other = other.into();
        self.plan(|plan| plan.lies.push(Lie::Other(other)))
    }

    /// The byte at this offset of the blob is inverted.
    pub(crate) fn wrong_byte_at(self, offset: u64) -> Self {
        self.plan(|plan| plan.lies.push(Lie::WrongByte(offset)))
    }

    /// As if the blob had this size: a cut body that looks whole.
    pub(crate) fn truncated_to(self, size: u64) -> Self {
        self.plan(|plan| plan.lies.push(Lie::Size(size)))
    }

    pub(crate) fn extra_byte(self) -> Self {
        self.plan(|plan| plan.lies.push(Lie::ExtraByte))
    }

    /// Properly encoded, and never asked for.
    pub(crate) fn gzip(self) -> Self {
        self.plan(|plan| plan.lies.push(Lie::Gzip)).header("content-encoding", "gzip")
    }

    /// No `Content-Length`.
    pub(crate) fn chunked(self) -> Self {
        self.plan(|plan| plan.chunked = true)
    }

    /// 200 and everything, whatever range is asked for.
    pub(crate) fn ignore_range(self) -> Self {
        self.plan(|plan| plan.ignores_range = true)
    }

    /// HEAD says that there is a thing of this size, whatever is asked for.
    pub(crate) fn head_says_yes(self, size: u64) -> Self {
        self.plan(|plan| plan.unknown = Unknown::HeadSaysYes(size))
    }

    /// HEAD says 404 until the thing was fetched by GET, as proxies do that cache on GET only.
    pub(crate) fn head_404_until_get(self) -> Self {
        self.plan(|plan| plan.unknown = Unknown::HeadSaysNoUntilGet)
    }
}

/// Lies and extras in headers, over whatever is answered.
impl Step {
    pub(crate) fn header(self, name: &str, value: &str) -> Self {
        let (name, value) = parsed(name, value);
        self.plan(|plan| plan.headers.push(HeaderEdit::Set(name, value)))
    }

    /// One more line of a header that may be there already.
    pub(crate) fn added_header(self, name: &str, value: &str) -> Self {
        let (name, value) = parsed(name, value);
        self.plan(|plan| plan.headers.push(HeaderEdit::Add(name, value)))
    }

    pub(crate) fn without_header(self, name: &str) -> Self {
        let (name, _) = parsed(name, "");
        self.plan(|plan| plan.headers.push(HeaderEdit::Remove(name)))
    }

    pub(crate) fn without_digest_header(self) -> Self {
        self.without_header("docker-content-digest")
    }

    pub(crate) fn digest_header(self, digest: &str) -> Self {
        self.header("docker-content-digest", digest)
    }

    pub(crate) fn content_type(self, media_type: &str) -> Self {
        self.header("content-type", media_type)
    }

    pub(crate) fn content_range(self, value: &str) -> Self {
        self.header("content-range", value)
    }

    /// Docker Hub's rationing headers, such as `100;w=21600` and `76;w=21600`.
    pub(crate) fn rate_limit(self, limit: &str, remaining: &str) -> Self {
        self.header("ratelimit-limit", limit).header("ratelimit-remaining", remaining)
    }
}

/// Values may hold any byte that HTTP allows in a header; for others there is `says`.
fn parsed(name: &str, value: &str) -> (HeaderName, HeaderValue) {
    let name = name.parse().expect("a header name");
    (name, HeaderValue::from_bytes(value.as_bytes()).expect("a header value"))
}
