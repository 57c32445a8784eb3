//! How long a certificate lasts.

use roadstead::clock::Clock;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

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

/// `notAfter`, in seconds since 1970 (RFC 5280 section 4.1).
fn not_after(certificate: &[u8]) -> Option<i64> {
    let (_, certificate, _) = element(certificate)?;
    let (_, mut fields, _) = element(certificate)?;
    // The version is the only one that may be missing.
    if fields.first() == Some(&0xA0) {
        fields = element(fields)?.2;
    }
    // Serial number, algorithm, issuer.
    for _ in 0..3 {
        fields = element(fields)?.2;
    }
    let (_, validity, _) = element(fields)?;
    let (_, _, rest) = element(validity)?;
    let (tag, time, _) = element(rest)?;
    let text = str::from_utf8(time).ok()?.strip_suffix('Z')?;
    let (year, rest) = match tag {
        0x17 => (text.get(..2)?.parse::<i64>().ok()?, text.get(2..)?),
        0x18 => (text.get(..4)?.parse::<i64>().ok()?, text.get(4..)?),
        _ => return None,
    };
    let year = match (tag, year) {
        (0x17, 0..50) => year + 2000,
        (0x17, _) => year + 1900,
        _ => year,
    };
    let part = |at: usize| rest.get(at..at + 2)?.parse::<i64>().ok();
    let (month, day, hour, minute, second) = (part(0)?, part(2)?, part(4)?, part(6)?, part(8)?);
    Some(((days_since_1970(year, month, day) * 24 + hour) * 60 + minute) * 60 + second)
}

/// Of a DER element: its tag, what is in it, and what comes behind it.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, bytes) = bytes.split_first()?;
    let (&first, bytes) = bytes.split_first()?;
    let (length, bytes) = match first {
        0..=0x7F => (usize::from(first), bytes),
        0x81..=0x84 => {
            let (length, bytes) = bytes.split_at_checked(usize::from(first & 0x7F))?;
            (length.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)), bytes)
        }
        _ => return None,
    };
    let (inside, behind) = bytes.split_at_checked(length)?;
    Some((tag, inside, behind))
}

/// Of the Gregorian calendar; the year begins in March here.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let month = (month + 9) % 12;
    let of_year = (153 * month + 2) / 5 + day - 1;
    365 * year + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_certificate_is_read() {
        for (year, month, day, seconds) in
            [(2030, 1, 2, 1_893_542_400), (2049, 12, 31, 2_524_521_600), (2060, 2, 29, 2_845_152_000_i64)]
        {
            let mut params = rcgen::CertificateParams::new(["a.test".to_owned()]).unwrap();
            params.not_after = rcgen::date_time_ymd(year, month, day);
            let key = rcgen::KeyPair::generate().unwrap();
            let certificate = params.self_signed(&key).unwrap();
            assert_eq!(not_after(certificate.der()), Some(seconds), "{year}-{month}-{day}");
        }
        assert_eq!(days_since_1970(1970, 1, 1), 0);
        for nonsense in [&[][..], &[0x30], &[0x30, 0x84, 0xFF, 0xFF, 0xFF, 0xFF], &[0x30, 0x02, 0x30, 0x00], b"hello"] {
            assert_eq!(not_after(nonsense), None);
        }
    }
}
