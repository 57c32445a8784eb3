//! Extra connections for a download that already has one. They are optional, so their failures open no breaker.

use std::ops::Range;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use http::{Method, StatusCode};
use tokio::sync::OwnedSemaphorePermit;

use crate::oci::{Digest, Repository};

use crate::upstream::blobs::{BlobAnswer, OpenedBlob, question};
use crate::upstream::breaker::Lane;
use crate::upstream::error::Failure;
use crate::upstream::request::Requests;
use crate::upstream::{Deadline, RegistryClient, body};

/// How long downloads keep to one connection each after the endpoint rate-limited an extra one. A longer `Retry-After`
/// wins.
const NARROW_FOR: Duration = Duration::from_mins(1);

/// The permit for one extra connection, out of `max_connections`, that no download waits for.
pub struct SpareConnection {
    permit: OwnedSemaphorePermit,
    endpoint: usize,
}

impl SpareConnection {
    /// A permit for one extra connection to the endpoint, if it is worth trying. A quarter of `max_connections` stays free
    /// for new downloads.
    pub fn take(client: &RegistryClient, at: usize) -> Option<Self> {
        let endpoint = client.endpoints.get(at)?;
        let narrow_until = *endpoint.narrow_until.lock().unwrap_or_else(PoisonError::into_inner);
        if endpoint.ignores_ranges.load(Ordering::Relaxed) || client.clock.now() < narrow_until {
            return None;
        }
        if client.downloads.available_permits() <= client.settings.max_connections / 4 {
            return None;
        }
        let permit = Arc::clone(&client.downloads).try_acquire_owned().ok()?;
        Some(Self { permit, endpoint: at })
    }

    /// Opens a part of a blob at the endpoint that already sends another part. A failure opens no breaker.
    pub async fn open_part(
        self,
        client: &RegistryClient,
        repository: &Repository,
        digest: Digest,
        part: Range<u64>,
        deadline: Deadline,
    ) -> Result<OpenedBlob, Failure> {
        let endpoint = client.endpoints.get(self.endpoint).ok_or(Failure::NotFound)?;
        if let Some(refused) = endpoint.breaker.refuses(Lane::Blobs) {
            return Err(refused);
        }
        let question = question(Method::GET, repository, digest, Some((part.start, part.end.checked_sub(1))));
        let answered = tokio::time::timeout_at(deadline, Requests::of(client).exchange(endpoint, &question)).await;
        let response = match answered {
            Ok(Ok(response)) => response,
            Ok(Err(fault)) => {
                if let Failure::RateLimited { retry_after } = &fault.failure {
                    let until = client.clock.now().plus(retry_after.unwrap_or_default().max(NARROW_FOR));
                    *endpoint.narrow_until.lock().unwrap_or_else(PoisonError::into_inner) = until;
                }
                return Err(fault.failure);
            }
            Err(_elapsed) => return Err(Failure::Timeout("no answer within the deadline")),
        };
        if response.status() != StatusCode::PARTIAL_CONTENT {
            endpoint.ignores_ranges.store(true, Ordering::Relaxed);
            return Err(Failure::RangeNotThere);
        }
        match body::content_range(response.headers()) {
            Some((start, size_bytes)) if start == part.start => {
                let answer = BlobAnswer { response, start, size_bytes, endpoint: self.endpoint };
                Ok(client.opened(answer, self.permit, None))
            }
            _ => Err(Failure::Refused("its Content-Range is not the range asked for".to_owned())),
        }
    }
}
