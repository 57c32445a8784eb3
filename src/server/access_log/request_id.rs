//! Request ids for log lines. They are unique, but neither secret nor hard to guess.

use std::cell::Cell;

/// 16 hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::server) struct RequestId([u8; 16]);

thread_local! {
    /// State of this thread's generator. Without randomness, threads repeat each other's ids, which only logs show.
    static STATE: Cell<u64> = {
        let mut seed = [0; 8];
        let _no_randomness = getrandom::fill(&mut seed);
        Cell::new(u64::from_le_bytes(seed))
    };
}

impl RequestId {
    /// The next value of splitmix64, which passes through all 2^64 states.
    pub(in crate::server) fn next() -> Self {
        let state = STATE.try_with(|state| {
            state.set(state.get().wrapping_add(0x9e37_79b9_7f4a_7c15));
            state.get()
        });
        let mut id = state.unwrap_or_default();
        id = (id ^ (id >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        id = (id ^ (id >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        id ^= id >> 31;
        let mut hex = [0; 16];
        for (digit, nth) in hex.iter_mut().zip((0..16).rev()) {
            *digit = match (id >> (4 * nth)) & 15 {
                nibble @ 0..10 => b'0' + nibble.to_le_bytes()[0],
                nibble => b'a' + nibble.to_le_bytes()[0] - 10,
            };
        }
        Self(hex)
    }

    pub(in crate::server) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_differ_and_are_hex() {
        let ids: std::collections::HashSet<String> = (0..1000).map(|_| RequestId::next().as_str().to_owned()).collect();
        assert_eq!(ids.len(), 1000);
        assert!(ids.iter().all(|id| id.len() == 16 && id.bytes().all(|b| b.is_ascii_hexdigit())));
    }
}
