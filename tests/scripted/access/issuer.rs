//! A scripted issuer of tokens: its configuration and its keys over HTTP, and what it signs.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// How it answers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Mood {
    Well,
    /// With 503.
    Away,
    /// With far more than a set of keys.
    Huge,
    /// Not at all.
    Silent,
}

/// A key of ES256.
pub(super) struct SigningKey {
    pub(super) id: String,
    pair: EcdsaKeyPair,
}

pub(super) struct Issuer {
    address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
}

struct Shared {
    mood: Mood,
    keys: Vec<Value>,
    /// Paths that were asked for.
    asked: Vec<String>,
}

impl SigningKey {
    pub(super) fn new(id: &str) -> Self {
        let (algorithm, random) = (&ECDSA_P256_SHA256_FIXED_SIGNING, SystemRandom::new());
        let document = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        Self { id: id.to_owned(), pair: EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref(), &random).unwrap() }
    }

    /// The bytes of the public key, which anybody may know.
    pub(super) fn public(&self) -> &[u8] {
        self.pair.public_key().as_ref()
    }

    pub(super) fn jwk(&self) -> Value {
        let (x, y) = self.public()[1..].split_at(32);
        let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        json!({"kty": "EC", "crv": "P-256", "kid": self.id, "use": "sig", "alg": "ES256", "x": part(x), "y": part(y)})
    }

    pub(super) fn sign(&self, claims: &Value) -> String {
        self.sign_as(&json!({"alg": "ES256", "typ": "JWT", "kid": self.id}), claims)
    }

    pub(super) fn sign_as(&self, header: &Value, claims: &Value) -> String {
        let signed = unsigned(header, claims);
        let signature = self.pair.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

/// The part of a token that is signed.
pub(super) fn unsigned(header: &Value, claims: &Value) -> String {
    [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string())).join(".")
}

impl Issuer {
    pub(super) async fn start(keys: &[&SigningKey]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let keys = keys.iter().map(|key| key.jwk()).collect();
        let shared = Arc::new(Mutex::new(Shared { mood: Mood::Well, keys, asked: Vec::new() }));
        let of_server = Arc::clone(&shared);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, address, Arc::clone(&of_server)));
            }
        });
        Self { address, shared }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(super) fn set_mood(&self, mood: Mood) {
        self.shared.lock().unwrap().mood = mood;
    }

    pub(super) fn set_keys(&self, keys: &[&SigningKey]) {
        self.shared.lock().unwrap().keys = keys.iter().map(|key| key.jwk()).collect();
    }

    /// How often its keys, or in a bad mood its configuration, were asked for.
    pub(super) fn asked(&self, path: &str) -> usize {
        self.shared.lock().unwrap().asked.iter().filter(|asked| asked.as_str() == path).count()
    }
}

async fn serve(mut stream: TcpStream, address: SocketAddr, shared: Arc<Mutex<Shared>>) {
    let mut head = Vec::new();
    while !head.windows(4).any(|four| four == b"\r\n\r\n") {
        if stream.read_buf(&mut head).await.is_ok_and(|read| read == 0) {
            return;
        }
    }
    let path = String::from_utf8_lossy(&head).split(' ').nth(1).unwrap().to_owned();
    let (mood, keys) = {
        let mut shared = shared.lock().unwrap();
        shared.asked.push(path.clone());
        (shared.mood, shared.keys.clone())
    };
    let (status, body) = match (mood, path.as_str()) {
        (Mood::Silent, _) => return std::future::pending().await,
        (Mood::Away, _) => (503, String::new()),
        (Mood::Huge, _) => (200, format!("{{\"keys\": [], \"more\": \"{}\"}}", "x".repeat(1_000_000))),
        (Mood::Well, "/.well-known/openid-configuration") => (
            200,
            json!({"issuer": format!("http://{address}"), "jwks_uri": format!("http://{address}/keys")}).to_string(),
        ),
        (Mood::Well, "/keys") => (200, json!({"keys": keys}).to_string()),
        (Mood::Well, _) => (404, String::new()),
    };
    let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
    // The other side may have seen enough.
    let _left = stream.write_all((head + &body).as_bytes()).await;
}
