//! The bytes that a registry serves, readable at any offset.
//!
//! A blob of a gigabyte needs no memory: its bytes are slices of one small static pool, chosen by a hash of seed and
//! position. No block is like its neighbour, so a client that puts a segment in the wrong place is found out.

use std::sync::{Arc, OnceLock};

use bytes::{Bytes, BytesMut};
use sha2::{Digest, Sha256, Sha512};

const BLOCK: u64 = 64 * 1024;
const POOL: usize = 4 * 1024 * 1024;
const HEADER: usize = 16;

/// Bytes in memory, or bytes made by offset; either may carry lies (a flipped byte, another length).
#[derive(Clone, Debug)]
pub(crate) struct Content {
    base: Base,
    size: u64,
    flipped: Option<u64>,
    digests: Arc<Digests>,
}

#[derive(Clone, Debug)]
enum Base {
    Bytes(Bytes),
    Generated { seed: u64, size: u64 },
}

#[derive(Debug, Default)]
struct Digests {
    sha256: OnceLock<String>,
    sha512: OnceLock<String>,
}

/// Pseudo-random bytes, the same for the same size and seed, and different for any other.
pub(crate) fn blob(size: u64, seed: u64) -> Content {
    Content::new(Base::Generated { seed, size }, size)
}

impl Content {
    fn new(base: Base, size: u64) -> Self {
        Self { base, size, flipped: None, digests: Arc::default() }
    }

    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Computed once, for all clones.
    pub(crate) fn sha256(&self) -> String {
        self.digests.sha256.get_or_init(|| self.hash::<Sha256>("sha256")).clone()
    }

    pub(crate) fn sha512(&self) -> String {
        self.digests.sha512.get_or_init(|| self.hash::<Sha512>("sha512")).clone()
    }

    fn hash<D: Digest>(&self, algorithm: &str) -> String {
        let mut hash = D::new();
        let mut offset = 0;
        while offset < self.size {
            let piece = self.piece(offset, BLOCK);
            hash.update(&piece);
            offset += piece.len() as u64;
        }
        named::<D>(algorithm, hash)
    }

    /// Some bytes from `offset`: at least one unless at the end, at most `max`.
    pub(crate) fn piece(&self, offset: u64, max: u64) -> Bytes {
        let max = max.min(self.size.saturating_sub(offset));
        let piece = self.base.piece(offset, max);
        match self.flipped {
            Some(at) if at >= offset && at - offset < piece.len() as u64 => {
                let mut changed = BytesMut::from(&piece[..]);
                changed[index(at - offset)] ^= 0xff;
                changed.freeze()
            }
            Some(_) | None => piece,
        }
    }

    /// The bytes of `first..end`, clamped to the size.
    pub(crate) fn slice(&self, first: u64, end: u64) -> Bytes {
        let end = end.min(self.size);
        let mut whole = BytesMut::with_capacity(index(end.saturating_sub(first)));
        let mut offset = first;
        while offset < end {
            let piece = self.piece(offset, end - offset);
            whole.extend_from_slice(&piece);
            offset += piece.len() as u64;
        }
        whole.freeze()
    }

    pub(crate) fn to_bytes(&self) -> Bytes {
        self.slice(0, self.size)
    }

    /// The same with one byte inverted: right length, wrong digest.
    pub(crate) fn with_wrong_byte(&self, offset: u64) -> Self {
        Self { flipped: Some(offset), ..Self::new(self.base.clone(), self.size) }
    }

    /// The same with another length: cut, or followed by zeros.
    pub(crate) fn with_size(&self, size: u64) -> Self {
        Self { flipped: self.flipped, ..Self::new(self.base.clone(), size) }
    }
}

impl Base {
    fn piece(&self, offset: u64, max: u64) -> Bytes {
        let size = match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Generated { size, .. } => *size,
        };
        if offset >= size {
            return Bytes::from(vec![0; index(max.min(BLOCK))]);
        }
        let within = offset % BLOCK;
        match self {
            Self::Bytes(bytes) => bytes.slice(index(offset)..index(size.min(offset.saturating_add(max)))),
            Self::Generated { seed, size } => {
                let length = index(max.min(BLOCK - within).min(size - offset));
                let start = index(mix(*seed ^ mix(offset / BLOCK)) % (POOL as u64 - BLOCK)) + index(within);
                let made = &pool()[start..start + length];
                if offset >= HEADER as u64 {
                    return Bytes::from_static(made);
                }
                // Seed and size stand in front, so that no two blobs can be equal by chance.
                let header = [seed.to_le_bytes(), size.to_le_bytes()].concat();
                let header = &header[index(offset)..HEADER.min(index(offset) + length)];
                Bytes::from([header, &made[header.len()..]].concat())
            }
        }
    }
}

fn pool() -> &'static [u8] {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    BYTES.get_or_init(|| (0..POOL as u64 / 8).flat_map(|word| mix(word).to_le_bytes()).collect())
}

/// The finaliser of splitmix64.
fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn index(offset: u64) -> usize {
    usize::try_from(offset).expect("tests run on 64 bits")
}

fn named<D: Digest>(algorithm: &str, hash: D) -> String {
    let hex = hash.finalize().iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
    format!("{algorithm}:{hex}")
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    named("sha256", Sha256::new().chain_update(bytes))
}

pub(crate) fn sha512(bytes: &[u8]) -> String {
    named("sha512", Sha512::new().chain_update(bytes))
}

impl<T: Into<Bytes>> From<T> for Content {
    fn from(bytes: T) -> Self {
        let bytes = bytes.into();
        let size = bytes.len() as u64;
        Self::new(Base::Bytes(bytes), size)
    }
}

impl From<&Self> for Content {
    fn from(content: &Self) -> Self {
        content.clone()
    }
}
