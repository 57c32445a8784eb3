//! What a file takes on the disk: whole blocks, however short it is. Limits of space count so.

/// The usual block of a file system. Bytes.
pub const BLOCK: u64 = 4096;

/// Bytes on the disk of a file of so many bytes. The empty file counts as nothing.
pub const fn in_blocks(size_bytes: u64) -> u64 {
    size_bytes.div_ceil(BLOCK).saturating_mul(BLOCK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t121_a_file_takes_whole_blocks() {
        assert_eq!([0, 1, BLOCK, BLOCK + 1].map(in_blocks), [0, BLOCK, BLOCK, 2 * BLOCK]);
        assert!(in_blocks(u64::MAX) > u64::MAX - BLOCK);
    }
}
