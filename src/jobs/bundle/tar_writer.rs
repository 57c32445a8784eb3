//! Headers of a tar archive that is the same whenever it is written: no times, no users, one mode.

pub(super) const BLOCK: usize = 512;

/// The end of an archive.
pub const TAR_END: [u8; 2 * BLOCK] = [0; 2 * BLOCK];

/// Zeros that follow content of this size.
pub fn tar_padding(size_bytes: u64) -> usize {
    let over = usize::try_from(size_bytes % BLOCK as u64).unwrap_or_default();
    if over == 0 { 0 } else { BLOCK - over }
}

/// Bytes that a file takes in an archive.
pub fn tar_bytes(size_bytes: u64) -> u64 {
    BLOCK as u64 + size_bytes + tar_padding(size_bytes) as u64
}

/// The header of a file. `name` has at most 100 bytes of ASCII: the names of an image layout have.
pub fn tar_header(name: &str, size_bytes: u64) -> [u8; BLOCK] {
    debug_assert!(name.len() <= 100, "{name}");
    let mut header = [0; BLOCK];
    let mut put = |at: usize, bytes: &[u8]| {
        for (to, from) in header.iter_mut().skip(at).zip(bytes) {
            *to = *from;
        }
    };
    put(0, name.get(..100).unwrap_or(name).as_bytes());
    put(100, b"0000644\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    // Octal digits are enough for 8 GiB; larger ones are written as GNU does, which all readers know.
    if size_bytes < 1 << 33 {
        put(124, format!("{size_bytes:011o}\0").as_bytes());
    } else {
        put(124, &[0x80, 0, 0, 0]);
        put(128, &size_bytes.to_be_bytes());
    }
    put(136, b"00000000000\0");
    put(148, b"        ");
    put(156, b"0");
    put(257, b"ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    let mut put = |at: usize, bytes: &[u8]| {
        for (to, from) in header.iter_mut().skip(at).zip(bytes) {
            *to = *from;
        }
    };
    put(148, format!("{sum:06o}\0 ").as_bytes());
    header
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::super::tar_reader::TarReader;
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut archive = tar_header("blobs/sha256/aa", 3).to_vec();
        archive.extend(b"abc");
        archive.extend(vec![0; tar_padding(3)]);
        archive.extend(TAR_END);
        let mut reader = TarReader::new(archive.as_slice());
        let file = reader.next_entry().unwrap().unwrap();
        assert_eq!((file.name.as_str(), file.size_bytes), ("blobs/sha256/aa", 3));
        let mut text = String::new();
        reader.by_ref().take(3).read_to_string(&mut text).unwrap();
        assert_eq!(text, "abc");
        assert_eq!(reader.next_entry().unwrap(), None);
    }

    #[test]
    fn a_file_of_more_than_eight_gibibytes_keeps_its_size() {
        let header = tar_header("a", 1 << 40);
        let mut reader = TarReader::new(header.as_slice());
        assert_eq!(reader.next_entry().unwrap().unwrap().size_bytes, 1 << 40);
        assert_eq!(tar_bytes(513), 512 + 1024);
    }
}
