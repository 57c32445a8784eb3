//! TLS towards clients. Certificate and key come from files and are reloaded when the files change.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, ServerConfig};

use super::client_certificates::{self, ClientVerifier};
use super::error::CertificateError;
use crate::server::TlsSettings;

/// Whether a listener can be served with these files.
pub fn check_certificates(settings: &TlsSettings) -> Result<(), CertificateError> {
    load(settings)?;
    client_certificates::load(settings).map(|_| ())
}

/// Reads a PEM chain and its key, which belong together.
pub fn load_identity(
    settings: &TlsSettings,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), CertificateError> {
    let (chain, key) = read(settings)?;
    certify(settings, chain.clone(), key.clone_key())?;
    Ok((chain, key))
}

fn read(settings: &TlsSettings) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), CertificateError> {
    let unreadable = |file: &PathBuf| {
        let file = file.clone();
        move |err| CertificateError::Unreadable { file, err }
    };
    let chain = CertificateDer::pem_file_iter(&settings.certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(unreadable(&settings.certificate))?;
    if chain.is_empty() {
        return Err(CertificateError::Empty(settings.certificate.clone()));
    }
    let key = PrivateKeyDer::from_pem_file(&settings.key).map_err(unreadable(&settings.key))?;
    Ok((chain, key))
}

fn load(settings: &TlsSettings) -> Result<CertifiedKey, CertificateError> {
    let (chain, key) = read(settings)?;
    certify(settings, chain, key)
}

fn certify(
    settings: &TlsSettings,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<CertifiedKey, CertificateError> {
    let unusable =
        |err| CertificateError::Unusable { certificate: settings.certificate.clone(), key: settings.key.clone(), err };
    let certified = CertifiedKey::from_der(chain, key, &ring::default_provider()).map_err(unusable)?;
    match certified.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(certified),
        Err(err) => Err(unusable(err)),
    }
}

/// The certificate in use, and what those of clients are verified by.
#[derive(Debug)]
pub(in crate::server) struct Current {
    settings: TlsSettings,
    key: RwLock<Arc<CertifiedKey>>,
    clients: Option<Arc<ClientVerifier>>,
}

impl Current {
    pub(in crate::server) fn load(settings: &TlsSettings) -> Result<Arc<Self>, CertificateError> {
        let key = RwLock::new(Arc::new(load(settings)?));
        let clients = client_certificates::load(settings)?.map(|trusted| Arc::new(ClientVerifier::new(trusted)));
        Ok(Arc::new(Self { settings: settings.clone(), key, clients }))
    }

    /// Uses new files once certificate and key match, and the old ones until then.
    pub(in crate::server) async fn follow(self: Arc<Self>) {
        let mut failed = None;
        loop {
            tokio::time::sleep(self.settings.look_every).await;
            let settings = self.settings.clone();
            let both = move || Ok((load(&settings)?, client_certificates::load(&settings)?));
            let Ok(loaded) = tokio::task::spawn_blocking(both).await else { continue };
            match loaded {
                Ok((new, trusted)) => {
                    failed = None;
                    if self.clients.as_ref().zip(trusted).is_some_and(|(clients, trusted)| clients.replace(trusted)) {
                        tracing::info!("certificates of clients are verified by new authorities");
                    }
                    let is_new = self.key.read().unwrap_or_else(PoisonError::into_inner).cert != new.cert;
                    if is_new {
                        *self.key.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(new);
                        tracing::info!(certificate = %self.settings.certificate.display(), "a new certificate is served");
                    }
                }
                // A mismatch between two writes is no log line. A lasting one is logged once.
                Err(err) => {
                    let text = CertificateError::to_string(&err);
                    if failed.as_ref() != Some(&text) {
                        tracing::warn!(error = %err, "the new certificate cannot be used; the old one is still served");
                        failed = Some(text);
                    }
                }
            }
        }
    }

    pub(in crate::server) fn server_config(self: &Arc<Self>) -> Result<ServerConfig, rustls::Error> {
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?;
        let resolver = Arc::clone(self) as Arc<dyn ResolvesServerCert>;
        let mut config = match &self.clients {
            None => config.with_no_client_auth(),
            Some(clients) => config.with_client_cert_verifier(Arc::clone(clients) as Arc<dyn ClientCertVerifier>),
        }
        .with_cert_resolver(resolver);
        // HTTP/1.1 is preferred: Go's clients do not resume a download after an HTTP/2 stream reset.
        config.alpn_protocols = vec![b"http/1.1".to_vec(), b"h2".to_vec()];
        if self.clients.is_some() {
            // T140: a session that is resumed brings its certificate along, verified when it was still good.
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        } else {
            // Resumption saves returning clients a signature and a round trip.
            config.ticketer = ring::Ticketer::new()?;
        }
        Ok(config)
    }
}

impl ResolvesServerCert for Current {
    fn resolve(&self, _client_hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.key.read().unwrap_or_else(PoisonError::into_inner)))
    }
}
