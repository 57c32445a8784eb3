//! What stands for a secret in memory: a hash that nobody can make or try offline without a key of this process.

use ring::hmac;

pub(super) type KeyedHash = [u8; 32];

/// A new key, which lasts as long as the process.
pub(in crate::server) fn new_key() -> hmac::Key {
    let mut bytes = [0; 32];
    // Without randomness there are no keys of TLS either.
    getrandom::fill(&mut bytes).expect("the system gives random bytes");
    hmac::Key::new(hmac::HMAC_SHA256, &bytes)
}

pub(super) fn keyed_hash(key: &hmac::Key, secret: &[u8]) -> KeyedHash {
    let mut hash = KeyedHash::default();
    hash.iter_mut().zip(hmac::sign(key, secret).as_ref()).for_each(|(to, from)| *to = *from);
    hash
}
