//! Stored bytes on their way out: without passing through this process, or through a buffer where they must.
//!
//! `sendfile` and `read` wait for pages that are not in memory, and with them every connection of the same thread. So
//! bytes are looked for first, and read off the runtime where they are missing.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::ops::Range;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use bytes::Bytes;
use rustix::io::{Errno, ReadWriteFlags, preadv2};
use tokio::sync::Semaphore;

use super::faults::ReadErrorReporter;
use super::off_runtime;
use super::open_files::OpenFile;
use super::partial::{BUFFER_BYTES, Buffer};

/// Bytes that are looked for, read ahead and sent at a time.
pub const SEND_WINDOW: usize = 1024 * 1024;

/// One page is asked after for each so many bytes. The kernel reads files ahead in pieces of this size or more.
const STRIDE: u64 = 128 * 1024;

/// Read-aheads at one time, over all files: more only makes a disk seek.
static READ_AHEADS: Semaphore = Semaphore::const_new(16);

/// Verified bytes, or those of a running fill. Stays readable after it was removed from the store.
#[derive(Debug, Clone)]
pub struct BlobFile {
    pub(super) file: Arc<File>,
    /// Of a stored one.
    pub(super) reporter: Option<ReadErrorReporter>,
    /// Its space is taken for as long as this is there.
    pub(super) _open_file: Arc<OpenFile>,
}

impl BlobFile {
    /// Reads exactly `length` bytes at `offset`.
    pub async fn read(&self, offset: u64, length: usize) -> io::Result<Bytes> {
        let file = Arc::clone(&self.file);
        off_runtime(move || {
            let mut buffer = vec![0; length];
            file.read_exact_at(&mut buffer, offset)?;
            Ok(Bytes::from(buffer))
        })
        .await
        .inspect_err(|_| self.cannot_be_read())
    }

    /// Reading it failed: it is read again in the background, and fetched again at the next request.
    pub fn cannot_be_read(&self) {
        if let Some(ReadErrorReporter { digest, faults }) = &self.reporter {
            faults.cannot_read(*digest);
        }
    }

    #[cfg(test)]
    pub(crate) fn of(file: File) -> Self {
        let space = Arc::new(super::space::Space::new("/".into(), super::SpaceLimits::default()));
        let digest = crate::oci::Digest::of(crate::oci::Algorithm::Sha256, b"");
        let held = super::open_files::OpenFiles::new(space).unnamed(digest);
        Self { file: Arc::new(file), reporter: None, _open_file: held }
    }

    /// Gives the socket, which must not block, up to `length` bytes from `offset` on; how many it took. A file that ends
    /// before them is `UnexpectedEof`.
    pub fn send(&self, socket: impl AsFd, offset: u64, length: usize) -> io::Result<usize> {
        let mut from = offset;
        match rustix::fs::sendfile(socket, &self.file, Some(&mut from), length) {
            Ok(0) if length > 0 => {
                self.cannot_be_read();
                Err(io::Error::new(io::ErrorKind::UnexpectedEof, "a stored file is too short"))
            }
            Err(Errno::IO) => {
                self.cannot_be_read();
                Err(Errno::IO.into())
            }
            sent => Ok(sent?),
        }
    }

    /// Resolves when the bytes of `range`, at most [`SEND_WINDOW`], are in memory: at once where they are.
    pub async fn resident(&self, range: Range<u64>) -> io::Result<()> {
        if self.is_resident(&range) {
            return Ok(());
        }
        let permit = READ_AHEADS.acquire().await.map_err(io::Error::other)?;
        let file = Arc::clone(&self.file);
        off_runtime(move || {
            let _permit = permit;
            let mut at = range.start;
            let mut scratch = vec![0; 64 * 1024];
            while at < range.end {
                let wanted = usize::try_from(range.end - at).unwrap_or(usize::MAX).min(scratch.len());
                let (wanted, _) = scratch.split_at_mut(wanted);
                match file.read_at(wanted, at)? {
                    // Whoever sends it will find that it is too short.
                    0 => break,
                    read => at += read as u64,
                }
            }
            Ok(())
        })
        .await
        .inspect_err(|_| self.cannot_be_read())
    }

    /// Bytes from `offset` on: at least one, at most `length`, as many as are at hand. A file that ends before them is
    /// `UnexpectedEof`.
    pub async fn read_some(&self, offset: u64, length: usize) -> io::Result<Bytes> {
        let mut buffer = Buffer::take();
        let room = &mut [IoSliceMut::new(buffer.room(length))];
        match preadv2(&self.file, room, offset, ReadWriteFlags::NOWAIT) {
            Ok(read) if read > 0 => return Ok(buffer.filled(read)),
            // Not in memory, at its end, or failing: said by a read that may wait.
            Ok(_) | Err(_) => {}
        }
        let permit = READ_AHEADS.acquire().await.map_err(io::Error::other)?;
        let file = Arc::clone(&self.file);
        off_runtime(move || {
            let _permit = permit;
            let length = length.min(BUFFER_BYTES);
            file.read_exact_at(buffer.room(length), offset)?;
            Ok(buffer.filled(length))
        })
        .await
    }

    /// Whether samples of the range are in memory. What the kernel dropped between two of them costs one wait.
    fn is_resident(&self, range: &Range<u64>) -> bool {
        let last = range.end.saturating_sub(1);
        let samples = (range.start..last).step_by(usize::try_from(STRIDE).unwrap_or(usize::MAX));
        samples.chain([last]).all(|at| {
            let mut byte = [0];
            let read = preadv2(&self.file, &mut [IoSliceMut::new(&mut byte)], at, ReadWriteFlags::NOWAIT);
            !matches!(read, Err(Errno::AGAIN | Errno::OPNOTSUPP))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write as _;
    use std::task::Poll;

    use rustix::fs::{Advice, fadvise};

    use super::*;

    const SIZE: u64 = SEND_WINDOW as u64;

    /// A synced file of one window.
    fn stored() -> (BlobFile, tempfile::NamedTempFile) {
        // Where the tests are built: /tmp may be memory, which is never cold.
        let program = std::env::current_exe().unwrap();
        let mut named = tempfile::NamedTempFile::new_in(program.parent().unwrap()).unwrap();
        named.write_all(&vec![7; SEND_WINDOW]).unwrap();
        named.as_file().sync_all().unwrap();
        let file = BlobFile::of(File::open(named.path()).unwrap());
        (file, named)
    }

    #[tokio::test]
    async fn what_is_in_memory_is_ready_at_once() {
        let (file, _named) = stored();
        let ready = std::pin::pin!(file.resident(0..SIZE));
        assert!(futures_util::poll!(ready).is_ready());
    }

    #[tokio::test]
    async fn a_cold_file_is_read_ahead_off_the_runtime() {
        let (file, named) = stored();
        fadvise(named.as_file(), 0, None, Advice::DontNeed).unwrap();
        let mut ready = std::pin::pin!(file.resident(0..SIZE));
        // The one thread of this runtime is free again before the bytes are there.
        assert!(futures_util::poll!(&mut ready).is_pending());
        ready.await.unwrap();
        assert!(file.is_resident(&(0..SIZE)));
    }

    #[tokio::test]
    async fn a_reader_has_what_is_in_memory_at_once_and_the_rest_off_the_runtime() {
        let (file, named) = stored();
        let mut hot = std::pin::pin!(file.read_some(SIZE - 5, 100));
        assert!(matches!(futures_util::poll!(&mut hot), Poll::Ready(Ok(bytes)) if bytes[..] == [7; 5]));
        fadvise(named.as_file(), 0, None, Advice::DontNeed).unwrap();
        let mut cold = std::pin::pin!(file.read_some(0, SEND_WINDOW));
        assert!(futures_util::poll!(&mut cold).is_pending());
        assert_eq!(cold.await.unwrap(), vec![7; BUFFER_BYTES]);
        assert_eq!(file.read_some(SIZE, 1).await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_file_that_is_too_short_is_an_error() {
        let (file, _named) = stored();
        let (near, _far) = std::os::unix::net::UnixStream::pair().unwrap();
        assert_eq!(file.send(&near, SIZE - 10, 20).unwrap(), 10);
        assert_eq!(file.send(&near, SIZE, 20).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
