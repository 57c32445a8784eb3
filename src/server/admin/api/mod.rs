//! The JSON API of the admin side, under `/api/v1`.

mod asked;
mod backup;
mod blocks;
mod carry;
mod change;
mod error;
mod jobs;
mod look;
mod pins;
mod routes;
mod verify;

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use serde::Serialize;

use crate::jobs::look::UsageReports;
use crate::jobs::{JobRunner, Refused, Status, VerifyJobs};
use crate::mirror::Mirror;

use asked::Asked;
pub(in crate::server::admin) use error::{refuse, status_of};
pub(in crate::server::admin) use routes::Route;

pub(in crate::server) type ApiBody = UnsyncBoxBody<Bytes, io::Error>;

/// The description of all calls. A test holds it against [`routes::ROUTES`].
const OPEN_API: &str = include_str!("openapi.json");

/// One call of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::server) enum Call {
    OpenApi,
    Status,
    Backup,
    Pins,
    AddPins,
    RemovePins,
    Blocks,
    AddBlocks,
    RemoveBlocks,
    Verify,
    StartVerify,
    Lost,
    Repositories,
    Usage,
    Activity,
    Tags,
    Inspect,
    Who,
    Coverage,
    Remove,
    Refresh,
    Gc,
    Alias,
    Jobs,
    Job,
    CancelJob,
    Warm,
    Export,
    ExportPart,
    ExportReceipt,
    Import,
    Inventory,
}

/// What calls work with.
#[derive(Clone, Copy)]
pub(in crate::server) struct Parts<'a> {
    pub(in crate::server) mirror: &'a Arc<Mirror>,
    pub(in crate::server) verify_jobs: &'a VerifyJobs,
    pub(in crate::server) usage: &'a UsageReports,
    pub(in crate::server) job_runner: &'a Arc<JobRunner>,
}

impl Route {
    /// Whether the token is needed on loopback too.
    pub(in crate::server) const fn is_guarded(&self) -> bool {
        self.is_guarded
    }

    /// `id` is what stands in the path for `{id}`.
    pub(in crate::server) async fn answer(
        &self,
        parts: Parts<'_>,
        request: Request<Incoming>,
        id: String,
    ) -> Response<ApiBody> {
        let answered = match Asked::new(request, self, id) {
            Ok(asked) => answer(self.call, parts, asked).await,
            Err(refused) => Err(refused),
        };
        answered.unwrap_or_else(|refused| refuse(&refused))
    }
}

async fn answer(call: Call, parts: Parts<'_>, asked: Asked) -> Result<Response<ApiBody>, Refused> {
    let Parts { mirror, verify_jobs, usage, job_runner } = parts;
    match call {
        Call::OpenApi => Ok(text(StatusCode::OK, Bytes::from_static(OPEN_API.as_bytes()))),
        Call::Status => Ok(json(StatusCode::OK, &Status::of_running(mirror, job_runner).await)),
        Call::Backup => Ok(backup::backup(mirror)),
        Call::Pins => pins::list(mirror).await,
        Call::AddPins => pins::add(mirror, &asked).await,
        Call::RemovePins => pins::remove(mirror, &asked).await,
        Call::Blocks => blocks::list(mirror).await,
        Call::AddBlocks => blocks::add(mirror, &asked).await,
        Call::RemoveBlocks => blocks::remove(mirror, &asked).await,
        Call::Verify => Ok(verify::look(verify_jobs)),
        Call::StartVerify => verify::start(verify_jobs, &asked).await,
        Call::Lost => verify::lost(mirror).await,
        Call::Repositories => look::repositories(mirror, usage, &asked).await,
        Call::Usage => look::usage(mirror, usage).await,
        Call::Activity => Ok(look::activity(mirror)),
        Call::Tags => look::tags(mirror, &asked).await,
        Call::Inspect => look::inspect(mirror, &asked).await,
        Call::Who => look::who(mirror, &asked).await,
        Call::Coverage => look::coverage(mirror, asked).await,
        Call::Remove => change::remove(mirror, job_runner, asked).await,
        Call::Refresh => change::refresh(mirror, job_runner, asked).await,
        Call::Alias => change::alias(mirror, asked).await,
        Call::Gc => change::gc(mirror, job_runner, asked).await,
        Call::Jobs => Ok(jobs::list(job_runner)),
        Call::Job => jobs::look(job_runner, &asked),
        Call::CancelJob => jobs::cancel(job_runner, &asked),
        Call::Warm => carry::warm(job_runner, asked).await,
        Call::Export => carry::export(job_runner, asked).await,
        Call::ExportPart => carry::part(job_runner, &asked),
        Call::ExportReceipt => carry::receipt(job_runner, &asked),
        Call::Import => carry::import(job_runner, asked).await,
        Call::Inventory => carry::inventory(mirror).await,
    }
}

pub(in crate::server::admin) fn json(status: StatusCode, value: &impl Serialize) -> Response<ApiBody> {
    let mut text = serde_json::to_vec_pretty(value).expect("it holds strings and numbers only");
    text.push(b'\n');
    self::text(status, text.into())
}

/// JSON that is written already.
fn text(status: StatusCode, json: Bytes) -> Response<ApiBody> {
    let mut response = Response::new(Full::new(json).map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
