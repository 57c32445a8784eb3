//! What a form of the page sends.

use std::time::Duration;

use http::header::CONTENT_TYPE;
use http_body_util::{BodyExt as _, Limited};
use hyper::Request;
use hyper::body::Incoming;

use crate::jobs::{Refused, RefusedCode};

/// Largest form. Bytes.
const MAX_FORM: usize = 64 * 1024;
/// Longest time for one to come.
const FORM_DEADLINE: Duration = Duration::from_secs(10);

pub(super) struct Form(Vec<(String, String)>);

impl Form {
    pub(super) async fn read(request: Request<Incoming>) -> Result<Self, Refused> {
        let kind = request.headers().get(CONTENT_TYPE).map(|kind| kind.to_str().unwrap_or_default());
        let kind = kind.and_then(|kind| kind.split(';').next()).unwrap_or_default().trim();
        if !kind.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
            return Err(Refused::new(RefusedCode::UnsupportedMediaType, "this takes what a form of the page sends"));
        }
        let whole = Limited::new(request.into_body(), MAX_FORM).collect();
        let whole = tokio::time::timeout(FORM_DEADLINE, whole).await;
        let whole = whole.map_err(|_late| Refused::invalid("the form does not come"))?;
        let whole = whole.map_err(|_cut| {
            Refused::new(RefusedCode::TooLarge, format!("the form is cut short, or longer than {MAX_FORM} bytes"))
        })?;
        Ok(Self(url::form_urlencoded::parse(&whole.to_bytes()).into_owned().collect()))
    }

    /// The value of a field; empty if it was not sent.
    pub(super) fn field(&self, name: &str) -> &str {
        self.0.iter().find(|(field, _)| field == name).map_or("", |(_, value)| value.trim())
    }
}
