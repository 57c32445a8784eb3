//! What a client's certificate says of it. The handshake has verified it by then.

use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;

use crate::clock::Timestamp;

/// Longest name that counts, in bytes. SPIFFE allows 2048, and nobody writes such a rule.
const MAX_NAME_BYTES: usize = 255;
/// Names of one certificate that count.
const MAX_NAMES: usize = 64;
/// In front of the name of a client that is known by its certificate.
pub(super) const PREFIX: &str = "certificate:";

/// The verified certificate of a connection.
#[derive(Debug)]
pub(in crate::server) struct ClientCertificate {
    /// Its first name, behind [`PREFIX`]: the client's in log lines.
    pub(in crate::server) identity: Arc<str>,
    /// The names that rules match: DNS names in lower case, URIs, mail addresses, common names.
    pub(super) names: Vec<String>,
    not_after: Timestamp,
}

impl ClientCertificate {
    /// `None` if it cannot be read, though it was verified.
    pub(in crate::server) fn read(der: &CertificateDer<'_>) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let alternative = certificate.subject_alternative_name().ok()?;
        let alternative = alternative.iter().flat_map(|names| &names.value.general_names);
        let (mut dns, mut others) = (Vec::new(), Vec::new());
        for name in alternative {
            match name {
                GeneralName::DNSName(name) => dns.push(name.to_ascii_lowercase()),
                GeneralName::URI(name) | GeneralName::RFC822Name(name) => others.push((*name).to_owned()),
                GeneralName::OtherName(..)
                | GeneralName::X400Address(_)
                | GeneralName::DirectoryName(_)
                | GeneralName::EDIPartyName(_)
                | GeneralName::IPAddress(_)
                | GeneralName::RegisteredID(_)
                | GeneralName::Invalid(..) => {}
            }
        }
        let common = certificate.subject().iter_common_name().filter_map(|name| name.as_str().ok());
        let mut names = Vec::new();
        for name in dns.into_iter().chain(others).chain(common.map(str::to_owned)) {
            if names.len() < MAX_NAMES && is_sensible(&name) && !names.contains(&name) {
                names.push(name);
            }
        }
        let identity = format!("{PREFIX}{}", names.first().map_or("unnamed", String::as_str)).into();
        let seconds = u64::try_from(certificate.validity().not_after.timestamp()).unwrap_or(0);
        Some(Self { identity, names, not_after: Timestamp::from_millis(seconds.saturating_mul(1000)) })
    }

    /// Whether it has expired since the handshake.
    pub(super) fn is_over(&self, now: Timestamp) -> bool {
        now > self.not_after
    }
}

/// Whether a name can stand in a log line. An authority that is trusted may sign anything.
fn is_sensible(name: &str) -> bool {
    (1..=MAX_NAME_BYTES).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ')
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    #[test]
    fn all_names_count_and_odd_ones_do_not() {
        let mut params = CertificateParams::new(vec!["Node-1.Nodes.Corp".to_owned()]).unwrap();
        let names = ["spiffe://corp/ns/a/sa/b", "ops@corp.test", "node one", "new\nline"];
        params.subject_alt_names.push(SanType::URI(names[0].try_into().unwrap()));
        params.subject_alt_names.push(SanType::Rfc822Name(names[1].try_into().unwrap()));
        params.subject_alt_names.push(SanType::IpAddress([10, 0, 0, 1].into()));
        params.subject_alt_names.push(SanType::DnsName("a\nb".try_into().unwrap()));
        params.distinguished_name.push(DnType::CommonName, names[2]);
        let signed = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let read = ClientCertificate::read(signed.der()).unwrap();
        assert_eq!(read.names, ["node-1.nodes.corp", names[0], names[1], names[2]]);
        assert_eq!(&*read.identity, "certificate:node-1.nodes.corp");
        assert!(ClientCertificate::read(&CertificateDer::from(b"no certificate".as_slice())).is_none());
    }
}
