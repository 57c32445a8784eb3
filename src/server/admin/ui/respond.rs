//! Answers of the page, each with the headers that keep a browser from doing more than show it.

use bytes::Bytes;
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, LOCATION, REFERRER_POLICY, SET_COOKIE,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use maud::Markup;

use crate::server::admin::api::ApiBody;

/// No script at all, no style but our own, nothing from elsewhere, in no frame; forms go nowhere else.
const POLICY: &str =
    "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// A referrer goes to our own pages: without one, browsers would hide the origin of our own forms.
const HEADERS: [(HeaderName, &str); 7] = [
    (CONTENT_SECURITY_POLICY, POLICY),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (X_FRAME_OPTIONS, "DENY"),
    (REFERRER_POLICY, "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("permissions-policy"), "camera=(), geolocation=(), microphone=()"),
];

fn respond(status: StatusCode, kind: &'static str, cached: &'static str, body: impl Into<Bytes>) -> Response<ApiBody> {
    let mut response = Response::new(Full::new(body.into()).map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(cached));
    response
}

pub(super) fn page(status: StatusCode, page: Markup) -> Response<ApiBody> {
    respond(status, "text/html; charset=utf-8", "no-store", page.into_string())
}

/// A file of this program.
pub(super) fn asset(kind: &'static str, body: &'static str) -> Response<ApiBody> {
    respond(StatusCode::OK, kind, "max-age=60", body)
}

/// Sends the browser to another page, which it asks for by GET. `cookie` is set before.
pub(super) fn see(location: &str, cookie: Option<&str>) -> Response<ApiBody> {
    let mut response = respond(StatusCode::SEE_OTHER, "text/plain; charset=utf-8", "no-store", "");
    let headers = response.headers_mut();
    headers.insert(LOCATION, HeaderValue::from_str(location).unwrap_or(HeaderValue::from_static("/")));
    headers.extend(cookie.and_then(|cookie| HeaderValue::from_str(cookie).ok()).map(|cookie| (SET_COOKIE, cookie)));
    response
}

pub(super) fn method_not_allowed(allowed: &'static str) -> Response<ApiBody> {
    let kind = "text/plain; charset=utf-8";
    let mut response = respond(StatusCode::METHOD_NOT_ALLOWED, kind, "no-store", format!("it takes {allowed}\n"));
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    response
}
