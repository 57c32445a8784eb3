//! Checks a signature of AWS, as the service does: from the request as it arrived.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use ring::{digest, hmac};

use crate::support::cloud::Asked;

/// Whether `authorization` is right for this request and this secret key.
pub(super) fn is_signed(asked: &Asked, secret: &str) -> bool {
    let Some(parts) = asked.header("authorization").strip_prefix("AWS4-HMAC-SHA256 ") else { return false };
    let parts: BTreeMap<&str, &str> = parts.split(", ").filter_map(|part| part.split_once('=')).collect();
    let (scope, names) = (parts["Credential"].split_once('/').unwrap().1, parts["SignedHeaders"]);
    assert!(names.split(';').any(|name| name == "host"), "{names}");
    let query = asked.uri.query().unwrap_or_default();
    let mut canonical = format!("{}\n{}\n{query}\n", asked.method, asked.path());
    for name in names.split(';') {
        writeln!(canonical, "{name}:{}", asked.header(name).trim()).unwrap();
    }
    write!(canonical, "\n{names}\n{}", sha256(&asked.body)).unwrap();
    let date = asked.header("x-amz-date");
    let to_sign = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{}", sha256(canonical.as_bytes()));
    let mut key = format!("AWS4{secret}").into_bytes();
    for part in scope.split('/') {
        key = mac(&key, part.as_bytes());
    }
    hex(&mac(&key, to_sign.as_bytes())) == parts["Signature"]
}

fn mac(key: &[u8], message: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message).as_ref().to_vec()
}

fn sha256(bytes: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, bytes).as_ref())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}
