//! Bytes that a connection has received and not yet given to the disk.
//!
//! Chunks are copied into pieces at once: the connection's own buffer is free for the next read then, while the core's cache
//! still has it. A chunk that was kept would cost it a new one.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::store::Gathering;

#[derive(Default)]
pub(super) struct ReceiveBuffer {
    pieces: VecDeque<Bytes>,
    gathering: Option<Gathering>,
    length: usize,
}

impl ReceiveBuffer {
    /// Bytes.
    pub(super) const fn length(&self) -> usize {
        self.length
    }

    pub(super) fn add(&mut self, chunk: &[u8]) {
        self.length += chunk.len();
        let mut rest = chunk;
        while !rest.is_empty() {
            rest = self.gathering.get_or_insert_default().take(rest);
            if !rest.is_empty() {
                self.end_piece();
            }
        }
    }

    /// Bytes of the first assignment, as far as it has come; 0 if there is none.
    pub(super) fn first_length(&mut self) -> u64 {
        if self.pieces.is_empty() {
            self.end_piece();
        }
        self.pieces.front().map_or(0, Bytes::len) as u64
    }

    /// The next `length` bytes, or all.
    pub(super) fn cut(&mut self, length: u64) -> Vec<Bytes> {
        self.end_piece();
        let mut left = usize::try_from(length).unwrap_or(usize::MAX).min(self.length);
        self.length -= left;
        let mut pieces = Vec::new();
        while left > 0 {
            let Some(front) = self.pieces.front_mut() else { break };
            let assignment = front.split_to(left.min(front.len()));
            left -= assignment.len();
            if front.is_empty() {
                self.pieces.pop_front();
            }
            pieces.push(assignment);
        }
        pieces
    }

    fn end_piece(&mut self) {
        self.pieces.extend(self.gathering.take().map(Gathering::done));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::PIECE_BYTES;

    #[test]
    fn what_comes_in_chunks_is_cut_in_order_and_nothing_is_lost() {
        let content: Vec<u8> = (0..=250).cycle().take(3 * PIECE_BYTES + 7).collect();
        let mut received = ReceiveBuffer::default();
        assert_eq!(received.first_length(), 0);
        content.chunks(100_003).for_each(|chunk| received.add(chunk));
        assert_eq!((received.length(), received.first_length()), (content.len(), PIECE_BYTES as u64));
        let mut seen = Vec::new();
        for length in [1, PIECE_BYTES as u64, 0, u64::MAX] {
            seen.extend(received.cut(length).concat());
        }
        assert!(seen == content, "other bytes");
        assert_eq!((received.length(), received.first_length(), received.cut(1).len()), (0, 0, 0));
    }
}
