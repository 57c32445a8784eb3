//! Small documents at URLs that the operator configures, such as the keys of an issuer of tokens.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rustls::pki_types::CertificateDer;
use url::Url;

use super::recipe::ClientError;
use super::tls;
use crate::secret::Secret;
use crate::upstream::error::Failure;

/// Time for the whole answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longest document, in bytes.
const MAX_BYTES: usize = 256 * 1024;

/// A document that was not read.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("{0}")]
    Failed(Failure),
    #[error("it answers with the status {0}")]
    Status(u16),
    #[error("it has more than 256 KiB")]
    TooLong,
    #[error("it has not come within five seconds")]
    TooSlow,
}

/// Reads a document, with `ca` beside the system's trust. Redirects are not followed, since the operator has named the place.
pub async fn read_document(
    url: &Url,
    ca: &[CertificateDer<'static>],
    bearer: Option<&Secret>,
) -> Result<Bytes, DocumentError> {
    let tls = tls::client_config(ca, None, false, false).map_err(ClientError::from)?;
    let builder = reqwest::Client::builder().tls_backend_preconfigured(tls).no_proxy();
    let http = builder.redirect(reqwest::redirect::Policy::none()).referer(false).build().map_err(ClientError::from)?;
    let mut request = http.get(url.clone());
    if let Some(bearer) = bearer {
        request = request.bearer_auth(bearer.expose());
    }
    let read = async {
        let failed = |err| DocumentError::Failed(Failure::of_reqwest(err));
        let mut answer = request.send().await.map_err(failed)?;
        if answer.status() != http::StatusCode::OK {
            return Err(DocumentError::Status(answer.status().as_u16()));
        }
        let mut document = BytesMut::new();
        while let Some(chunk) = answer.chunk().await.map_err(failed)? {
            if document.len() + chunk.len() > MAX_BYTES {
                return Err(DocumentError::TooLong);
            }
            document.extend_from_slice(&chunk);
        }
        Ok(document.freeze())
    };
    tokio::time::timeout(PATIENCE, Box::pin(read)).await.unwrap_or(Err(DocumentError::TooSlow))
}
