//! A receipt: what a site holds, or what was sent to it. One line for each image and each blob, sorted.
//!
//! ```text
//! roadstead-receipt 1
//! part 2 3
//! image docker.io/library/app:1 sha256:…
//! blob sha256:… 4711 2
//! ```
//!
//! A bundle carries the receipt of all its parts: `part` says which of them it is, and the last word of `blob` in which
//! part a blob is.

use std::collections::{HashMap, HashSet};
use std::io::{self, BufRead, Read as _, Write};

use crate::oci::Digest;

/// The file of a bundle that is its receipt.
pub const RECEIPT_FILE: &str = "roadstead-receipt";
const FIRST_LINE: &str = "roadstead-receipt 1";
/// Longest line, in bytes: two names of a thousand, and a digest.
const MAX_LINE_BYTES: u64 = 8 * 1024;
/// Most blobs, and most images, of a receipt: 160 MB in memory.
const MAX_BLOBS: usize = 1_000_000;

/// What was held or sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Receipt {
    /// Of a bundle in several parts: which one this is, and how many there are.
    pub part: Option<(u32, u32)>,
    /// Names and what they pointed to.
    pub images: HashSet<(String, Digest)>,
    /// Size in bytes, and the part that has it.
    pub blobs: HashMap<Digest, (u64, u32)>,
}

/// Why a receipt is not read.
#[derive(Debug, thiserror::Error)]
pub enum ReceiptRefused {
    #[error("it is no receipt: its first line is not \"{FIRST_LINE}\"")]
    NotOne,
    #[error("its line {0} cannot be read")]
    BadLine(usize),
    #[error("it has more than {MAX_BLOBS} lines of a kind")]
    TooMany,
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
}

impl Receipt {
    /// As [`Self::write`], into memory.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.write(&mut bytes).expect("memory takes what is written");
        bytes
    }

    pub fn read(mut from: impl BufRead) -> Result<Self, ReceiptRefused> {
        let mut receipt = Self::default();
        let mut line = Vec::new();
        for number in 1.. {
            line.clear();
            from.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut line)?;
            if line.is_empty() {
                return if number == 1 { Err(ReceiptRefused::NotOne) } else { Ok(receipt) };
            }
            let text = std::str::from_utf8(&line).map_err(|_no_text| ReceiptRefused::BadLine(number))?;
            // A receipt that was cut ends in the middle of a line.
            let text = text.strip_suffix('\n').ok_or(ReceiptRefused::BadLine(number))?;
            if number == 1 {
                if text != FIRST_LINE {
                    return Err(ReceiptRefused::NotOne);
                }
                continue;
            }
            receipt.take(text).ok_or(ReceiptRefused::BadLine(number))?;
            if receipt.blobs.len() > MAX_BLOBS || receipt.images.len() > MAX_BLOBS {
                return Err(ReceiptRefused::TooMany);
            }
        }
        Ok(receipt)
    }

    fn take(&mut self, line: &str) -> Option<()> {
        let mut words = line.split(' ');
        match words.next()? {
            "part" => self.part = Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?)),
            "image" => {
                let (name, digest) = (words.next()?, words.next()?.parse().ok()?);
                self.images.insert((name.to_owned(), digest));
            }
            "blob" => {
                let (digest, size_bytes) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
                let part = words.next().map_or(Some(0), |part| part.parse().ok())?;
                self.blobs.insert(digest, (size_bytes, part));
            }
            _ => return None,
        }
        words.next().is_none().then_some(())
    }

    /// Writes it: the same bytes for the same content.
    pub fn write(&self, mut to: impl Write) -> io::Result<()> {
        writeln!(to, "{FIRST_LINE}")?;
        if let Some((part, parts)) = self.part {
            writeln!(to, "part {part} {parts}")?;
        }
        let mut images: Vec<_> = self.images.iter().collect();
        images.sort_unstable();
        for (name, digest) in images {
            writeln!(to, "image {name} {digest}")?;
        }
        let mut blobs: Vec<_> = self.blobs.iter().collect();
        blobs.sort_unstable();
        for (digest, (size_bytes, part)) in blobs {
            match part {
                0 => writeln!(to, "blob {digest} {size_bytes}")?,
                part => writeln!(to, "blob {digest} {size_bytes} {part}")?,
            }
        }
        to.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Algorithm;

    #[test]
    fn a_receipt_is_read_as_it_was_written_and_not_if_it_was_cut() {
        let digest = Digest::of(Algorithm::Sha256, b"a");
        let receipt = Receipt {
            part: Some((1, 3)),
            images: HashSet::from([("docker.io/library/app:1".to_owned(), digest)]),
            blobs: HashMap::from([(digest, (4, 2)), (Digest::of(Algorithm::Sha256, b"b"), (5, 0))]),
        };
        let mut written = Vec::new();
        receipt.write(&mut written).unwrap();
        assert_eq!(Receipt::read(written.as_slice()).unwrap(), receipt);
        written.pop();
        assert!(matches!(Receipt::read(written.as_slice()), Err(ReceiptRefused::BadLine(5))));
        for bad in ["", "x\n", "roadstead-receipt 1\nblob x 1\n", "roadstead-receipt 1\nblob\n"] {
            assert!(Receipt::read(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
