//! Certificates of clients are verified against an authority of their own, whose file is followed as those of the server's
//! certificate are.

use std::sync::{Arc, PoisonError, RwLock};

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{WebPkiSupportedAlgorithms, ring};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme};

use super::error::CertificateError;
use crate::server::{ClientCertificates, TlsSettings};

/// What is trusted, and the verifier made of it.
#[derive(Debug)]
pub(super) struct Trusted {
    authorities: Vec<CertificateDer<'static>>,
    verifier: Arc<dyn ClientCertVerifier>,
}

/// Reads the PEM file of authorities; `None` where clients are not asked.
pub(super) fn load(settings: &TlsSettings) -> Result<Option<Trusted>, CertificateError> {
    let Some(ClientCertificates { ca, required }) = &settings.clients else { return Ok(None) };
    let unreadable = |err| CertificateError::Unreadable { file: ca.clone(), err };
    let read = CertificateDer::pem_file_iter(ca).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let authorities = read.map_err(unreadable)?;
    if authorities.is_empty() {
        return Err(CertificateError::Empty(ca.clone()));
    }
    let unusable = |err| CertificateError::NoAuthority { file: ca.clone(), err };
    let mut roots = RootCertStore::empty();
    for authority in &authorities {
        roots.add(authority.clone()).map_err(unusable)?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(roots.into(), Arc::new(ring::default_provider()));
    let builder = if *required { builder } else { builder.allow_unauthenticated() };
    let verifier = builder.build().map_err(|err| unusable(Error::General(err.to_string())))?;
    Ok(Some(Trusted { authorities, verifier }))
}

/// Verifies by what the file held last.
#[derive(Debug)]
pub(super) struct ClientVerifier {
    trusted: RwLock<Trusted>,
    is_required: bool,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ClientVerifier {
    pub(super) fn new(trusted: Trusted) -> Self {
        let is_required = trusted.verifier.client_auth_mandatory();
        let algorithms = ring::default_provider().signature_verification_algorithms;
        Self { trusted: RwLock::new(trusted), is_required, algorithms }
    }

    /// Trusts these authorities from the next handshake on. Whether they are others than before.
    pub(super) fn replace(&self, next: Trusted) -> bool {
        let mut trusted = self.trusted.write().unwrap_or_else(PoisonError::into_inner);
        let is_new = trusted.authorities != next.authorities;
        if is_new {
            *trusted = next;
        }
        is_new
    }
}

impl ClientCertVerifier for ClientVerifier {
    /// None: a client that is told which authorities count shows nothing of another one, and would be taken for one that
    /// has no certificate, where it should learn that its own is wrong.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn client_auth_mandatory(&self) -> bool {
        self.is_required
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verifier = Arc::clone(&self.trusted.read().unwrap_or_else(PoisonError::into_inner).verifier);
        verifier.verify_client_cert(end_entity, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
