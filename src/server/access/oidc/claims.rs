//! What a token says, and whether it may say it to this server. Pure.

use jsonwebtoken::dangerous::insecure_decode_claims;
use jsonwebtoken::{Algorithm, Validation, decode};
use serde_json::{Map, Value};

use super::issuer::OidcIssuer;
use super::signature::Key;
use crate::clock::Timestamp;
use crate::server::access::{certificate, client};

/// Clocks may differ by so much, in seconds.
const LEEWAY: f64 = 60.0;
/// Longest name of a bearer or a group, in bytes.
const MAX_NAME_BYTES: usize = 255;
/// Groups of a token that count.
const MAX_GROUPS: usize = 256;

/// Why a token is not good. It shows nothing of the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadClaims {
    #[error("its algorithm is not one of its key's")]
    Algorithm,
    #[error("its signature is not the issuer's, or it is not for the `audience`")]
    Signature,
    #[error("it has expired, or does not say until when it is good")]
    Expired,
    #[error("it is of the future: is a clock wrong?")]
    Future,
    #[error("the claim that `name` names is missing, or is no name")]
    Name,
}

/// What a good token says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Bearer {
    pub(super) name: String,
    pub(super) groups: Vec<String>,
    /// With the leeway.
    pub(super) until: Timestamp,
}

/// Who says that it has issued the token. Nothing is verified.
pub(super) fn claimed_issuer(token: &[u8]) -> Option<String> {
    let claims: Map<String, Value> = insecure_decode_claims(token).ok()?;
    claims.get("iss")?.as_str().map(str::to_owned)
}

pub(super) fn verify(
    token: &[u8],
    algorithm: Algorithm,
    key: &Key,
    issuer: &OidcIssuer,
    now: Timestamp,
) -> Result<Bearer, BadClaims> {
    if !key.algorithms.contains(&algorithm) {
        return Err(BadClaims::Algorithm);
    }
    let mut validation = Validation::new(algorithm);
    validation.set_audience(&issuer.audiences);
    validation.set_issuer(&[&issuer.issuer]);
    validation.set_required_spec_claims(&["exp", "iss", "aud"]);
    // Times are compared by our own clock, below.
    validation.validate_exp = false;
    let verified = decode::<Map<String, Value>>(token, &key.key, &validation);
    let claims = Value::Object(verified.map_err(|_bad| BadClaims::Signature)?.claims);
    let now = now.as_millis() as f64 / 1000.0;
    let time = |claim: &str| claims.get(claim).map(|time| time.as_f64().unwrap_or(f64::NAN));
    let expires = time("exp").unwrap_or(f64::NAN);
    // What is no number is not a number here, either.
    if expires.is_nan() || expires + LEEWAY <= now {
        return Err(BadClaims::Expired);
    }
    if ["nbf", "iat"].into_iter().filter_map(time).any(|time| time.is_nan() || time > now + LEEWAY) {
        return Err(BadClaims::Future);
    }
    let name = claim(&claims, &issuer.name).and_then(Value::as_str);
    let name =
        name.map(|name| format!("{}{name}", issuer.prefix)).filter(|name| is_name(name)).ok_or(BadClaims::Name)?;
    let groups = issuer.groups.as_ref().and_then(|groups| claim(&claims, groups));
    let groups = groups.iter().flat_map(|groups| match groups.as_array() {
        Some(groups) => groups.as_slice(),
        None => std::slice::from_ref(*groups),
    });
    let groups = groups.filter_map(Value::as_str).map(|group| format!("{}{group}", issuer.prefix));
    let groups = groups.filter(|group| is_sensible(group)).take(MAX_GROUPS).collect();
    // Within what a timestamp can hold: a cast saturates.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it lies behind now")]
    let until = Timestamp::from_millis(((expires + LEEWAY) * 1000.0) as u64);
    Ok(Bearer { name, groups, until })
}

/// A claim by its name; a claim within others by a JSON pointer, as "/kubernetes.io/namespace".
fn claim<'a>(claims: &'a Value, name: &str) -> Option<&'a Value> {
    if name.starts_with('/') { claims.pointer(name) } else { claims.get(name) }
}

fn is_sensible(name: &str) -> bool {
    (1..=MAX_NAME_BYTES).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ')
}

/// Whether it cannot be taken for a client that is known otherwise.
fn is_name(name: &str) -> bool {
    let kinds = [certificate::PREFIX, "network:"];
    is_sensible(name) && name != client::ANONYMOUS && !kinds.iter().any(|kind| name.starts_with(kind))
}
