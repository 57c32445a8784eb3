use std::fmt;
use std::hash::Hash;
use std::str::FromStr;

use serde::{Serialize, Serializer};
use sha2::Digest as _;

use super::text::reads_from_text;

/// A registered digest algorithm that can be verified here (image-spec, descriptor.md).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    Sha256,
    Sha512,
}

impl Algorithm {
    pub const ALL: [Self; 2] = [Self::Sha256, Self::Sha512];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    /// Length of the hash in bytes.
    const fn len(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha512 => 64,
        }
    }
}

/// A checked digest, `algorithm:hex`. The only source of file names in the store.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Digest {
    algorithm: Algorithm,
    /// The hash, zero-filled behind the algorithm's length.
    hash: [u8; 64],
}

/// The text is no digest that can be verified here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidDigest {
    #[error("a digest is `algorithm:hex`, as in `sha256:` and 64 lower-case hex digits")]
    Malformed,
    #[error("only sha256 and sha512 digests can be verified and served")]
    UnsupportedAlgorithm,
}

impl Digest {
    /// The digest of bytes already in memory.
    pub fn of(algorithm: Algorithm, bytes: &[u8]) -> Self {
        let mut hasher = Hasher::new(algorithm);
        hasher.update(bytes);
        hasher.finish()
    }

    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Lower-case hex, without the algorithm.
    pub fn hex(&self) -> String {
        let mut digits = [0; 128];
        self.write_hex(&mut digits).to_owned()
    }

    fn write_hex<'a>(&self, digits: &'a mut [u8; 128]) -> &'a str {
        let length = self.algorithm.len();
        for (pair, byte) in digits.chunks_exact_mut(2).zip(self.hash.iter().take(length)) {
            pair.copy_from_slice(&[hex_digit(byte >> 4), hex_digit(byte & 15)]);
        }
        digits.get(..2 * length).and_then(|hex| std::str::from_utf8(hex).ok()).unwrap_or_default()
    }

    /// The hash's first byte, which is uniformly distributed.
    pub const fn first_byte(&self) -> u8 {
        let [first, ..] = self.hash;
        first
    }

    /// The tag of the referrers tag schema: `sha256-<hex>`, at most 32 and 64 characters (distribution-spec).
    pub fn referrers_tag(&self) -> String {
        let mut hex = self.hex();
        hex.truncate(64);
        format!("{}-{hex}", self.algorithm.name())
    }
}

reads_from_text!(Digest);

impl Hash for Digest {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        // The zeros after the hash are the same in all digests. The length distinguishes the algorithms.
        self.hash.get(..self.algorithm.len()).hash(state);
    }
}

impl FromStr for Digest {
    type Err = InvalidDigest;

    fn from_str(text: &str) -> Result<Self, InvalidDigest> {
        let (name, hex) = text.split_once(':').ok_or(InvalidDigest::Malformed)?;
        let algorithm = match name {
            "sha256" => Algorithm::Sha256,
            "sha512" => Algorithm::Sha512,
            _ if is_algorithm_name(name) && !hex.is_empty() && hex.bytes().all(is_encoded) => {
                return Err(InvalidDigest::UnsupportedAlgorithm);
            }
            _ => return Err(InvalidDigest::Malformed),
        };
        if hex.len() != algorithm.len() * 2 {
            return Err(InvalidDigest::Malformed);
        }
        let mut hash = [0; 64];
        for (byte, pair) in hash.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
            let &[high, low] = pair else { return Err(InvalidDigest::Malformed) };
            *byte = nibble(high)? << 4 | nibble(low)?;
        }
        Ok(Self { algorithm, hash })
    }
}

fn is_algorithm_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"+._-".contains(&b))
}

const fn is_encoded(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'=' | b'_' | b'-')
}

const fn hex_digit(nibble: u8) -> u8 {
    if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 }
}

const fn nibble(hex: u8) -> Result<u8, InvalidDigest> {
    match hex {
        b'0'..=b'9' => Ok(hex - b'0'),
        b'a'..=b'f' => Ok(hex - b'a' + 10),
        _ => Err(InvalidDigest::Malformed),
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.algorithm.name())?;
        f.write_str(":")?;
        f.write_str(self.write_hex(&mut [0; 128]))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Hashes a stream of bytes. The only user of `sha2`.
#[derive(Debug, Clone)]
pub struct Hasher(State);

#[derive(Debug, Clone)]
enum State {
    Sha256(sha2::Sha256),
    Sha512(Box<sha2::Sha512>),
}

impl Hasher {
    pub fn new(algorithm: Algorithm) -> Self {
        Self(match algorithm {
            Algorithm::Sha256 => State::Sha256(sha2::Sha256::new()),
            Algorithm::Sha512 => State::Sha512(Box::default()),
        })
    }

    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            State::Sha256(hasher) => hasher.update(bytes),
            State::Sha512(hasher) => hasher.update(bytes),
        }
    }

    /// The digest of all bytes so far.
    pub fn finish(self) -> Digest {
        let mut hash = [0; 64];
        let (algorithm, sum): (_, &[u8]) = match self.0 {
            State::Sha256(hasher) => (Algorithm::Sha256, &hasher.finalize()),
            State::Sha512(hasher) => (Algorithm::Sha512, &hasher.finalize()),
        };
        for (to, from) in hash.iter_mut().zip(sum) {
            *to = *from;
        }
        Digest { algorithm, hash }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ABC: &str = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn a_digest_prints_as_it_was_parsed_and_as_it_was_computed() {
        let parsed: Digest = ABC.parse().unwrap();
        assert_eq!(parsed.to_string(), ABC);
        assert_eq!(parsed, Digest::of(Algorithm::Sha256, b"abc"));
        let long = Digest::of(Algorithm::Sha512, b"abc");
        assert_eq!(long.to_string().parse(), Ok(long));
        assert!(long.hex().starts_with("ddaf35a193617aba"));
    }

    #[test]
    fn t7_only_checked_lower_case_hex_becomes_a_digest() {
        let upper = ABC.to_uppercase().replace("SHA256", "sha256");
        let short512 = ABC.replace("sha256", "sha512");
        for bad in [
            "",
            "sha256",
            "sha256:",
            "sha256:../../etc",
            upper.as_str(),
            short512.as_str(),
            "sha256:é",
            &ABC.replace("5ad", ""),
        ] {
            assert_eq!(bad.parse::<Digest>(), Err(InvalidDigest::Malformed), "{bad}");
        }
        assert_eq!("blake3:00ff".parse::<Digest>(), Err(InvalidDigest::UnsupportedAlgorithm));
    }
}
