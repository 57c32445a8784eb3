//! Signature Version 4 (AWS, "Create a signed AWS API request"), for requests without a query.

use std::fmt::Write as _;

use ring::{digest, hmac};

use super::chain::Keys;
use crate::clock::Timestamp;

/// A request to be signed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unsigned<'a> {
    pub(super) method: &'a str,
    /// Encoded, as it is sent.
    pub(super) path: &'a str,
    /// Small letters, in order. `x-amz-date` and the session's token are added.
    pub(super) headers: &'a [(&'a str, &'a str)],
    pub(super) body: &'a [u8],
    pub(super) region: &'a str,
    pub(super) service: &'a str,
}

/// What is added to the headers of a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Signature {
    /// `x-amz-date`.
    pub(super) date: String,
    /// `authorization`.
    pub(super) authorization: String,
}

impl Unsigned<'_> {
    /// Signs for a moment. The service believes it for some minutes around that.
    pub(super) fn signed(&self, keys: &Keys, now: Timestamp) -> Signature {
        let date: String = now.rfc3339().chars().filter(|c| !matches!(c, '-' | ':')).collect();
        let day = date.split('T').next().unwrap_or_default();
        let mut headers: Vec<(&str, String)> =
            self.headers.iter().map(|(name, value)| (*name, collapsed(value))).collect();
        headers.push(("x-amz-date", date.clone()));
        headers.extend(keys.session.as_ref().map(|token| ("x-amz-security-token", collapsed(token.expose()))));
        headers.sort();
        let names: Vec<&str> = headers.iter().map(|(name, _)| *name).collect();
        let (names, mut canonical) = (names.join(";"), format!("{}\n{}\n\n", self.method, self.path));
        for (name, value) in &headers {
            let _infallible = writeln!(canonical, "{name}:{value}");
        }
        let _infallible = write!(canonical, "\n{names}\n{}", sha256(self.body));
        let scope = format!("{day}/{}/{}/aws4_request", self.region, self.service);
        let to_sign = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{}", sha256(canonical.as_bytes()));
        let first = format!("AWS4{}", keys.secret.expose()).into_bytes();
        let key = [day, self.region, self.service, "aws4_request"]
            .iter()
            .fold(first, |key, part| hmac_sha256(&key, part.as_bytes()));
        let signature = hex(&hmac_sha256(&key, to_sign.as_bytes()));
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, Signature={signature}",
            keys.id.expose()
        );
        Signature { date, authorization }
    }
}

/// Without spaces around it, and with one for several within.
fn collapsed(value: &str) -> String {
    value.split_ascii_whitespace().collect::<Vec<_>>().join(" ")
}

fn sha256(bytes: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, bytes).as_ref())
}

fn hmac_sha256(key: &[u8], message: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message).as_ref().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _infallible = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    const SESSION: &str = "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwAeMicRXmxfpSPfIeoIYRqTflfKD8YUuwthAx7mSEI/qkPpKPi/kMcGdQrmGdeehM4IC1NtBmUpp2wUE8phUZampKsburEDy0KPkyQDYwT7WZ0wq5VSXDvp75YU9HFvlRd8Tx6q6fE8YQcHNVXAkiY9q6d+xo0rKwT38xVqr7ZD0u0iPPkUL64lIZbqBAz+scqKmlzm8FDrypNC9Yjc8fPOLn9FX9KSYvKTr4rvx3iSIlTJabIQwj2ICCR/oLxBA==";

    /// The signature of a request of the suite: at 2015-08-30T12:36:00Z, in `us-east-1`, of the service `service`.
    fn signature(method: &str, headers: &[(&str, &str)], body: &str, session: Option<&str>) -> (String, String) {
        let keys = Keys {
            id: Secret::new("AKIDEXAMPLE"),
            secret: Secret::new("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"),
            session: session.map(Secret::new),
        };
        let mut headers = headers.to_vec();
        headers.push(("host", "example.amazonaws.com"));
        let body = body.as_bytes();
        let request = Unsigned { method, path: "/", headers: &headers, body, region: "us-east-1", service: "service" };
        let signed = request.signed(&keys, Timestamp::from_millis(1_440_938_160_000));
        assert_eq!(signed.date, "20150830T123600Z");
        let rest = signed.authorization.strip_prefix(
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, SignedHeaders=",
        );
        let (names, signature) = rest.unwrap().split_once(", Signature=").unwrap();
        (names.to_owned(), signature.to_owned())
    }

    fn expected(names: &str, signature: &str) -> (String, String) {
        (names.to_owned(), signature.to_owned())
    }

    /// `aws-sig-v4-test-suite`, by the names of its cases.
    #[test]
    fn requests_are_signed_as_the_published_suite_signs_them() {
        assert_eq!(
            signature("GET", &[], "", None),
            expected("host;x-amz-date", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
            "get-vanilla"
        );
        assert_eq!(
            signature("POST", &[], "", None),
            expected("host;x-amz-date", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
            "post-vanilla"
        );
        assert_eq!(
            signature("GET", &[("my-header1", " value1"), ("my-header2", " \"a   b   c\"")], "", None),
            expected(
                "host;my-header1;my-header2;x-amz-date",
                "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736"
            ),
            "get-header-value-trim"
        );
        assert_eq!(
            signature("POST", &[("content-type", "application/x-www-form-urlencoded")], "Param1=value1", None),
            expected(
                "content-type;host;x-amz-date",
                "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a"
            ),
            "post-x-www-form-urlencoded"
        );
        assert_eq!(
            signature("POST", &[], "", Some(SESSION)),
            expected(
                "host;x-amz-date;x-amz-security-token",
                "85d96828115b5dc0cfc3bd16ad9e210dd772bbebba041836c64533a82be05ead"
            ),
            "post-sts-header-before"
        );
    }
}
