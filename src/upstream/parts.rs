//! Further connections of a download that has one. They are never needed: what they meet counts against nobody.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::{Method, StatusCode};
use tokio::sync::OwnedSemaphorePermit;

use crate::oci::{Digest, Repository};

use super::blobs::{OpenedBlob, question};
use super::breaker::Lane;
use super::error::Failure;
use super::{Deadline, Upstream, body};

/// How long downloads from an endpoint have one connection each after it rationed a further one. A longer Retry-After
/// counts.
const NARROW_FOR: Duration = Duration::from_mins(1);

/// A place among `max_connections` that no download waits for.
pub struct SpareConnection(OwnedSemaphorePermit);

impl Upstream {
    /// A place for one more connection to the endpoint, if it is worth asking. A quarter of the places is left to
    /// downloads that begin.
    pub fn spare_connection(&self, endpoint: usize) -> Option<SpareConnection> {
        let endpoint = self.endpoints.get(endpoint)?;
        let narrow_until = *endpoint.narrow_until.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if endpoint.ignores_ranges.load(Ordering::Relaxed) || self.clock.now() < narrow_until {
            return None;
        }
        if self.downloads.available_permits() <= self.settings.max_connections / 4 {
            return None;
        }
        Arc::clone(&self.downloads).try_acquire_owned().ok().map(SpareConnection)
    }

    /// Opens a part of a blob at the endpoint that sends the rest of it. A failure opens no breaker.
    pub async fn open_part(
        &self,
        repository: &Repository,
        digest: Digest,
        part: Range<u64>,
        endpoint: usize,
        slot: SpareConnection,
        deadline: Deadline,
    ) -> Result<OpenedBlob, Failure> {
        let at = endpoint;
        let endpoint = self.endpoints.get(at).ok_or(Failure::NotFound)?;
        if let Some(refused) = endpoint.breaker.refuses(Lane::Blobs) {
            return Err(refused);
        }
        let question = question(Method::GET, repository, digest, Some((part.start, part.end.checked_sub(1))));
        let answered = tokio::time::timeout_at(deadline, self.exchange(endpoint, &question)).await;
        let response = match answered {
            Ok(Ok(response)) => response,
            Ok(Err(fault)) => {
                if let Failure::RateLimited { retry_after } = &fault.failure {
                    let until = self.clock.now().plus(retry_after.unwrap_or_default().max(NARROW_FOR));
                    *endpoint.narrow_until.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = until;
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
            Some((start, total)) if start == part.start => Ok(self.opened(response, (start, total), at, slot.0)),
            _ => Err(Failure::Refused("its Content-Range is not the range asked for".to_owned())),
        }
    }
}
