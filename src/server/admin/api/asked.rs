//! One request of the API, checked as far as all calls have in common.

use std::str::FromStr;
use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::{Body as _, Incoming};
use serde::de::DeserializeOwned;

use super::routes::{Route, Takes};
use crate::jobs::{Refused, RefusedCode};
use crate::quote::quoted;

/// Largest JSON body. Bytes.
const MAX_BODY: usize = 4 * 1024 * 1024;
/// Longest time for a JSON body to come.
const BODY_DEADLINE: Duration = Duration::from_mins(1);

/// What a call was given.
pub(in crate::server::admin) struct Asked {
    query: Vec<(String, String)>,
    /// What stands in the path for `{id}`.
    pub(super) id: String,
    method: Method,
    headers: HeaderMap,
    body: Incoming,
}

impl Asked {
    /// Checks the query against what the call takes: a key that is misspelt must not be passed over.
    pub(super) fn new(request: Request<Incoming>, route: &Route, id: String) -> Result<Self, Refused> {
        let (head, body) = request.into_parts();
        let query = head.uri.query().unwrap_or_default();
        let query: Vec<(String, String)> = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        for (nth, (key, _)) in query.iter().enumerate() {
            let Some(known) = route.query.iter().find(|known| known.trim_end_matches('*') == key) else {
                let all: Vec<&str> = route.query.iter().map(|known| known.trim_end_matches('*')).collect();
                let takes = if all.is_empty() { "nothing".to_owned() } else { all.join(", ") };
                return Err(Refused::invalid(format!("`{}` is not known; the query takes {takes}", quoted(key))));
            };
            let is_first = query.iter().position(|(other, _)| other == key) == Some(nth);
            if !is_first && !known.ends_with('*') {
                return Err(Refused::invalid(format!("`{key}` is given twice")));
            }
        }
        let asked = Self { query, id, method: head.method, headers: head.headers, body };
        asked.check_kind(route.takes)?;
        Ok(asked)
    }

    /// JSON only: what a form of a page can send is refused, whatever it says (T71).
    fn check_kind(&self, takes: Takes) -> Result<(), Refused> {
        let kind = self.headers.get(CONTENT_TYPE).map(|kind| kind.to_str().unwrap_or_default().trim());
        let kind = kind.map(|kind| kind.split(';').next().unwrap_or_default().trim_end().to_ascii_lowercase());
        let wrong = |why: &str| Err(Refused::new(RefusedCode::UnsupportedMediaType, why));
        match (takes, kind.as_deref()) {
            (Takes::Nothing | Takes::Json, None) if self.body.is_end_stream() => Ok(()),
            (Takes::Nothing | Takes::Json, Some("application/json")) => Ok(()),
            (Takes::Nothing | Takes::Json, _) => wrong("the body has to be `Content-Type: application/json`"),
            (
                Takes::Stream,
                Some("text/plain" | "multipart/form-data" | "application/x-www-form-urlencoded") | None,
            ) => wrong("the body has to be `Content-Type: application/octet-stream` or another that no form sends"),
            (Takes::Stream, Some(_)) => Ok(()),
        }
    }

    /// The value of a key, if it is given.
    pub(super) fn text(&self, key: &str) -> Option<&str> {
        self.query.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// All values of a key.
    pub(super) fn texts(&self, key: &str) -> Vec<String> {
        self.query.iter().filter(|(name, _)| name == key).map(|(_, value)| value.clone()).collect()
    }

    /// The value of a key, read.
    pub(super) fn parsed<T: FromStr<Err: std::fmt::Display>>(&self, key: &str) -> Result<Option<T>, Refused> {
        let read = |text: &str| text.parse().map_err(|err| Refused::invalid(format!("{key}: {err}")));
        self.text(key).map(read).transpose()
    }

    /// The value of a key that has to be given, read.
    pub(super) fn required<T: FromStr<Err: std::fmt::Display>>(&self, key: &str) -> Result<T, Refused> {
        self.parsed(key)?.ok_or_else(|| Refused::invalid(format!("`{key}` is missing in the query")))
    }

    /// The body's JSON object.
    pub(super) async fn json<T: DeserializeOwned>(self) -> Result<T, Refused> {
        let whole = tokio::time::timeout(BODY_DEADLINE, Limited::new(self.body, MAX_BODY).collect()).await;
        let whole = whole.map_err(|_late| Refused::invalid("the body does not come"))?;
        let whole = whole.map_err(|_cut| {
            Refused::new(RefusedCode::TooLarge, format!("the body is cut short, or longer than {MAX_BODY} bytes"))
        })?;
        let body = whole.to_bytes();
        if !body.trim_ascii_start().starts_with(b"{") {
            return Err(Refused::invalid(format!("{} takes a JSON object as its body", self.method)));
        }
        serde_json::from_slice(&body).map_err(|err| Refused::invalid(format!("the body: {err}")))
    }

    /// The body as it comes, for an upload.
    pub(super) fn into_stream(self) -> Incoming {
        self.body
    }
}
