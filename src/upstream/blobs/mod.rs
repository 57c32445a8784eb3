mod passing;

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::ETAG;
use http::{HeaderValue, Method, StatusCode};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::metrics::{ByAuthority, Counter};
use crate::oci::{Digest, Repository};

use crate::upstream::endpoint::Endpoint;
use crate::upstream::error::{Failure, UpstreamError};
use crate::upstream::request::{AnsweredIn, Fault, Kind, Question, Requests};
use crate::upstream::{Deadline, RegistryClient, body};

pub use passing::PassingPlace;
pub(super) use passing::Places;
use passing::{Connection, Lent};

/// A blob's response, whose body is still to be read.
pub struct OpenedBlob {
    /// Position of the first byte: as requested, or 0 if the upstream ignores ranges.
    pub start: u64,
    /// Size of the whole blob, if the upstream gives it.
    pub size_bytes: Option<u64>,
    pub body: BlobBody,
    /// The entity tag of the upstream's answer, if any.
    pub etag: Option<HeaderValue>,
    /// Index of the endpoint that sends it.
    pub endpoint: usize,
    /// Time from request to response head, including a new connection, without sign-in and redirects.
    pub answered_in: Duration,
}

/// A part of a blob, as proof that a scope may read it.
pub struct ShownBytes {
    pub bytes: Bytes,
    /// Size of the whole blob, if the upstream gives it.
    pub size_bytes: Option<u64>,
    /// Index of the endpoint that sent it.
    pub endpoint: usize,
}

/// The chunks of a blob's body. Holds one of the upstream's connection permits.
pub struct BlobBody {
    connection: Held,
    idle: Duration,
    received: Counter,
}

enum Held {
    Own(Connection),
    /// A client that waits may take it from one that does not read.
    Lent(Lent),
}

impl BlobBody {
    /// The next chunk; `None` at the end. Each chunk has a deadline, the whole body has none.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Failure> {
        let chunk = match &mut self.connection {
            Held::Own(connection) => connection.chunk(self.idle).await?,
            Held::Lent(lent) => lent.chunk().await?,
        };
        if let Some(chunk) = &chunk {
            self.received.inc_by(chunk.len() as u64);
        }
        Ok(chunk)
    }
}

/// An answer that has a blob, from `start` on.
pub(super) struct BlobAnswer {
    pub(super) response: reqwest::Response,
    pub(super) start: u64,
    /// Of the whole blob, if the upstream gives it.
    pub(super) size_bytes: Option<u64>,
    pub(super) endpoint: usize,
}

/// The range to ask for; `None` asks for the whole blob.
fn asked_range(from: u64, end: Option<u64>) -> Option<(u64, Option<u64>)> {
    let last = end.and_then(|end| end.checked_sub(1));
    (from > 0 || last.is_some()).then_some((from, last))
}

impl RegistryClient {
    /// Opens a blob at `from`, up to its end or to `end`. `avoid`, the endpoint whose body has just broken, is asked last.
    pub async fn open_blob(
        &self,
        repository: &Repository,
        digest: Digest,
        (from, end): (u64, Option<u64>),
        avoid: Option<usize>,
        deadline: Deadline,
    ) -> Result<OpenedBlob, UpstreamError> {
        let range = asked_range(from, end);
        // A download whose body broke tries again by itself.
        let once = avoid.map(|_| self.asking_once());
        let this = once.as_ref().unwrap_or(self);
        if let Some(avoid) = avoid.filter(|_| self.endpoints.len() > 1) {
            let skip = |at| at == avoid || self.is_marked_bad(at, digest);
            match this.open_range(&self.downloads, repository, digest, range, skip, deadline).await {
                Err(error) if error.failure.tries_next_endpoint() => {}
                answer => return answer,
            }
        }
        let skip = |at| self.is_marked_bad(at, digest);
        this.open_range(&self.downloads, repository, digest, range, skip, deadline).await
    }

    /// A place for a blob that is passed through; if it must, that of a client that does not read.
    pub async fn place(&self, deadline: Deadline) -> Result<PassingPlace, UpstreamError> {
        Ok(self.places.keep(self.passing_slot(deadline).await?))
    }

    async fn passing_slot(&self, deadline: Deadline) -> Result<OwnedSemaphorePermit, UpstreamError> {
        self.refuse_by_breakers()?;
        tokio::select! {
            slot = self.slot(&self.passing, deadline) => slot,
            never = self.places.take_stalled(&self.passing, self.settings.idle_timeout) => match never {},
        }
    }

    /// Opens a blob at `from`, up to its end or to `end`, for pass-through, read at one client's pace. It uses no connection
    /// of the downloads.
    pub async fn pass_blob(
        &self,
        repository: &Repository,
        digest: Digest,
        (from, end): (u64, Option<u64>),
        place: Option<PassingPlace>,
        deadline: Deadline,
    ) -> Result<OpenedBlob, UpstreamError> {
        let range = asked_range(from, end);
        let skip = |at| self.is_marked_bad(at, digest);
        let slot = match place.and_then(PassingPlace::use_it) {
            Some(slot) => slot,
            None => self.passing_slot(deadline).await?,
        };
        let answer = self.ask_for(repository, digest, range, skip, deadline).await?;
        Ok(self.opened(answer, slot, Some(&self.places)))
    }

    /// The bytes of `range`, to prove that a scope serves the stored blob. If the upstream sends the blob from its start,
    /// a short prefix is skipped; a long one fails with `RangeNotThere`.
    pub async fn read_blob_range(
        &self,
        repository: &Repository,
        digest: Digest,
        range: Range<u64>,
        deadline: Deadline,
    ) -> Result<ShownBytes, UpstreamError> {
        const MAX_SKIPPED: u64 = 1024 * 1024;
        let asked = Some((range.start, range.end.checked_sub(1)));
        let read = async {
            let mut opened = self.open_range(&self.downloads, repository, digest, asked, |_| false, deadline).await?;
            let fail = |failure| self.error_at(opened.endpoint, failure);
            if range.start - opened.start > MAX_SKIPPED {
                return Err(fail(Failure::RangeNotThere));
            }
            let mut bytes = BytesMut::new();
            let mut at = opened.start;
            while at < range.end {
                let Some(chunk) = opened.body.chunk().await.map_err(fail)? else { break };
                let skip = range.start.saturating_sub(at).min(chunk.len() as u64);
                let take = (range.end - at).min(chunk.len() as u64);
                if skip < take {
                    let within = usize::try_from(skip).unwrap_or(0)..usize::try_from(take).unwrap_or(0);
                    bytes.extend_from_slice(chunk.get(within).unwrap_or_default());
                }
                at += chunk.len() as u64;
            }
            Ok(ShownBytes { bytes: bytes.freeze(), size_bytes: opened.size_bytes, endpoint: opened.endpoint })
        };
        let late = || self.error_at(0, Failure::Timeout("its body did not come in time"));
        tokio::time::timeout_at(deadline, read).await.unwrap_or_else(|_elapsed| Err(late()))
    }

    /// Checks that this scope serves the blob; gives its size if known. Uses HEAD, or GET of the first byte if HEAD is
    /// refused, answered with 404, as by some proxies until they have fetched the blob, or gives the size of nothing.
    pub async fn probe_blob(
        &self,
        repository: &Repository,
        digest: Digest,
        deadline: Deadline,
    ) -> Result<Option<u64>, UpstreamError> {
        let head = &question(Method::HEAD, repository, digest, None);
        let first_byte = &question(Method::GET, repository, digest, Some((0, Some(0))));
        let is_nothing = Digest::of(digest.algorithm(), b"") == digest;
        let believable = |size: Option<u64>| size.filter(|size| *size > 0 || is_nothing);
        Requests::of(self)
            .over_endpoints(
                Kind::Blob,
                deadline,
                |_| false,
                |_, endpoint| async move {
                    match Requests::of(self).exchange(&endpoint, head).await {
                        Ok(response) => {
                            if let Some(length) = believable(body::content_length(response.headers())) {
                                return Ok(Some(length));
                            }
                        }
                        Err(Fault { failure: Failure::HeadRefused | Failure::NotFound, .. }) => {}
                        Err(fault) => return Err(fault),
                    }
                    match Requests::of(self).exchange(&endpoint, first_byte).await {
                        Ok(response) if response.status() == StatusCode::PARTIAL_CONTENT => {
                            Ok(body::content_range(response.headers()).and_then(|(_, total)| total))
                        }
                        Ok(response) => Ok(believable(body::content_length(response.headers()))),
                        // 416: an empty blob has no first byte.
                        Err(Fault { failure: Failure::RangeNotThere, .. }) => Ok(believable(Some(0))),
                        Err(fault) => Err(fault),
                    }
                },
            )
            .await
    }

    async fn open_range(
        &self,
        slots: &Arc<Semaphore>,
        repository: &Repository,
        digest: Digest,
        range: Option<(u64, Option<u64>)>,
        skip: impl Fn(usize) -> bool,
        deadline: Deadline,
    ) -> Result<OpenedBlob, UpstreamError> {
        self.refuse_by_breakers()?;
        let slot = self.slot(slots, deadline).await?;
        let answer = self.ask_for(repository, digest, range, skip, deadline).await?;
        Ok(self.opened(answer, slot, None))
    }

    fn refuse_by_breakers(&self) -> Result<(), UpstreamError> {
        Requests::of(self).refused_by_breakers(Kind::Blob).map_or(Ok(()), Err)
    }

    async fn slot(&self, slots: &Arc<Semaphore>, deadline: Deadline) -> Result<OwnedSemaphorePermit, UpstreamError> {
        // A wait in our own queue must not look like a slow endpoint, so the endpoint keeps half of the time.
        let max_wait = deadline.saturating_duration_since(Deadline::now()) / 2;
        let wait = tokio::time::timeout(max_wait, Arc::clone(slots).acquire_owned());
        let Ok(Ok(slot)) = wait.await else {
            return Err(self.error_at(0, Failure::Crowded("`max_connections` downloads are running")));
        };
        Ok(slot)
    }

    async fn ask_for(
        &self,
        repository: &Repository,
        digest: Digest,
        range: Option<(u64, Option<u64>)>,
        skip: impl Fn(usize) -> bool,
        deadline: Deadline,
    ) -> Result<BlobAnswer, UpstreamError> {
        let question = &question(Method::GET, repository, digest, range);
        let (at, response) = Requests::of(self)
            .over_endpoints(Kind::Blob, deadline, skip, |at, endpoint| async move {
                let response = Requests::of(self).exchange(&endpoint, question).await?;
                Ok::<_, Fault>((at, response))
            })
            .await?;
        let first = range.map_or(0, |(first, _)| first);
        let (start, size_bytes) = if response.status() == StatusCode::PARTIAL_CONTENT {
            match body::content_range(response.headers()) {
                Some((start, total)) if start == first => (start, total),
                _ => {
                    let why = "its Content-Range is not the range asked for".to_owned();
                    return Err(self.error_at(at, Failure::Refused(why)));
                }
            }
        } else {
            (0, body::content_length(response.headers()))
        };
        Ok(BlobAnswer { response, start, size_bytes, endpoint: at })
    }

    /// With `places`, another client may take the place of this one.
    pub(super) fn opened(&self, answer: BlobAnswer, slot: OwnedSemaphorePermit, places: Option<&Places>) -> OpenedBlob {
        let BlobAnswer { response, start, size_bytes, endpoint } = answer;
        let etag = response.headers().get(ETAG).cloned();
        let answered_in = response.extensions().get::<AnsweredIn>().map_or(Duration::ZERO, |answered_in| answered_in.0);
        let received = self.metrics.upstream_bytes.get_or_create(&ByAuthority::of(&self.settings.name)).clone();
        let (connection, idle) = (Connection { response, _slot: slot }, self.settings.idle_timeout);
        let connection = match places {
            Some(places) => Held::Lent(places.lend(connection, idle)),
            None => Held::Own(connection),
        };
        let body = BlobBody { connection, idle, received };
        OpenedBlob { start, size_bytes, body, etag, endpoint, answered_in }
    }

    /// A failure of the endpoint with this index.
    pub fn error_at(&self, endpoint: usize, failure: Failure) -> UpstreamError {
        let endpoint: Option<&Arc<Endpoint>> = self.endpoints.get(endpoint);
        match endpoint {
            Some(endpoint) => endpoint.error(failure),
            None => UpstreamError { endpoint: self.authority.as_str().into(), failure },
        }
    }
}

pub(super) fn question(
    method: Method,
    repository: &Repository,
    digest: Digest,
    range: Option<(u64, Option<u64>)>,
) -> Question {
    Question {
        method,
        kind: Kind::Blob,
        repository: repository.clone(),
        tail: format!("blobs/{digest}"),
        query: None,
        range,
    }
}
