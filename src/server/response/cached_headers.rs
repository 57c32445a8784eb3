//! The headers of a hit, kept for the next hit on the same target.

use std::sync::{PoisonError, RwLock};

use http::HeaderMap;
use http::header::AGE;

use crate::mirror::{Outcome, Provenance};
use crate::oci::Digest;

use crate::server::response::error::WireError;
use crate::server::response::headers::{content_headers, provenance_headers};

/// The headers of a hit on one target, kept from the previous hit.
#[derive(Debug, Default)]
pub(in crate::server) struct CachedHeaders {
    made: RwLock<Option<HeaderParts>>,
}

#[derive(Debug)]
struct HeaderParts {
    /// A tag can move, so its headers are kept with the digest that they are for.
    digest: Digest,
    content_type: String,
    headers: HeaderMap,
}

impl CachedHeaders {
    pub(super) fn headers(
        &self,
        digest: &Digest,
        content_type: &str,
        caching: &'static str,
        provenance: &Provenance,
    ) -> Result<HeaderMap, WireError> {
        if provenance.outcome != Outcome::Hit {
            return content_headers(digest, content_type, caching, provenance);
        }
        let made = self.made.read().unwrap_or_else(PoisonError::into_inner);
        let same = made.as_ref().filter(|made| made.digest == *digest && made.content_type == content_type);
        let ready = same.map(|made| made.headers.clone());
        drop(made);
        if let Some(mut headers) = ready {
            provenance_headers(&mut headers, provenance)?;
            return Ok(headers);
        }
        let headers = content_headers(digest, content_type, caching, provenance)?;
        let mut timeless = headers.clone();
        timeless.remove(AGE);
        let made = HeaderParts { digest: *digest, content_type: content_type.to_owned(), headers: timeless };
        *self.made.write().unwrap_or_else(PoisonError::into_inner) = Some(made);
        Ok(headers)
    }
}
