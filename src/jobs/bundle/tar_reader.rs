//! Tar archives of strangers, read once from the beginning to the end. No name in them is ever joined to a directory.
//!
//! Read are ustar, GNU's long names and pax's `path`, `linkpath` and `size`. The memory for an archive is bounded by
//! [`MAX_NAME_BYTES`] and [`MAX_ENTRIES`], whatever it holds.

use std::io::{self, Read};

use super::tar_writer::{BLOCK, tar_padding};

/// Longest name of an entry, in bytes.
pub const MAX_NAME_BYTES: usize = 4096;
/// Largest extended header, in bytes. Pax headers also carry what nobody reads, such as times and attributes.
const MAX_EXTENSION_BYTES: u64 = 64 * 1024;
/// Most entries of one archive.
pub const MAX_ENTRIES: u64 = 500_000;
/// Most extended headers in front of one entry.
const MAX_EXTENSIONS: u32 = 8;

/// Why an archive cannot be read further.
#[derive(Debug, thiserror::Error)]
pub enum TarError {
    #[error("it ends in the middle, {}", place(.0.as_ref()))]
    Truncated(Option<String>),
    #[error("it is no tar archive, {}", place(.0.as_ref()))]
    NotTar(Option<String>),
    #[error("the name or the link of an entry is longer than {MAX_NAME_BYTES} bytes, {}", place(.0.as_ref()))]
    LongName(Option<String>),
    #[error("an extended header has {0} bytes; {MAX_EXTENSION_BYTES} are read")]
    LongExtension(u64),
    #[error("it has more than {MAX_ENTRIES} entries")]
    TooManyEntries,
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
}

fn place(after: Option<&String>) -> String {
    after.map_or_else(|| "at its beginning".to_owned(), |name| format!("in or after {}", crate::quote::quoted(name)))
}

/// One entry of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TarEntry {
    /// As it is written: it may be absolute, or contain `..`.
    pub name: String,
    pub kind: TarKind,
    /// Of the content. Zero for all but files.
    pub size_bytes: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TarKind {
    File,
    Directory,
    SymbolicLink(String),
    HardLink(String),
    /// A device, a FIFO, a sparse file.
    Other,
}

/// The entries of an archive. As a reader it gives the content of the entry that was last returned.
pub struct TarReader<R> {
    inner: R,
    /// Unread bytes of the content, and of the padding behind it.
    content: u64,
    padding: u64,
    entries: u64,
    last: Option<String>,
    is_at_end: bool,
}

#[derive(Default)]
struct Extended {
    name: Option<String>,
    link: Option<String>,
    size_bytes: Option<u64>,
}

impl<R: Read> TarReader<R> {
    pub const fn new(inner: R) -> Self {
        Self { inner, content: 0, padding: 0, entries: 0, last: None, is_at_end: false }
    }

    /// The next entry; `None` at the end. Content that was not read is skipped.
    pub fn next_entry(&mut self) -> Result<Option<TarEntry>, TarError> {
        if self.is_at_end {
            return Ok(None);
        }
        self.skip()?;
        let mut extended = Extended::default();
        for _extension in 0..=MAX_EXTENSIONS {
            let Some(header) = self.header()? else { return Ok(None) };
            self.entries += 1;
            if self.entries > MAX_ENTRIES {
                return Err(TarError::TooManyEntries);
            }
            let size_bytes = header.size().ok_or_else(|| TarError::NotTar(self.last.clone()))?;
            match header.kind() {
                b'L' => extended.name = Some(self.long_name(size_bytes)?),
                b'K' => extended.link = Some(self.long_name(size_bytes)?),
                b'x' => self.pax(size_bytes, &mut extended)?,
                // Of pax, for all that follow: nothing that is read here.
                b'g' => drop(self.extension(size_bytes)?),
                kind => return self.entry(&header, kind, size_bytes, extended).map(Some),
            }
        }
        Err(TarError::NotTar(self.last.clone()))
    }

    fn entry(&mut self, header: &Header, kind: u8, size_bytes: u64, extended: Extended) -> Result<TarEntry, TarError> {
        let name = extended.name.unwrap_or_else(|| header.name());
        let link = extended.link.unwrap_or_else(|| header.link());
        if name.len() > MAX_NAME_BYTES || link.len() > MAX_NAME_BYTES {
            return Err(TarError::LongName(self.last.clone()));
        }
        let size_bytes = extended.size_bytes.unwrap_or(size_bytes);
        let kind = match kind {
            // Old archives mark a directory by its name alone.
            0 | b'0' | b'7' if name.ends_with('/') => TarKind::Directory,
            0 | b'0' | b'7' => TarKind::File,
            b'1' => TarKind::HardLink(link),
            b'2' => TarKind::SymbolicLink(link),
            b'5' => TarKind::Directory,
            _ => TarKind::Other,
        };
        // Some writers give links a size that no content follows.
        let is_bare = matches!(kind, TarKind::HardLink(_) | TarKind::SymbolicLink(_) | TarKind::Directory);
        self.content = if is_bare { 0 } else { size_bytes };
        self.padding = tar_padding(self.content) as u64;
        self.last = Some(name.clone());
        let size_bytes = if kind == TarKind::File { size_bytes } else { 0 };
        Ok(TarEntry { name, kind, size_bytes })
    }

    /// `None` at the end: a block of zeros.
    fn header(&mut self) -> Result<Option<Header>, TarError> {
        let mut header = Header([0; BLOCK]);
        self.fill(&mut header.0)?;
        if header.0.iter().all(|byte| *byte == 0) {
            self.is_at_end = true;
            return Ok(None);
        }
        if !header.has_checksum() {
            return Err(TarError::NotTar(self.last.clone()));
        }
        Ok(Some(header))
    }

    fn long_name(&mut self, size_bytes: u64) -> Result<String, TarError> {
        let bytes = self.extension(size_bytes)?;
        let bytes = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
        Ok(String::from_utf8_lossy(bytes).into_owned())
    }

    /// Records are `length key=value\n`.
    fn pax(&mut self, size_bytes: u64, extended: &mut Extended) -> Result<(), TarError> {
        let bytes = self.extension(size_bytes)?;
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let record = || {
                let space = rest.iter().position(|byte| *byte == b' ')?;
                let length: usize = std::str::from_utf8(rest.get(..space)?).ok()?.parse().ok()?;
                let (record, behind) = (rest.get(space + 1..length)?, rest.get(length..)?);
                let record = record.strip_suffix(b"\n")?;
                let equals = record.iter().position(|byte| *byte == b'=')?;
                Some((record.get(..equals)?, record.get(equals + 1..)?, behind))
            };
            let (key, value, behind) = record().ok_or_else(|| TarError::NotTar(self.last.clone()))?;
            let text = || String::from_utf8_lossy(value).into_owned();
            match key {
                b"path" => extended.name = Some(text()),
                b"linkpath" => extended.link = Some(text()),
                b"size" => {
                    let size = text().parse().map_err(|_no_number| TarError::NotTar(self.last.clone()))?;
                    extended.size_bytes = Some(size);
                }
                _ => {}
            }
            rest = behind;
        }
        Ok(())
    }

    fn extension(&mut self, size_bytes: u64) -> Result<Vec<u8>, TarError> {
        if size_bytes > MAX_EXTENSION_BYTES {
            return Err(TarError::LongExtension(size_bytes));
        }
        let mut bytes = vec![0; usize::try_from(size_bytes).unwrap_or_default()];
        self.fill(&mut bytes)?;
        let mut padded = [0; BLOCK];
        self.fill(padded.get_mut(..tar_padding(size_bytes)).unwrap_or_default())?;
        Ok(bytes)
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), TarError> {
        self.inner.read_exact(bytes).map_err(|err| self.ended(err))
    }

    /// What an error means that reading the content has met.
    pub fn ended(&self, err: io::Error) -> TarError {
        if err.kind() == io::ErrorKind::UnexpectedEof { TarError::Truncated(self.last.clone()) } else { err.into() }
    }

    fn skip(&mut self) -> Result<(), TarError> {
        let unread = self.content.saturating_add(self.padding);
        let skipped = io::copy(&mut self.inner.by_ref().take(unread), &mut io::sink())?;
        (self.content, self.padding) = (0, 0);
        if skipped == unread { Ok(()) } else { Err(TarError::Truncated(self.last.clone())) }
    }

    /// Reads on to the end of what the archive is in, so that whoever sends it can finish.
    pub fn drain(&mut self) -> io::Result<u64> {
        // Writers fill the last record up with zeros; a gigabyte of them is something else.
        io::copy(&mut self.inner.by_ref().take(1 << 30), &mut io::sink())
    }
}

impl<R: Read> Read for TarReader<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let wanted = bytes.len().min(usize::try_from(self.content).unwrap_or(usize::MAX));
        let read = self.inner.read(bytes.get_mut(..wanted).unwrap_or_default())?;
        if read == 0 && wanted > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.content -= read as u64;
        Ok(read)
    }
}

struct Header([u8; BLOCK]);

impl Header {
    fn field(&self, from: usize, length: usize) -> &[u8] {
        self.0.get(from..from + length).unwrap_or_default()
    }

    fn text(&self, from: usize, length: usize) -> String {
        let field = self.field(from, length);
        let text = field.split(|byte| *byte == 0).next().unwrap_or_default();
        String::from_utf8_lossy(text).into_owned()
    }

    fn kind(&self) -> u8 {
        self.field(156, 1).first().copied().unwrap_or_default()
    }

    fn name(&self) -> String {
        let (name, prefix) = (self.text(0, 100), self.text(345, 155));
        // GNU keeps other things there, and says so.
        let is_ustar = self.field(257, 6) == b"ustar\0";
        if is_ustar && !prefix.is_empty() { format!("{prefix}/{name}") } else { name }
    }

    fn link(&self) -> String {
        self.text(157, 100)
    }

    fn size(&self) -> Option<u64> {
        number(self.field(124, 12))
    }

    fn has_checksum(&self) -> bool {
        let told = number(self.field(148, 8));
        let sum = |of: fn(u8) -> i64| -> i64 {
            let bytes = self.0.iter().enumerate();
            bytes.map(|(at, byte)| if (148..156).contains(&at) { 32 } else { of(*byte) }).sum()
        };
        let told = told.and_then(|told| i64::try_from(told).ok());
        // Old writers summed signed bytes.
        told == Some(sum(i64::from)) || told == Some(sum(|byte| i64::from(byte.cast_signed())))
    }
}

/// Octal, or GNU's big-endian binary.
fn number(field: &[u8]) -> Option<u64> {
    let (first, rest) = field.split_first()?;
    if first & 0x80 != 0 {
        let mut value = u64::from(first & 0x7f);
        for byte in rest {
            value = value.checked_mul(256)?.checked_add(u64::from(*byte))?;
        }
        return Some(value);
    }
    let text = std::str::from_utf8(field).ok()?.trim_matches(['\0', ' ']);
    if text.is_empty() { Some(0) } else { u64::from_str_radix(text, 8).ok() }
}
