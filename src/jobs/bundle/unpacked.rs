//! Undoes the compression of an archive, within bounds.

use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::StreamingDecoder;

const GZIP: &[u8] = &[0x1f, 0x8b];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
const BUFFER_BYTES: usize = 256 * 1024;
/// Largest window of zstd: what its frames may make a reader keep in memory.
const MAX_WINDOW_BYTES: u64 = 128 * 1024 * 1024;
/// So much may come out, whatever went in; then, so many times as much as went in.
const FREE_BYTES: u64 = 1 << 30;
const MAX_RATIO: u64 = 100;

/// The bytes of an archive, unpacked if they were gzipped or in zstd.
pub struct Unpacked<R: Read> {
    inner: Inner<R>,
    came_out: u64,
}

enum Inner<R: Read> {
    Plain(Peeked<R>),
    Gzip(Box<MultiGzDecoder<Peeked<R>>>),
    Zstd(Box<Zstd<R>>),
}

type Peeked<R> = BufReader<Counted<R>>;

struct Counted<R> {
    inner: R,
    bytes: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.bytes += read as u64;
        Ok(read)
    }
}

/// Frames of zstd, one after the other.
struct Zstd<R: Read> {
    frame: Option<StreamingDecoder<Peeked<R>, ruzstd::decoding::FrameDecoder>>,
    ended: Option<Peeked<R>>,
}

impl<R: Read> Zstd<R> {
    fn open(source: Peeked<R>) -> io::Result<StreamingDecoder<Peeked<R>, ruzstd::decoding::FrameDecoder>> {
        StreamingDecoder::new_with_max_window_size(source, MAX_WINDOW_BYTES).map_err(io::Error::other)
    }
}

impl<R: Read> Read for Zstd<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(frame) = &mut self.frame {
                let read = frame.read(buffer)?;
                if read > 0 || buffer.is_empty() {
                    return Ok(read);
                }
                self.ended = self.frame.take().map(StreamingDecoder::into_inner);
            }
            let Some(mut source) = self.ended.take() else { return Ok(0) };
            if source.fill_buf()?.is_empty() {
                return Ok(0);
            }
            self.frame = Some(Self::open(source)?);
        }
    }
}

impl<R: Read> Unpacked<R> {
    /// Looks at the first bytes.
    pub fn new(inner: R) -> io::Result<Self> {
        let mut peeked = BufReader::with_capacity(BUFFER_BYTES, Counted { inner, bytes: 0 });
        let begin = peeked.fill_buf()?;
        let (is_gzip, is_zstd) = (begin.starts_with(GZIP), begin.starts_with(ZSTD));
        let inner = if is_gzip {
            Inner::Gzip(Box::new(MultiGzDecoder::new(peeked)))
        } else if is_zstd {
            Inner::Zstd(Box::new(Zstd { frame: Some(Zstd::open(peeked)?), ended: None }))
        } else {
            Inner::Plain(peeked)
        };
        Ok(Self { inner, came_out: 0 })
    }

    fn went_in(&self) -> u64 {
        match &self.inner {
            Inner::Plain(plain) => plain.get_ref().bytes,
            Inner::Gzip(gzip) => gzip.get_ref().get_ref().bytes,
            Inner::Zstd(zstd) => zstd.frame.as_ref().map_or(0, |frame| frame.get_ref().get_ref().bytes),
        }
    }
}

impl<R: Read> Read for Unpacked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = match &mut self.inner {
            // Nothing is copied twice for large reads.
            Inner::Plain(plain) => return plain.read(buffer),
            Inner::Gzip(gzip) => gzip.read(buffer)?,
            Inner::Zstd(zstd) => zstd.read(buffer)?,
        };
        self.came_out += read as u64;
        let most = self.went_in().saturating_mul(MAX_RATIO).saturating_add(FREE_BYTES);
        if read > 0 && self.came_out > most {
            return Err(io::Error::other("it unpacks to more than a hundred times its size"));
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn gzip_is_undone_and_zeros_without_end_are_not_believed() {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(b"hello").unwrap();
        let packed = gzip.finish().unwrap();
        let mut text = String::new();
        Unpacked::new(packed.as_slice()).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello");

        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        io::copy(&mut io::repeat(0).take(64 << 20), &mut gzip).unwrap();
        let bomb = gzip.finish().unwrap();
        // As often as it takes: a gzip may have many members.
        let many = bomb.iter().copied().cycle().take(bomb.len() * 40).collect::<Vec<u8>>();
        let out = io::copy(&mut Unpacked::new(many.as_slice()).unwrap(), &mut io::sink());
        assert!(out.is_err_and(|err| err.to_string().contains("a hundred times")));
    }
}
