//! The JSON API of the admin side, under `/api/v1`.

mod backup;
mod pins;
mod verify;

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderValue, Method, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use serde::Serialize;

use crate::index::IndexError;
use crate::jobs::{Status, VerifyJobs};
use crate::mirror::Mirror;

pub(in crate::server) type ApiBody = UnsyncBoxBody<Bytes, io::Error>;

/// One call of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::server) enum Call {
    Status,
    Backup,
    Pins,
    AddPins,
    RemovePins,
    Verify,
    StartVerify,
    Lost,
}

type Meanings = &'static [(Method, Call)];

/// Path, allowed methods, and the call of each method. HEAD is GET without a body.
const CALLS: &[(&str, &str, Meanings)] = &[
    ("status", "GET, HEAD", &[(Method::GET, Call::Status)]),
    ("backup", "GET, HEAD", &[(Method::GET, Call::Backup)]),
    (
        "pins",
        "GET, HEAD, POST, DELETE",
        &[(Method::GET, Call::Pins), (Method::POST, Call::AddPins), (Method::DELETE, Call::RemovePins)],
    ),
    ("verify", "GET, HEAD, POST", &[(Method::GET, Call::Verify), (Method::POST, Call::StartVerify)]),
    ("lost", "GET, HEAD", &[(Method::GET, Call::Lost)]),
];

impl Call {
    /// `path` is the part after `/api/v1/`. The error is the answer: 404 or 405.
    #[expect(clippy::result_large_err, reason = "it is the answer")]
    pub(in crate::server) fn of(method: &Method, path: &str) -> Result<Self, Response<ApiBody>> {
        let Some((_, allow, calls)) = CALLS.iter().find(|(name, ..)| *name == path) else {
            let why = "there is no such call; status, backup, pins, verify and lost are here";
            return Err(refuse(StatusCode::NOT_FOUND, why));
        };
        let method = if *method == Method::HEAD { &Method::GET } else { method };
        calls.iter().find(|(known, _)| known == method).map(|(_, call)| *call).ok_or_else(|| {
            let mut refused = refuse(StatusCode::METHOD_NOT_ALLOWED, &format!("it takes {allow}"));
            refused.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
            refused
        })
    }

    /// Whether the token is needed on loopback too.
    pub(in crate::server) const fn is_guarded(self) -> bool {
        match self {
            Self::Status | Self::Pins | Self::Verify | Self::Lost => false,
            // A backup names everything that was ever pulled.
            Self::Backup | Self::AddPins | Self::RemovePins | Self::StartVerify => true,
        }
    }

    /// `query` holds the decoded pairs of the request's query.
    pub(in crate::server) async fn answer(
        self,
        mirror: &Arc<Mirror>,
        jobs: &VerifyJobs,
        query: &[(String, String)],
    ) -> Response<ApiBody> {
        match self {
            Self::Status => json(StatusCode::OK, &Status::of(mirror).await),
            Self::Backup => backup::backup(mirror),
            Self::Pins => pins::list(mirror).await,
            Self::AddPins => pins::add(mirror, query).await,
            Self::RemovePins => pins::remove(mirror, query).await,
            Self::Verify => verify::look(jobs),
            Self::StartVerify => verify::start(jobs, query).await,
            Self::Lost => verify::lost(mirror).await,
        }
    }
}

pub(in crate::server) fn refuse(status: StatusCode, why: &str) -> Response<ApiBody> {
    json(status, &serde_json::json!({ "error": why }))
}

fn unreadable(err: &IndexError) -> Response<ApiBody> {
    refuse(StatusCode::SERVICE_UNAVAILABLE, &err.to_string())
}

fn json(status: StatusCode, value: &impl Serialize) -> Response<ApiBody> {
    let mut text = serde_json::to_vec_pretty(value).expect("it holds strings and numbers only");
    text.push(b'\n');
    let mut response = Response::new(Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
