//! Several ranges in one body: `multipart/byteranges` (RFC 9110 section 14.6).

use std::ops::Range;

use bytes::Bytes;

use crate::oci::Digest;

/// Characters of a boundary. RFC 2046 allows 70.
const BOUNDARY_LENGTH: usize = 64;

/// The text between the ranges of one body. As an iterator it gives each text with the range that follows it; the last
/// text ends the body, and an empty range follows it.
pub(in crate::server) struct Multipart {
    ranges: std::vec::IntoIter<Range<u64>>,
    /// A part of the content's own hash: no content contains it.
    boundary: String,
    content_type: String,
    size_bytes: u64,
    begun: bool,
    ended: bool,
}

impl Multipart {
    /// `ranges` lie within the content, which has `size_bytes` and the type `content_type`.
    pub(super) fn new(ranges: Vec<Range<u64>>, digest: &Digest, content_type: &str, size_bytes: u64) -> Self {
        let mut boundary = digest.hex();
        boundary.truncate(BOUNDARY_LENGTH);
        Self {
            ranges: ranges.into_iter(),
            boundary,
            content_type: content_type.to_owned(),
            size_bytes,
            begun: false,
            ended: false,
        }
    }

    /// The `Content-Type` of the whole body.
    pub(super) fn content_type(&self) -> String {
        format!("multipart/byteranges; boundary={}", self.boundary)
    }

    /// Length of the whole body, in bytes.
    pub(super) fn length(&self) -> u64 {
        let ranges = self.ranges.as_slice();
        let texts = ranges.iter().enumerate().map(|(nth, range)| self.head(nth == 0, range).len() as u64);
        let bytes = ranges.iter().map(|range| range.end - range.start);
        texts.chain(bytes).sum::<u64>() + self.tail().len() as u64
    }

    fn head(&self, is_first: bool, range: &Range<u64>) -> String {
        let Self { boundary, content_type, size_bytes, .. } = self;
        let (first, last) = (range.start, range.end.saturating_sub(1));
        let before = if is_first { "" } else { "\r\n" };
        format!(
            "{before}--{boundary}\r\nContent-Type: {content_type}\r\nContent-Range: bytes {first}-{last}/{size_bytes}\r\n\r\n"
        )
    }

    fn tail(&self) -> String {
        format!("\r\n--{}--\r\n", self.boundary)
    }
}

impl Iterator for Multipart {
    type Item = (Bytes, Range<u64>);

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(range) = self.ranges.next() {
            let head = self.head(!self.begun, &range);
            self.begun = true;
            return Some((head.into(), range));
        }
        let is_end = !std::mem::replace(&mut self.ended, true);
        is_end.then(|| (self.tail().into(), 0..0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Algorithm;

    #[test]
    fn the_length_is_that_of_what_is_sent() {
        for ranges in [vec![0..1, 5..7], vec![0..10, 10..20, 1000..123_456]] {
            for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
                let digest = Digest::of(algorithm, b"");
                let multipart = Multipart::new(ranges.clone(), &digest, "application/octet-stream", 200_000);
                let (length, kind) = (multipart.length(), multipart.content_type());
                let boundary = kind.split_once("boundary=").unwrap().1.to_owned();
                assert_eq!(boundary.len(), BOUNDARY_LENGTH);
                let pieces: Vec<_> = multipart.collect();
                let sent: u64 = pieces.iter().map(|(text, range)| text.len() as u64 + range.end - range.start).sum();
                assert_eq!(sent, length);
                assert_eq!(pieces.len(), ranges.len() + 1);
                assert!(pieces[0].0.starts_with(format!("--{boundary}\r\n").as_bytes()));
                assert_eq!(pieces.last().unwrap().0, format!("\r\n--{boundary}--\r\n").as_bytes());
            }
        }
    }
}
