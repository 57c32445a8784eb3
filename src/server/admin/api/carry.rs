//! Warm, export, import, inventory: bundles in and out.

use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use futures_util::stream;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderValue, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Incoming;
use serde::Deserialize;
use tokio::sync::mpsc;

use super::asked::Asked;
use super::jobs::{refusal, started};
use super::{ApiBody, json};
use crate::jobs::bundle::layout::Rename;
use crate::jobs::bundle::receipt::Receipt;
use crate::jobs::export::held::WantedPlatforms;
use crate::jobs::export::{Chosen, ExportRequest};
use crate::jobs::import::ImportRequest;
use crate::jobs::warm::WarmRequest;
use crate::jobs::{JobRunner, Refused, inventory as make_inventory};
use crate::mirror::Mirror;

/// An upload from which nothing comes for so long is cut.
const STALL: Duration = Duration::from_mins(1);
/// Largest part of an export: what numbers of JSON hold in every language. Bytes.
const LARGEST_PART: u64 = (1 << 53) - 1;
/// Pieces of an upload that wait to be read.
const PIECES: usize = 16;
/// How long the rest of a refused upload is taken, so that its sender reads the answer.
const DRAIN: Duration = Duration::from_secs(5);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ToExport {
    #[serde(default)]
    references: Vec<String>,
    #[serde(default)]
    all: bool,
    /// As in "7d".
    #[serde(default)]
    used_since: Option<String>,
    #[serde(default)]
    platforms: Vec<String>,
    #[serde(default)]
    referrers: bool,
    /// The text of a receipt.
    #[serde(default)]
    since: Option<String>,
    /// Bytes.
    #[serde(default)]
    split: Option<serde_json::Number>,
}

/// Starts to pull what is named.
pub(super) async fn warm(runner: &Arc<JobRunner>, asked: Asked) -> Result<Response<ApiBody>, Refused> {
    let request: WarmRequest = asked.json().await?;
    if request.references.is_empty() {
        return Err(Refused::invalid("`references` names nothing"));
    }
    WantedPlatforms::parse(&request.platforms).map_err(|err| Refused::invalid(format!("platforms: {err}")))?;
    started(runner.warm(request).await)
}

/// Starts an export. Its parts are fetched by [`part`] when the job offers them.
pub(super) async fn export(runner: &Arc<JobRunner>, asked: Asked) -> Result<Response<ApiBody>, Refused> {
    let told: ToExport = asked.json().await?;
    let used_since = told.used_since.as_deref().map(humantime::parse_duration);
    let used_since = used_since.transpose().map_err(|err| Refused::invalid(format!("used_since: {err}")))?;
    let chosen = match (told.references.is_empty(), told.all, used_since) {
        (false, false, None) => Chosen::Named(told.references),
        (true, true, None) => Chosen::All,
        (true, false, Some(age)) => Chosen::UsedSince(age),
        _ => return Err(Refused::invalid("one of `references`, `all` and `used_since` says what to export")),
    };
    let since = told.since.as_deref().map(|text| Receipt::read(text.as_bytes()));
    let since = since.transpose().map_err(|err| Refused::invalid(format!("since: {err}")))?;
    let platforms =
        WantedPlatforms::parse(&told.platforms).map_err(|err| Refused::invalid(format!("platforms: {err}")))?;
    let split = told.split.map(|split| read_split(&split)).transpose()?;
    let request = ExportRequest { chosen, platforms, referrers: told.referrers, since, split };
    started(runner.export(request))
}

/// A whole number, which JSON may write as `4096.0`.
fn read_split(split: &serde_json::Number) -> Result<u64, Refused> {
    let whole =
        || split.as_f64().filter(|bytes| bytes.fract() == 0.0).and_then(|bytes| format!("{bytes:.0}").parse().ok());
    let bytes = split.as_u64().or_else(whole).filter(|bytes| (1..=LARGEST_PART).contains(bytes));
    bytes.ok_or_else(|| Refused::invalid(format!("split: it is between 1 and {LARGEST_PART} bytes")))
}

/// One part of an export, from 1 on.
pub(super) fn part(runner: &Arc<JobRunner>, asked: &Asked) -> Result<Response<ApiBody>, Refused> {
    let number: u32 = asked.parsed("part")?.unwrap_or(1);
    let nth = (number as usize).checked_sub(1).ok_or_else(|| Refused::invalid("part: they are counted from 1 on"))?;
    let none = || Refused::not_found("there is no such part; the job lists the sizes of those there are");
    let (bytes, pieces) = runner.part(&asked.id, nth).ok_or_else(none)?;
    let (runner, id) = (Arc::clone(runner), asked.id.clone());
    let pieces = stream::unfold((pieces, bytes), move |(mut pieces, left)| {
        let (runner, id) = (Arc::clone(&runner), id.clone());
        async move {
            let piece = pieces.recv().await?;
            let left = left.saturating_sub(piece.as_ref().map_or(0, |bytes| bytes.len() as u64));
            if piece.is_ok() && left == 0 {
                runner.part_is_fetched(&id, nth);
            }
            if let Err(err) = &piece {
                tracing::warn!(job = id, error = %err, "a part of an export was cut short");
            }
            Some((piece.map(Frame::data), (pieces, left)))
        }
    });
    let mut response = Response::new(StreamBody::new(pieces).boxed_unsync());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-tar"));
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(bytes));
    Ok(response)
}

/// What the other side has when it has imported an export.
pub(super) fn receipt(runner: &JobRunner, asked: &Asked) -> Result<Response<ApiBody>, Refused> {
    let receipt = runner.receipt(&asked.id);
    let none = || Refused::not_found("there is no export of this id that is ready");
    Ok(text(receipt.ok_or_else(none)?.as_ref()))
}

/// What is held here, as a receipt.
pub(super) async fn inventory(mirror: &Mirror) -> Result<Response<ApiBody>, Refused> {
    Ok(text(&make_inventory(mirror).await?))
}

fn text(receipt: &Receipt) -> Response<ApiBody> {
    let mut response =
        Response::new(Full::new(Bytes::from(receipt.to_bytes())).map_err(|never| match never {}).boxed_unsync());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// Takes an archive, and answers when all of it has come: the job goes on.
pub(super) async fn import(runner: &Arc<JobRunner>, asked: Asked) -> Result<Response<ApiBody>, Refused> {
    let rename = asked.text("as").map(Rename::parse).transpose().map_err(|err| Refused::invalid(err.to_string()))?;
    let body = asked.into_stream();
    let (pieces, archive) = mpsc::channel(PIECES);
    let archive = Upload { pieces: archive, current: Bytes::new(), has_ended: false };
    let job = runner.import(archive, ImportRequest { rename }).map_err(refusal)?;
    tokio::select! {
        () = pass_on(body, &pieces) => {}
        () = job.cancelled() => {}
    }
    drop(pieces);
    Ok(json(StatusCode::ACCEPTED, &serde_json::json!({ "job": job.report() })))
}

/// A piece of an upload; `None` at its end. An upload that was cut has no end.
type Piece = Option<Bytes>;

async fn pass_on(mut body: Incoming, pieces: &mpsc::Sender<Piece>) {
    loop {
        let Ok(frame) = tokio::time::timeout(STALL, body.frame()).await else { return };
        let piece = match frame {
            None => None,
            Some(Ok(frame)) => match frame.into_data() {
                Ok(bytes) => Some(bytes),
                Err(_trailers) => continue,
            },
            Some(Err(_cut)) => return,
        };
        let is_end = piece.is_none();
        if pieces.send(piece).await.is_err() {
            // Nobody reads any more.
            let rest = async { while let Some(Ok(_)) = body.frame().await {} };
            let _late = tokio::time::timeout(DRAIN, rest).await;
            return;
        }
        if is_end {
            return;
        }
    }
}

/// An upload as a reader, outside the runtime's threads.
struct Upload {
    pieces: mpsc::Receiver<Piece>,
    current: Bytes,
    has_ended: bool,
}

impl Read for Upload {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            if self.has_ended {
                return Ok(0);
            }
            match self.pieces.blocking_recv() {
                Some(Some(bytes)) => self.current = bytes,
                Some(None) => self.has_ended = true,
                None => return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the upload was cut")),
            }
        }
        let length = self.current.as_ref().read(buffer)?;
        self.current.advance(length);
        Ok(length)
    }
}
