//! A certificate authority that only the test trusts.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

pub(crate) struct TestCa {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    /// Its servers show its own certificate.
    is_server: bool,
}

/// A certificate and its key, both PEM.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

/// A server's demand for certificates of its clients.
#[derive(Clone, Copy)]
pub(crate) enum ClientCertificates<'a> {
    NotAsked,
    /// Asked for, not insisted on; `Recorded::client_certificate` tells whether one came.
    Wanted(&'a TestCa),
    /// Without one the handshake fails.
    Required(&'a TestCa),
}

impl TestCa {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().expect("ring makes keys");
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "a test authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let pem = params.self_signed(&key).expect("parameters are sound").pem();
        Self { issuer: Issuer::new(params, key), pem, is_server: false }
    }

    /// A self-signed certificate for this name that may issue others too, as `openssl req -x509` makes: its server shows it.
    pub(crate) fn self_signed(name: &str) -> Self {
        let key = KeyPair::generate().expect("ring makes keys");
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name is sound");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).expect("parameters are sound").pem();
        Self { issuer: Issuer::new(params, key), pem, is_server: true }
    }

    /// The root certificate, for a `ca` setting.
    pub(crate) fn pem(&self) -> &str {
        &self.pem
    }

    pub(crate) fn write_pem(&self, path: &Path) {
        std::fs::write(path, &self.pem).expect("the test's directory is writable");
    }

    pub(crate) fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(certificate(&self.pem)).expect("our own root parses");
        roots
    }

    /// A server certificate for names and addresses.
    pub(crate) fn server(&self, names: &[&str]) -> Identity {
        self.issue(names, ExtendedKeyUsagePurpose::ServerAuth)
    }

    pub(crate) fn client(&self, name: &str) -> Identity {
        self.issue(&[name], ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn issue(&self, names: &[&str], usage: ExtendedKeyUsagePurpose) -> Identity {
        self.issue_as(names, |params| params.extended_key_usages = vec![usage])
    }

    /// A certificate that the test adjusts before it is signed.
    pub(crate) fn issue_as(&self, names: &[&str], adjust: impl FnOnce(&mut CertificateParams)) -> Identity {
        let key = KeyPair::generate().expect("ring makes keys");
        let names = names.iter().map(ToString::to_string).collect::<Vec<_>>();
        let mut params = CertificateParams::new(names).expect("names are sound");
        adjust(&mut params);
        let signed = params.signed_by(&key, &self.issuer).expect("parameters are sound");
        Identity { certificate: signed.pem(), key: key.serialize_pem() }
    }

    /// TLS for a server at `ip`, at `localhost` and under `names`.
    pub(crate) fn tls(&self, ip: IpAddr, names: &[String], clients: ClientCertificates<'_>) -> ServerConfig {
        let ip = ip.to_string();
        let names = names.iter().map(String::as_str).chain([ip.as_str(), "localhost"]).collect::<Vec<_>>();
        let own = || Identity { certificate: self.pem.clone(), key: self.issuer.key().serialize_pem() };
        let identity = if self.is_server { own() } else { self.server(&names) };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = |ca: &Self| WebPkiClientVerifier::builder_with_provider(ca.roots().into(), provider.clone());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .expect("ring supports the defaults");
        let builder = match clients {
            ClientCertificates::NotAsked => builder.with_no_client_auth(),
            ClientCertificates::Wanted(ca) => builder
                .with_client_cert_verifier(verifier(ca).allow_unauthenticated().build().expect("a root is there")),
            ClientCertificates::Required(ca) => {
                builder.with_client_cert_verifier(verifier(ca).build().expect("a root is there"))
            }
        };
        builder
            .with_single_cert(vec![certificate(&identity.certificate)], private_key(&identity.key))
            .expect("certificate and key belong together")
    }
}

pub(crate) fn certificate(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).expect("rcgen writes PEM")
}

pub(crate) fn private_key(pem: &str) -> PrivateKeyDer<'static> {
    PrivateKeyDer::from_pem_slice(pem.as_bytes()).expect("rcgen writes PEM")
}
