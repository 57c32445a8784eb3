//! One part of an export as a tar archive: the same bytes each time.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::divide::Part;
use super::plan::Plan;
use crate::cache::Cache;
use crate::jobs::bundle::layout::blob_path;
use crate::jobs::bundle::tar_writer::{TAR_END, tar_header, tar_padding};
use crate::jobs::export::held::EMPTY;
use crate::jobs::job::RunningJob;
use crate::mirror::Mirror;
use crate::oci::{Algorithm, Digest};

/// Bytes that are read at a time.
const CHUNK_BYTES: usize = 1024 * 1024;
/// Chunks that wait for their reader: with the one that is read, 4 MiB in memory for each stream.
const CHUNKS: usize = 3;

/// The bytes of a part. After an error there are no more.
pub type PartStream = mpsc::Receiver<io::Result<Bytes>>;

/// Starts to write a part. Whoever drops the stream ends the work.
pub fn stream_part(mirror: &Arc<Mirror>, job: &Arc<RunningJob>, plan: &Arc<Plan>, number: usize) -> Option<PartStream> {
    plan.parts.get(number)?;
    let (chunks, stream) = mpsc::channel(CHUNKS);
    let (cache, job, plan) = (Arc::clone(mirror.cache()), Arc::clone(job), Arc::clone(plan));
    mirror.cache().context.tasks.spawn(async move {
        let Some(part) = plan.parts.get(number) else { return };
        let mut writer = PartWriter { cache: &cache, job: &job, chunks: &chunks };
        let written = tokio::select! {
            written = writer.write(part) => written,
            () = job.cancelled() => Err(io::Error::other("the export was cancelled")),
            () = chunks.closed() => return,
        };
        if let Err(err) = written {
            // Its reader may have gone.
            let _told = chunks.send(Err(err)).await;
        }
    });
    Some(stream)
}

struct PartWriter<'a> {
    cache: &'a Cache,
    job: &'a RunningJob,
    chunks: &'a mpsc::Sender<io::Result<Bytes>>,
}

impl PartWriter<'_> {
    async fn write(&mut self, part: &Part) -> io::Result<()> {
        for (name, content) in &part.head {
            self.write_whole(name, content.clone()).await?;
        }
        for (digest, size_bytes) in &part.blobs {
            self.write_blob(*digest, *size_bytes).await?;
        }
        self.send(Bytes::from_static(&TAR_END)).await
    }

    async fn write_whole(&mut self, name: &str, content: Bytes) -> io::Result<()> {
        let size_bytes = content.len() as u64;
        self.send(Bytes::copy_from_slice(&tar_header(name, size_bytes))).await?;
        self.send(content).await?;
        self.send(Bytes::from(vec![0; tar_padding(size_bytes)])).await
    }

    async fn write_blob(&mut self, digest: Digest, size_bytes: u64) -> io::Result<()> {
        if digest == Digest::of(Algorithm::Sha256, EMPTY) {
            return self.write_whole(&blob_path(digest), Bytes::from_static(EMPTY)).await;
        }
        let gone = || io::Error::new(io::ErrorKind::NotFound, format!("{digest} is not here any more"));
        let row = self.cache.index.blob_row(digest).await.map_err(io::Error::other)?.ok_or_else(gone)?;
        if row.size_bytes != size_bytes {
            return Err(io::Error::other(format!(
                "{digest} has {} bytes, and its manifest says {size_bytes}",
                row.size_bytes
            )));
        }
        let file = self.cache.open(digest, &row).await?.ok_or_else(gone)?;
        let header = tar_header(&blob_path(digest), size_bytes);
        let mut at = 0;
        let mut begin = Some(header);
        loop {
            let length = usize::try_from(size_bytes - at).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES);
            let bytes = file.read(at, length).await?;
            at += length as u64;
            let is_last = at == size_bytes;
            let padding = if is_last { tar_padding(size_bytes) } else { 0 };
            match begin.take() {
                // Small blobs are many: one piece for each.
                Some(header) if is_last => {
                    let mut whole = Vec::with_capacity(header.len() + length + padding);
                    whole.extend_from_slice(&header);
                    whole.extend_from_slice(&bytes);
                    whole.resize(whole.len() + padding, 0);
                    self.send(whole.into()).await?;
                }
                Some(header) => {
                    self.send(Bytes::copy_from_slice(&header)).await?;
                    self.send(bytes).await?;
                }
                None => {
                    self.send(bytes).await?;
                    self.send(Bytes::from(vec![0; padding])).await?;
                }
            }
            if is_last {
                return Ok(());
            }
        }
    }

    async fn send(&mut self, bytes: Bytes) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let length = bytes.len() as u64;
        self.chunks.send(Ok(bytes)).await.map_err(|_gone| io::Error::from(io::ErrorKind::BrokenPipe))?;
        self.job.add_bytes(length);
        Ok(())
    }
}
