//! A JWT by which a service account proves that it has its key (RFC 7523).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::json;

use crate::clock::Timestamp;
use crate::secret::Secret;

/// How long it is believed, in seconds. The most that is allowed.
const LIFE_SECONDS: u64 = 3600;

/// The claim, signed by RS256; `None` if the key cannot be read. `key` is its id and its PEM.
pub(super) fn signed_claim(
    email: &str,
    audience: &str,
    scope: &str,
    key: (Option<&str>, &str),
    now: Timestamp,
) -> Option<Secret> {
    let (id, pem) = key;
    let der = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).ok()?;
    let pair = RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()).ok()?;
    let issued = now.as_millis() / 1000;
    let header = json!({ "alg": "RS256", "typ": "JWT", "kid": id });
    let claims = json!({
        "iss": email, "scope": scope, "aud": audience, "iat": issued, "exp": issued + LIFE_SECONDS,
    });
    let encoded = |value: &serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", encoded(&header), encoded(&claims));
    let mut signature = vec![0; pair.public().modulus_len()];
    pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message.as_bytes(), &mut signature).ok()?;
    Some(Secret::new(format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))))
}
