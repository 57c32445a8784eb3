//! A file's bytes in pieces that are shared between what is there and what was synced.

use std::sync::Arc;

const PIECE: usize = 64 * 1024;

#[derive(Clone, Default)]
pub(super) struct Content {
    /// All whole, the last one padded with zeros.
    pieces: Vec<Arc<Vec<u8>>>,
    pub(super) len: u64,
}

impl Content {
    pub(super) fn read(&self, at: u64, length: usize) -> Vec<u8> {
        let end = self.len.min(at.saturating_add(length as u64));
        let mut bytes = Vec::with_capacity(to_usize(end.saturating_sub(at)));
        let mut at = at;
        while at < end {
            let (piece, within) = (to_usize(at) / PIECE, to_usize(at) % PIECE);
            let take = (PIECE - within).min(to_usize(end - at));
            bytes.extend_from_slice(&self.pieces[piece][within..within + take]);
            at += take as u64;
        }
        bytes
    }

    pub(super) fn write(&mut self, at: u64, mut bytes: &[u8]) {
        let mut at = to_usize(at);
        if self.len < (at + bytes.len()) as u64 {
            self.set_len((at + bytes.len()) as u64);
        }
        while !bytes.is_empty() {
            let within = at % PIECE;
            let take = (PIECE - within).min(bytes.len());
            Arc::make_mut(&mut self.pieces[at / PIECE])[within..within + take].copy_from_slice(&bytes[..take]);
            bytes = &bytes[take..];
            at += take;
        }
    }

    pub(super) fn set_len(&mut self, len: u64) {
        self.pieces.resize_with(to_usize(len).div_ceil(PIECE), || Arc::new(vec![0; PIECE]));
        // Bytes that are cut off must not come back when the file grows again.
        if len < self.len
            && let Some(last) = self.pieces.last_mut()
            && !len.is_multiple_of(PIECE as u64)
        {
            Arc::make_mut(last)[to_usize(len) % PIECE..].fill(0);
        }
        self.len = len;
    }

    /// Piece by piece, this one or the other, as a disk that was writing may leave it.
    pub(super) fn torn(&self, other: &Self, mut takes_this: impl FnMut() -> bool) -> Self {
        let len = if takes_this() { self.len } else { other.len };
        let mut torn = Self::default();
        torn.set_len(len);
        for (nth, piece) in torn.pieces.iter_mut().enumerate() {
            let chosen = if takes_this() { self.pieces.get(nth) } else { other.pieces.get(nth) };
            if let Some(chosen) = chosen {
                *piece = Arc::clone(chosen);
            }
        }
        torn.set_len(len);
        torn
    }
}

fn to_usize(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap()
}
