//! Where an upstream listens, and how it proves who it is.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};

use tokio_rustls::TlsAcceptor;

use super::ca::{ClientCertificates, TestCa};
use super::port::Port;
use super::shared::Shared;
use crate::support::upstream::Upstream;

/// Plain HTTP on `127.0.0.1` unless told otherwise.
pub(crate) struct Builder<'a> {
    ip: IpAddr,
    ca: Option<&'a TestCa>,
    names: Vec<String>,
    clients: ClientCertificates<'a>,
    protocols: &'static [&'static [u8]],
}

impl<'a> Builder<'a> {
    pub(crate) fn new() -> Self {
        Self {
            ip: Ipv4Addr::LOCALHOST.into(),
            ca: None,
            names: Vec::new(),
            clients: ClientCertificates::NotAsked,
            protocols: &[b"h2", b"http/1.1"],
        }
    }

    /// Another loopback address, such as `127.0.0.2` or `::1`.
    pub(crate) fn address(self, ip: &str) -> Self {
        Self { ip: ip.parse().expect("an IP address"), ..self }
    }

    /// HTTPS, with a certificate from `ca` for the address and for `localhost`.
    pub(crate) fn tls(self, ca: &'a TestCa) -> Self {
        Self { ca: Some(ca), ..self }
    }

    /// One more name in the certificate.
    pub(crate) fn name(mut self, name: &str) -> Self {
        self.names.push(name.to_owned());
        self
    }

    pub(crate) fn client_certificates(self, clients: ClientCertificates<'a>) -> Self {
        Self { clients, ..self }
    }

    /// Without HTTP/2, which is otherwise offered under TLS.
    pub(crate) fn http1_only(self) -> Self {
        Self { protocols: &[b"http/1.1"], ..self }
    }

    pub(crate) async fn start(self) -> Upstream {
        let tls = self.ca.map(|ca| {
            let mut config = ca.tls(self.ip, &self.names, self.clients);
            config.alpn_protocols = self.protocols.iter().map(|protocol| protocol.to_vec()).collect();
            TlsAcceptor::from(Arc::new(config))
        });
        let scheme = if tls.is_some() { "https" } else { "http" };
        let port = Port::reserve(self.ip).expect("a loopback port is free");
        let upstream = Upstream { port, tls, shared: Arc::new(Shared::new(scheme)), listening: Mutex::default() };
        upstream.restart().await;
        upstream
    }
}
