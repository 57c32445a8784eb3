//! One beginning of a fill: open, receive, write, announce, and open again where it broke.

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::upstream::{Failure, OpenedBlob, UpstreamError};

use super::lead::{Beginning, Stop};
use super::outcome::PullError;

/// Chunks between the network and the disk.
const PIPE_CHUNKS: usize = 16;
/// What a kill -9 may cost.
const CHECKPOINT_BYTES: u64 = 16 * 1024 * 1024;
/// Set aside ahead of a blob that does not tell its size.
const UNKNOWN_SIZE_STEP: u64 = 1024 * 1024;
/// Connections that broke in a row without bringing a byte.
const MAX_FRUITLESS: u32 = 5;

/// 0.2 s to 3.2 s.
fn backoff(fruitless: u32) -> Duration {
    Duration::from_millis(100) * 2_u32.saturating_pow(fruitless).min(32)
}

impl Beginning<'_> {
    /// Downloads until everything is written. An upstream that is away in mid-download is waited for, as long as for a body
    /// that brings nothing.
    pub(super) async fn download(&mut self) -> Result<(), Stop> {
        let left = self.left;
        let mut fruitless = 0;
        let mut away_since = Instant::now();
        let mut avoid = None;
        let mut rehashed = left == 0;
        loop {
            // Of a file that was complete, one byte is asked again: it shows that this scope may have the blob.
            let resumed = self.size_bytes.map_or(left, |size| left.min(size.saturating_sub(1)));
            let from = if rehashed { self.ingest.written() } else { resumed };
            if self.is_complete() && rehashed && self.announced > 0 {
                return Ok(());
            }
            let stopping = self.mirror.stopping.clone();
            let opened = tokio::select! {
                opened = self.open(from, avoid) => opened,
                () = stopping.cancelled() => return Err(self.stopped()),
            };
            let opened = match opened {
                Ok(opened) => opened,
                // Whoever cannot give the rest may still give the whole.
                Err(error) if from > 0 && matches!(error.failure, Failure::RangeNotThere | Failure::Refused(_)) => {
                    tracing::debug!(digest = %self.fill.digest, %error, "a download cannot be resumed");
                    return Err(Stop::StartAnew);
                }
                Err(error) => {
                    let patient = away_since.elapsed() < self.member.upstream.settings().idle_timeout;
                    if self.announced == 0 || !error.failure.tries_next_endpoint() || !patient {
                        return Err(error.into());
                    }
                    fruitless += 1;
                    let mut pause = backoff(fruitless);
                    if let Failure::BreakerOpen { retry_after, .. } = error.failure {
                        // The mirror's own breaker must not end a download that would outlast the outage.
                        pause = retry_after;
                    }
                    self.pause(pause).await?;
                    continue;
                }
            };
            let endpoint = opened.endpoint;
            self.endpoints.push(endpoint);
            self.learn_size(&opened, endpoint).await?;
            self.fill.opened(self.ingest.file(), self.size_bytes);
            while !rehashed {
                if self.mirror.stopping.is_cancelled() {
                    return Err(self.stopped());
                }
                self.ingest.rehash(left).await?;
                self.announce();
                rehashed = self.ingest.written() >= left;
            }
            let before = self.ingest.written();
            match self.stream(opened).await? {
                None if self.size_bytes.is_none_or(|size| size == self.ingest.written()) => return Ok(()),
                broken => {
                    fruitless = if self.ingest.written() > before { 0 } else { fruitless + 1 };
                    away_since = Instant::now();
                    let failure = broken.unwrap_or_else(|| Failure::Broken("its body ended early".to_owned()));
                    tracing::debug!(digest = %self.fill.digest, %failure, "a download broke");
                    if fruitless >= MAX_FRUITLESS || self.size_bytes.is_none() {
                        return Err(self.member.upstream.error_at(endpoint, failure).into());
                    }
                    avoid = Some(endpoint);
                    if fruitless > 0 {
                        self.pause(backoff(fruitless)).await?;
                    }
                }
            }
        }
    }

    fn is_complete(&self) -> bool {
        self.size_bytes.is_some_and(|size| size == self.ingest.written())
    }

    async fn open(&self, from: u64, avoid: Option<usize>) -> Result<OpenedBlob, UpstreamError> {
        let upstream = &self.member.upstream;
        upstream.open_blob(&self.scope.repository, self.fill.digest, from, avoid, upstream.patience()).await
    }

    async fn pause(&self, pause: Duration) -> Result<(), Stop> {
        tokio::select! {
            () = tokio::time::sleep(pause) => Ok(()),
            () = self.mirror.stopping.cancelled() => Err(self.stopped()),
        }
    }

    fn stopped(&self) -> Stop {
        Stop::Keep(PullError::Internal(format!("{} is shutting down", self.scope.authority)))
    }

    /// The size from the answer, or from a HEAD; another size than before means another blob.
    async fn learn_size(&mut self, opened: &OpenedBlob, endpoint: usize) -> Result<(), Stop> {
        let told = match (opened.size_bytes, self.size_bytes) {
            (None, None) => {
                let upstream = &self.member.upstream;
                let probe = upstream.probe_blob(&self.scope.repository, self.fill.digest, upstream.patience());
                probe.await.ok().flatten()
            }
            (told, _) => told,
        };
        match (told, self.size_bytes) {
            (Some(told), Some(known)) if told != known => {
                tracing::warn!(digest = %self.fill.digest, endpoint, known, told, "a blob changed its size upstream");
                Err(Stop::StartAnew)
            }
            (Some(told), None) => {
                self.reserve(told).await?;
                self.size_bytes = Some(told);
                Ok(())
            }
            // A resumed fill knows its size, and has reserved nothing yet.
            (_, Some(known)) => self.reserve(known).await,
            (None, None) => self.reserve(self.left + UNKNOWN_SIZE_STEP).await,
        }
    }

    /// Sets aside space for so many bytes of the blob, if that is not done.
    async fn reserve(&mut self, size_bytes: u64) -> Result<(), Stop> {
        if self.reserved < size_bytes {
            self.mirror.reserve(&mut self.ingest, self.member, size_bytes).await?;
            self.reserved = size_bytes;
        }
        Ok(())
    }

    /// Receives, writes and announces until the body ends; the failure if it broke.
    async fn stream(&mut self, opened: OpenedBlob) -> Result<Option<Failure>, Stop> {
        let OpenedBlob { start, mut body, .. } = opened;
        let (to_disk, from_network) = mpsc::channel::<Bytes>(PIPE_CHUNKS);
        let stopping = self.mirror.stopping.clone();
        let receive = async move {
            loop {
                let chunk = tokio::select! {
                    chunk = body.chunk() => chunk,
                    () = stopping.cancelled() => return Ok(None),
                };
                match chunk {
                    Ok(Some(chunk)) => {
                        // The writer has stopped, and says why.
                        if to_disk.send(chunk).await.is_err() {
                            return Ok(None);
                        }
                    }
                    Ok(None) => return Ok(Some(())),
                    Err(failure) => return Err(failure),
                }
            }
        };
        let write = async {
            // Dropped where writing ends, so that receiving ends too.
            let mut from_network = from_network;
            let mut position = start;
            let mut chunks = Vec::new();
            while from_network.recv_many(&mut chunks, PIPE_CHUNKS).await > 0 {
                self.accept(&mut position, std::mem::take(&mut chunks)).await?;
            }
            Ok::<(), Stop>(())
        };
        let (received, written) = tokio::join!(receive, write);
        written?;
        match received {
            Ok(Some(())) => Ok(None),
            Ok(None) => Err(self.stopped()),
            Err(failure) => Ok(Some(failure)),
        }
    }

    /// Chunks from `position` on: those before the end of what is written are compared, the others appended.
    async fn accept(&mut self, position: &mut u64, chunks: Vec<Bytes>) -> Result<(), Stop> {
        let mut new = Vec::with_capacity(chunks.len());
        for mut chunk in chunks {
            let known = self.ingest.written().saturating_sub(*position).min(chunk.len() as u64);
            if known > 0 {
                let repeated = chunk.split_to(usize::try_from(known).unwrap_or(usize::MAX));
                let there = self.ingest.file().read(*position, repeated.len()).await?;
                if there != repeated {
                    tracing::warn!(digest = %self.fill.digest, "upstream sent other bytes than before; the download starts anew");
                    return Err(Stop::StartAnew);
                }
                *position += known;
            }
            if !chunk.is_empty() {
                *position += chunk.len() as u64;
                new.push(chunk);
            }
        }
        if self.size_bytes.is_some_and(|size| *position > size) {
            return Err(self.lied());
        }
        if new.is_empty() {
            return Ok(());
        }
        // Without a known size, space is asked for as the blob grows: it may have no end.
        if self.size_bytes.is_none() && *position > self.reserved {
            self.reserve(*position + UNKNOWN_SIZE_STEP).await?;
        }
        self.ingest.append(new).await?;
        self.announce();
        self.maybe_checkpoint();
        Ok(())
    }

    fn announce(&mut self) {
        let written = self.ingest.written();
        self.fill.announce(self.announced..written);
        self.announced = written;
    }

    fn maybe_checkpoint(&mut self) {
        let due = self.ingest.written() - self.checkpointed >= CHECKPOINT_BYTES;
        if due && self.checkpoint.as_ref().is_none_or(tokio::task::JoinHandle::is_finished) {
            self.checkpointed = self.ingest.written();
            let checkpoint = self.ingest.checkpoint(self.size_bytes);
            self.checkpoint = Some(self.mirror.tasks.spawn(async move {
                if let Err(err) = checkpoint.await {
                    tracing::debug!(%err, "a checkpoint of a download failed");
                }
            }));
        }
    }
}
