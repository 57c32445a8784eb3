//! Requests to the servers of a cloud: few, short, and without redirects.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method};
use serde::Deserialize;
use tokio::io::AsyncReadExt as _;
use url::Url;

use super::error::CloudError;
use crate::clock::Timestamp;
use crate::metrics::{ByUpstreamRequest, Metrics};
use crate::oci::read_object;
use crate::secret::Secret;
use crate::upstream::body::{self, Rooms};
use crate::upstream::error::Failure;

/// Longest wait for one answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Largest answer, and largest file with a token or a key, in bytes.
const MAX_BYTES: u64 = 256 * 1024;
/// Longest word of a cloud that is repeated in a message.
const MAX_CODE_BYTES: usize = 64;

/// Asks the servers of a cloud.
pub(super) struct Asker {
    /// For metadata services, which are of this machine: never through a proxy.
    pub(super) direct: reqwest::Client,
    /// For all others, through the upstream's proxy if it has one.
    pub(super) outside: reqwest::Client,
    pub(super) metrics: Metrics,
    /// The upstream, as a label.
    pub(super) name: String,
    pub(super) rooms: Rooms,
}

/// The client that a request is sent by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Direct,
    Outside,
}

/// One request.
pub(super) struct Ask {
    pub(super) way: Way,
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: Vec<(&'static str, Secret)>,
    pub(super) body: Vec<u8>,
    /// What an operator can do if it is not answered, or refused.
    pub(super) remedy: &'static str,
}

/// An answer with a status of 2xx.
pub(super) struct Told {
    /// The host that was asked.
    pub(super) server: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Ask {
    pub(super) const fn new(way: Way, method: Method, url: Url, remedy: &'static str) -> Self {
        Self { way, method, url, headers: Vec::new(), body: Vec::new(), remedy }
    }

    pub(super) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, Secret::new(value)));
        self
    }

    /// A form in the body.
    pub(super) fn form(mut self, parameters: &[(&str, &str)]) -> Self {
        let form = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish();
        self.body = form.into_bytes();
        self.header("content-type", "application/x-www-form-urlencoded")
    }
}

impl Told {
    /// The body as a JSON object. `what` is told if it is not there.
    pub(super) fn object<'a, T: Deserialize<'a>>(&'a self, what: &'static str) -> Result<T, CloudError> {
        read_object(&self.body).ok_or_else(|| self.lacks(what))
    }

    pub(super) fn lacks(&self, what: &'static str) -> CloudError {
        CloudError::Unusable { server: self.server.clone(), what }
    }
}

impl Asker {
    pub(super) async fn ask(&self, ask: Ask) -> Result<Told, CloudError> {
        let server = ask.url.host_str().unwrap_or_default().to_owned();
        let (remedy, method) = (ask.remedy, ask.method.clone());
        let asked = tokio::time::timeout(PATIENCE, self.send(ask));
        let asked = asked.await.unwrap_or(Err(Failure::Timeout("no answer")));
        let status = asked.as_ref().map_or_else(|_| "error".to_owned(), |(status, ..)| status.to_string());
        let labels = ByUpstreamRequest {
            authority: self.name.clone(),
            kind: "identity",
            method: method.as_str().to_owned(),
            status,
        };
        self.metrics.upstream_requests.get_or_create(&labels).inc();
        match asked {
            Ok((200..300, headers, body)) => Ok(Told { server, headers, body }),
            Ok((status, _, body)) => {
                let code = code(&body).map(|code| format!(" {code}")).unwrap_or_default();
                Err(CloudError::Refused { server, status, code, remedy })
            }
            Err(failure) => Err(CloudError::Unanswered { server, failure, remedy }),
        }
    }

    async fn send(&self, ask: Ask) -> Result<(u16, HeaderMap, Bytes), Failure> {
        let client = match ask.way {
            Way::Direct => &self.direct,
            Way::Outside => &self.outside,
        };
        let has_body = ask.method != Method::GET;
        let mut request = client.request(ask.method, ask.url);
        if has_body {
            request = request.body(ask.body);
        }
        request = request.header(http::header::USER_AGENT, concat!("roadstead/", env!("CARGO_PKG_VERSION")));
        for (name, value) in ask.headers {
            let value = HeaderValue::from_str(value.expose());
            let mut value = value.map_err(|_invalid| Failure::unsendable_credentials())?;
            value.set_sensitive(true);
            request = request.header(name, value);
        }
        let response = request.send().await.map_err(Failure::of_reqwest)?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let read = body::read_capped(response, MAX_BYTES, "", PATIENCE, &self.rooms).await;
        if let Err(Failure::TooLarge { .. }) = read {
            return Err(Failure::Refused("it is too long".to_owned()));
        }
        Ok((status, headers, read?.bytes))
    }
}

/// A file with a token or a key, read anew each time: kubelet and operators replace it.
pub(super) async fn read_file(file: &Path) -> Result<Secret, CloudError> {
    let unreadable =
        |err: std::io::Error| CloudError::Unreadable { file: file.display().to_string(), err: err.to_string() };
    let opened = tokio::fs::File::open(file).await.map_err(unreadable)?;
    let mut text = String::new();
    opened.take(MAX_BYTES).read_to_string(&mut text).await.map_err(unreadable)?;
    if text.trim().is_empty() {
        return Err(CloudError::BadFile { file: file.display().to_string(), why: "is empty" });
    }
    Ok(Secret::new(text.trim()))
}

/// The cloud's own word for an error. Nothing else of its answer is repeated.
fn code(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Raw {
        #[serde(rename = "__type")]
        aws: Option<String>,
        #[serde(alias = "Code")]
        code: Option<String>,
        error: Option<serde_json::Value>,
    }
    let of_json = || {
        let raw: Raw = read_object(body)?;
        let error = raw.error.and_then(|error| {
            let inner = error.get("status").or_else(|| error.get("code")).cloned().unwrap_or(error);
            inner.as_str().map(str::to_owned)
        });
        raw.aws.or(raw.code).or(error)
    };
    let of_xml = || element(std::str::from_utf8(body).ok()?, "Code").map(str::to_owned);
    let word = of_json().or_else(of_xml)?;
    let word = word.rsplit('#').next()?;
    let is_word = word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte));
    (is_word && (1..=MAX_CODE_BYTES).contains(&word.len())).then(|| word.to_owned())
}

/// The text of the first element of this name, which holds no other.
pub(super) fn element<'x>(xml: &'x str, name: &str) -> Option<&'x str> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    let (text, _) = rest.split_once(&format!("</{name}>"))?;
    (!text.is_empty() && !text.contains(['<', '&'])).then_some(text)
}

/// When a token ends, from its life in seconds.
pub(super) fn life(seconds: u64) -> Duration {
    Duration::from_secs(seconds.clamp(60, 24 * 3600))
}

/// The same, from the second since the epoch at which it ends.
pub(super) fn life_until(second: u64, now: Timestamp) -> Duration {
    life(second.saturating_sub(now.as_millis() / 1000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t151_of_an_answer_that_refuses_only_the_clouds_word_is_repeated() {
        let code = |body: &str| code(body.as_bytes());
        let word = |word: &str| Some(word.to_owned());
        assert_eq!(
            code(r#"{"__type":"com.amazonaws.ecr#AccessDeniedException","message":"MARKER"}"#),
            word("AccessDeniedException")
        );
        assert_eq!(
            code("<ErrorResponse><Error><Code>ExpiredTokenException</Code></Error></ErrorResponse>"),
            word("ExpiredTokenException")
        );
        assert_eq!(code(r#"{"error":"invalid_client","error_description":"MARKER"}"#), word("invalid_client"));
        assert_eq!(code(r#"{"error":{"code":403,"status":"PERMISSION_DENIED"}}"#), word("PERMISSION_DENIED"));
        for silent in ["", "MARKER", r#"{"error":"two words\nand a line"}"#, "<Code><b>x</b></Code>"] {
            assert_eq!(code(silent), None, "{silent}");
        }
        assert_eq!(code(&format!("{{\"error\":\"{}\"}}", "x".repeat(65))), None);
    }
}
