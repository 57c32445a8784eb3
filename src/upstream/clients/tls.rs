//! TLS towards upstreams: trusted roots and client certificates.

use std::sync::{Arc, LazyLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::upstream::settings::ClientIdentity;

/// The system's trust store, or the bundled roots if there is none, as in an empty image.
static ROOTS: LazyLock<RootCertStore> = LazyLock::new(|| {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    roots
});

/// Trusts what the system and `ca` vouch for, for HTTP/1.1.
///
/// # Errors
///
/// A certificate of `ca` cannot vouch for others.
pub fn system_trust(ca: &[CertificateDer<'static>]) -> Result<ClientConfig, rustls::Error> {
    client_config(ca, None, false, false)
}

pub(in crate::upstream) fn client_config(
    ca: &[CertificateDer<'static>],
    identity: Option<&ClientIdentity>,
    skip_verify: bool,
    http2: bool,
) -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
    let builder = if ca.is_empty() && !skip_verify {
        builder.with_root_certificates(ROOTS.clone())
    } else {
        let algorithms = provider.signature_verification_algorithms;
        let trusted = if skip_verify { Trusted::Anything } else { Trusted::ListedToo(ListedToo::new(ca, provider)?) };
        builder.dangerous().with_custom_certificate_verifier(Arc::new(Verifier { trusted, algorithms }))
    };
    let mut config = match identity {
        Some(identity) => builder.with_client_auth_cert(identity.chain.clone(), identity.key.clone_key())?,
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = if http2 { vec![b"h2".to_vec(), b"http/1.1".to_vec()] } else { vec![b"http/1.1".to_vec()] };
    Ok(config)
}

/// Whether this can be one of an upstream's `ca`.
pub fn check_ca(certificate: &CertificateDer<'static>) -> Result<(), rustls::Error> {
    RootCertStore::empty().add(certificate.clone())
}

/// Trusts what the system and `ca` vouch for, and a server whose own certificate is in `ca`, though it may vouch for others,
/// as what `openssl req -x509` makes, or somebody unknown has issued it. Other clients take such ones, too.
#[derive(Debug)]
struct ListedToo {
    vouched: Arc<WebPkiServerVerifier>,
    listed: Vec<CertificateDer<'static>>,
}

impl ListedToo {
    fn new(ca: &[CertificateDer<'static>], provider: Arc<CryptoProvider>) -> Result<Self, rustls::Error> {
        let mut roots = ROOTS.clone();
        for certificate in ca {
            roots.add(certificate.clone())?;
        }
        let vouched = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
        let vouched = vouched.map_err(|err| rustls::Error::General(err.to_string()))?;
        Ok(Self { vouched, listed: ca.to_vec() })
    }
}

/// Whether only who vouches for it is wrong. The dates are looked at before that, the names behind it.
fn is_not_vouched(error: &rustls::Error) -> bool {
    let rustls::Error::InvalidCertificate(reason) = error else { return false };
    let is_ca_as_end_entity = matches!(reason, CertificateError::Other(other)
        if matches!(other.0.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity)));
    is_ca_as_end_entity || *reason == CertificateError::UnknownIssuer
}

impl ListedToo {
    fn verify(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<(), rustls::Error> {
        match self.vouched.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            Err(error) if is_not_vouched(&error) && self.listed.iter().any(|listed| listed == end_entity) => {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)
            }
            verified => verified.map(|_| ()),
        }
    }
}

/// Which certificates of servers are accepted.
#[derive(Debug)]
enum Trusted {
    /// `insecure_skip_verify`.
    Anything,
    ListedToo(ListedToo),
}

/// Signatures are checked whatever is trusted.
#[derive(Debug)]
struct Verifier {
    trusted: Trusted,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if let Trusted::ListedToo(listed) = &self.trusted {
            listed.verify(end_entity, intermediates, server_name, ocsp_response, now)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

    use super::*;

    fn params(years: std::ops::Range<i32>, is_ca: bool) -> CertificateParams {
        let mut params = CertificateParams::new(vec!["registry.corp".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(years.start, 1, 1);
        params.not_after = rcgen::date_time_ymd(years.end, 1, 1);
        if is_ca {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        }
        params
    }

    /// Signed by itself, and allowed to issue others.
    fn certificate(years: std::ops::Range<i32>) -> CertificateDer<'static> {
        params(years, true).self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    /// By an issuer that is in no list.
    fn issued(years: std::ops::Range<i32>) -> CertificateDer<'static> {
        let mut of_issuer = params(2000..2060, true);
        of_issuer.distinguished_name.push(DnType::CommonName, "an issuer");
        let issuer = Issuer::new(of_issuer, KeyPair::generate().unwrap());
        params(years, false).signed_by(&KeyPair::generate().unwrap(), &issuer).unwrap().der().clone()
    }

    #[test]
    fn t54_of_a_listed_certificate_the_names_and_dates_are_checked() {
        let year = |year: u64| UnixTime::since_unix_epoch(Duration::from_hours((year - 1970) * 8766));
        let verify = |listed: &CertificateDer<'static>, shown: &CertificateDer<'static>, name: &'static str, at| {
            let verifier = ListedToo::new(std::slice::from_ref(listed), Arc::new(ring::default_provider())).unwrap();
            verifier.verify(shown, &[], &name.try_into().unwrap(), &[], at).is_ok()
        };
        for make in [certificate, issued] {
            let (own, other) = (make(2020..2040), make(2020..2040));
            assert!(verify(&own, &own, "registry.corp", year(2030)));
            assert!(!verify(&own, &own, "evil.test", year(2030)), "another name");
            assert!(!verify(&own, &own, "registry.corp", year(2050)), "too late");
            assert!(!verify(&own, &own, "registry.corp", year(2000)), "too early");
            assert!(!verify(&own, &other, "registry.corp", year(2030)), "not the one that is listed");
        }
    }
}
