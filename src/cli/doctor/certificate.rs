//! How long a certificate lasts.

use roadstead::clock::Clock;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;

use super::finding::Findings;

const FEW_DAYS: i64 = 14;
const DAY_SECONDS: i64 = 24 * 60 * 60;

pub(super) fn look_at_pem(about: &str, pem: &[u8], findings: &mut Findings) {
    match CertificateDer::pem_slice_iter(pem).next() {
        Some(Ok(certificate)) => look(about, &certificate, findings),
        _ => findings.bad(
            about,
            "there is no certificate as PEM",
            "put the chain there, the server's own certificate first",
        ),
    }
}

pub(super) fn look(about: &str, certificate: &CertificateDer<'_>, findings: &mut Findings) {
    let Some(end) = not_after(certificate) else {
        findings.doubt(about, "its dates cannot be read", "look at it with openssl x509 -dates");
        return;
    };
    let now = i64::try_from(Clock::default().now().as_millis() / 1000).unwrap_or(i64::MAX);
    let days = (end - now).div_euclid(DAY_SECONDS);
    if days < 0 {
        findings.bad(
            about,
            format!("has ended {} days ago", -days),
            "renew it; the server takes a new one without a restart",
        );
    } else if days < FEW_DAYS {
        findings.doubt(about, format!("ends in {days} days"), "renew it; the server takes a new one without a restart");
    } else {
        findings.good(about, format!("lasts for {days} days"));
    }
}

/// When it ends, in seconds since 1970 (RFC 5280 section 4.1.2.5).
fn not_after(certificate: &[u8]) -> Option<i64> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    Some(certificate.validity().not_after.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_certificate_is_read() {
        for (year, month, day, seconds) in
            [(2030, 1, 2, 1_893_542_400), (2049, 12, 31, 2_524_521_600), (2060, 2, 29, 2_845_238_400_i64)]
        {
            let mut params = rcgen::CertificateParams::new(["a.test".to_owned()]).unwrap();
            params.not_after = rcgen::date_time_ymd(year, month, day);
            let key = rcgen::KeyPair::generate().unwrap();
            let certificate = params.self_signed(&key).unwrap();
            assert_eq!(not_after(certificate.der()), Some(seconds), "{year}-{month}-{day}");
        }
        for nonsense in [&[][..], &[0x30], &[0x30, 0x84, 0xFF, 0xFF, 0xFF, 0xFF], &[0x30, 0x02, 0x30, 0x00], b"hello"] {
            assert_eq!(not_after(nonsense), None);
        }
    }
}
