//! The keys of an issuer, and what they sign. Each key has its own list of algorithms, which no token can change.

use std::collections::HashMap;
use std::str::FromStr as _;

use jsonwebtoken::crypto::{CryptoProvider, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, PublicKeyUse};
use jsonwebtoken::signature::{self, Verifier};
use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384,
    RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512,
    RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm,
};

/// Keys of one issuer that count.
const MAX_KEYS: usize = 100;
const OF_RSA: [Algorithm; 6] =
    [Algorithm::RS256, Algorithm::RS384, Algorithm::RS512, Algorithm::PS256, Algorithm::PS384, Algorithm::PS512];

/// A public key, and the algorithms that it may be used with.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) key: DecodingKey,
    pub(super) algorithms: Vec<Algorithm>,
}

/// Reads a set of keys (RFC 7517) by their ids. Keys that are not for signatures, or of a kind that is not known, are left
/// out: shared secrets above all. `None` if it is no such set.
pub(super) fn read_keys(document: &[u8]) -> Option<HashMap<String, Key>> {
    #[derive(serde::Deserialize)]
    struct Set {
        keys: Vec<serde_json::Value>,
    }
    let set: Set = serde_json::from_slice(document).ok()?;
    let keys = set.keys.into_iter().filter_map(|key| serde_json::from_value::<Jwk>(key).ok());
    Some(keys.filter_map(|key| Some((key.common.key_id.clone()?, Key::of(&key)?))).take(MAX_KEYS).collect())
}

impl Key {
    fn of(jwk: &Jwk) -> Option<Self> {
        if jwk.common.public_key_use.as_ref().is_some_and(|wanted| *wanted != PublicKeyUse::Signature) {
            return None;
        }
        let mut algorithms = match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => OF_RSA.to_vec(),
            AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => vec![Algorithm::ES256],
            AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P384 => vec![Algorithm::ES384],
            AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => vec![Algorithm::EdDSA],
            AlgorithmParameters::EllipticCurve(_)
            | AlgorithmParameters::OctetKeyPair(_)
            | AlgorithmParameters::OctetKey(_)
            | AlgorithmParameters::Other(_)
            | _ => return None,
        };
        if let Some(named) = &jwk.common.key_algorithm {
            let named = Algorithm::from_str(&named.to_string()).ok();
            algorithms.retain(|algorithm| Some(*algorithm) == named);
        }
        Some(Self { key: DecodingKey::from_jwk(jwk).ok()?, algorithms })
    }
}

static WITH_RING: CryptoProvider = CryptoProvider {
    signer_factory: |_, _| Err(ErrorKind::UnsupportedAlgorithm.into()),
    verifier_factory: |algorithm, key| verifier(*algorithm, key),
    key_utils: KeyUtils::new_unimplemented(),
};

/// Signatures are verified by ring, as those of TLS are.
pub(super) fn use_ring() {
    // It is the same one each time.
    let _installed = WITH_RING.install_default();
}

enum Known {
    Rsa(&'static RsaParameters),
    Other(&'static dyn VerificationAlgorithm),
}

struct RingVerifier {
    algorithm: Algorithm,
    known: Known,
    key: DecodingKey,
}

fn verifier(algorithm: Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>, Error> {
    let known = match algorithm {
        Algorithm::RS256 => Known::Rsa(&RSA_PKCS1_2048_8192_SHA256),
        Algorithm::RS384 => Known::Rsa(&RSA_PKCS1_2048_8192_SHA384),
        Algorithm::RS512 => Known::Rsa(&RSA_PKCS1_2048_8192_SHA512),
        Algorithm::PS256 => Known::Rsa(&RSA_PSS_2048_8192_SHA256),
        Algorithm::PS384 => Known::Rsa(&RSA_PSS_2048_8192_SHA384),
        Algorithm::PS512 => Known::Rsa(&RSA_PSS_2048_8192_SHA512),
        Algorithm::ES256 => Known::Other(&ECDSA_P256_SHA256_FIXED),
        Algorithm::ES384 => Known::Other(&ECDSA_P384_SHA384_FIXED),
        Algorithm::EdDSA => Known::Other(&ED25519),
        Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512 | _ => {
            return Err(ErrorKind::UnsupportedAlgorithm.into());
        }
    };
    Ok(Box::new(RingVerifier { algorithm, known, key: key.clone() }))
}

impl Verifier<Vec<u8>> for RingVerifier {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), signature::Error> {
        let verified = match (&self.known, self.key.kind()) {
            (Known::Rsa(parameters), DecodingKeyKind::RsaModulusExponent { n, e }) => {
                RsaPublicKeyComponents { n, e }.verify(parameters, message, signature).is_ok()
            }
            (Known::Other(algorithm), DecodingKeyKind::SecretOrDer(key)) => {
                UnparsedPublicKey::new(*algorithm, key).verify(message, signature).is_ok()
            }
            (Known::Rsa(_), DecodingKeyKind::SecretOrDer(_))
            | (Known::Other(_), DecodingKeyKind::RsaModulusExponent { .. }) => false,
        };
        if verified { Ok(()) } else { Err(signature::Error::new()) }
    }
}

impl JwtVerifier for RingVerifier {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    use super::*;

    // A key of 2048 bits, and the signatures of "message" by it, as openssl made them.
    const MODULUS: &str = "yR9U2SNiVX0r_yA_Q605_YFufcFLlNwgbWMsWL6qIXyyYQeKFAwSB0_hjyOGJoI60ySHCupmiJkgm4vCmhThBylePB7xa1kJOM25WTfPb3I1pr\
        uoZtnQtCYE4KAypRr7dWHF_ml7yG1l84K9AUKBW5R2V2tJmVfPeycHRklq90c-kgCrUQKUtQRbWsZLwo46ceqQTjM7IczJEq5QPFTR2Uve0IjX\
        eka_R7kdjKPrAWxPXi6ZgYOTNrSxnuTOj8itoghNyDogpKuGVJbvgmXysXvlPmSgCrD9BetZFrdzTb9xJXRwNjYlxu70uwx12gAfVwPwKuQsjZ\
        Q-l9PXNDqJww";
    const PKCS1: &str = "TUrutypxZ6ljsI-AWzDIu_lWl200sL2naN96GI1qimCXIhZ_rsyfl6YCdGRpUxgzRwXiokD-zDb3JFbsp-E80HK6o-RnDqK8SPzdoSDrv8Xtge\
        nUfLsq9nAdVjUzAMTyjCIx6DyVXi7LNirUJiOkcRWACLWH5OlkD4OVlW9NK8Ts8XbEgDdCMPx-S4Up9HzFiEWQz8__VYhWZpTpjSbHAWnMBOZb\
        tH1t7BIAd_v2T4y0zeD0WlCYtTC9xDDg9zT9AJLE0rQTPN28mhl7C2MnZWaWtTtaSlQkAIe4KKfwPOHWpsHuGJmec-2AiRXJ02w5gGBlXNL271\
        z-70J0nctV_Q";
    const PSS: &str = "g55k3ahLnV7XonnAGEbxdQbP1dCC4HJLPmFf9CiqbGUFu-FvsRt3DPcNdLydJ3rgcgKu5YVftBSL_pMXeu8LcR4I5pZH4jVuFrq_6yKiQ0oBmi\
        PlRsHdxQBJWBMpUi1Eio1F9BbfVaOyXlrI04_FoiI6fyIqWfOvKaKT4aRqo4T-tWuTf9Fxzxx-Y02jHkceOd50oQtlbQ8HDgoSGNtlOAah0ucz\
        4mTJOorU7JMZV6lEhRJLng0WqWNPkGONo0wHKOEWEcPRGmAAf1dZXfESVNx8AH348RCPgbarMb1pbtsYRCgY_iJcw0BR3cej4RBQS9TQAz53px\
        nXWYCCuohUQA";

    fn set(more: &str) -> String {
        format!(r#"{{"keys": [{{"kty": "RSA", "kid": "k", "n": "{MODULUS}", "e": "AQAB"{more}}}]}}"#)
    }

    #[test]
    fn t141_a_key_of_rsa_verifies_by_its_algorithms_only() {
        let verifies = |algorithm: Algorithm, signature: &str, message: &str| {
            let keys = read_keys(set("").as_bytes()).unwrap();
            let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
            verifier(algorithm, &keys["k"].key).is_ok_and(|key| key.verify(message.as_bytes(), &signature).is_ok())
        };
        assert!(verifies(Algorithm::RS256, PKCS1, "message") && verifies(Algorithm::PS256, PSS, "message"));
        assert!(!verifies(Algorithm::RS256, PKCS1, "massage") && !verifies(Algorithm::RS256, PSS, "message"));
        for other in [Algorithm::RS512, Algorithm::ES256, Algorithm::EdDSA, Algorithm::HS256] {
            assert!(!verifies(other, PKCS1, "message"), "{other:?}");
        }
        assert_eq!(read_keys(set("").as_bytes()).unwrap()["k"].algorithms, OF_RSA);
        let named = read_keys(set(r#", "alg": "RS256""#).as_bytes()).unwrap();
        assert_eq!(named["k"].algorithms, [Algorithm::RS256]);
        assert!(read_keys(set(r#", "alg": "HS256""#).as_bytes()).unwrap()["k"].algorithms.is_empty());
    }

    #[test]
    fn t141_shared_secrets_and_keys_for_other_uses_are_left_out() {
        let other = r#"{"keys": [{"kty": "oct", "kid": "a", "k": "c2VjcmV0"}, {"kty": "??", "kid": "b"}, {}, 7,
            {"kty": "EC", "crv": "secp256k1", "kid": "c", "x": "AA", "y": "AA"}]}"#;
        assert!(read_keys(other.as_bytes()).unwrap().is_empty());
        assert!(read_keys(set(r#", "use": "enc""#).as_bytes()).unwrap().is_empty());
        assert!(read_keys(b"[]").is_none() && read_keys(b"<html>").is_none());
    }
}
