//! Import: images out of an archive, read once from the beginning to the end, into what is held.
//!
//! 1. [`mod@collect`] reads the archive. Each blob goes into the store as it comes, hashed, synced, and readable by nobody: it
//!    has no grant. What describes the images is kept in memory.
//! 2. [`list`] makes items of that: an image and its name.
//! 3. [`record`] looks whether an item is whole, and records all of it at once: grants, tag, what refers to what.
//! 4. Blobs that no item needs are removed again ([`leftovers`]).
//!
//! Several may read at one time; they record one after the other. Memory of each, at most: 64 MiB for an index, three times
//! that while it is read, 100 MiB for what is known of 500,000 blobs, 160 MiB for a receipt, and 40 MiB for blobs that are
//! being stored.

mod collect;
mod leftovers;
mod list;
mod record;
mod staging;

use std::io::Read;
use std::sync::Arc;

use super::bundle::layout::Rename;
use super::bundle::unpacked::Unpacked;
use super::job::{Jobs, RunningJob};
use super::job_report::JobState;
use crate::mirror::Mirror;

use collect::collect;
use staging::Staging;

/// How an archive is to be imported.
#[derive(Debug, Clone, Default)]
pub struct ImportRequest {
    /// Where its images go, if not where it says.
    pub rename: Option<Rename>,
}

/// Imports an archive, and ends the job.
pub async fn import(
    mirror: &Arc<Mirror>,
    jobs: &Jobs,
    job: &Arc<RunningJob>,
    archive: impl Read + Send + 'static,
    request: ImportRequest,
) {
    let done = run(mirror, jobs, job, archive, request).await;
    let cancelled = "it was cancelled; blobs that were imported are used by the next import";
    let problem = if job.is_cancelled() { Some(cancelled.to_owned()) } else { done.err() };
    let state = match (&problem, job.is_cancelled()) {
        (None, _) => JobState::Done,
        (Some(_), true) => JobState::Stopped,
        (Some(_), false) => JobState::Failed,
    };
    job.end(state, jobs.clock().now(), problem);
}

async fn run(
    mirror: &Arc<Mirror>,
    jobs: &Jobs,
    job: &Arc<RunningJob>,
    archive: impl Read + Send + 'static,
    request: ImportRequest,
) -> Result<(), String> {
    job.note("reads the archive");
    let staging = Staging::new(mirror, job);
    let runtime = tokio::runtime::Handle::current();
    // A job that was cancelled ends at the next piece: the reader looks.
    let collecting = tokio::task::spawn_blocking(move || {
        let archive = match Unpacked::new(archive) {
            Ok(archive) => archive,
            Err(err) => return collect::Collected::failed(staging, format!("the archive cannot be read: {err}")),
        };
        collect(archive, staging, &runtime)
    });
    let mut collected = collecting.await.map_err(|err| err.to_string())?;
    if job.is_cancelled() {
        return Ok(());
    }
    job.note("waits for another import to record its images");
    // Nobody closes it.
    let turn = jobs.import_turn().acquire().await.map_err(|err| err.to_string())?;
    job.note("records the images");
    let problem = collected.problem.clone();
    let items = list::list(&collected, request.rename.as_ref()).unwrap_or_else(|why| {
        vec![list::Item { name: Err(why.clone()), shown: "the archive".to_owned(), content: Err(why) }]
    });
    job.expect_items(items.len());
    let needed = record::record_all(mirror, job, &mut collected, items).await;
    // Its leases end: what no item needs may go.
    drop(collected);
    leftovers::remove(mirror, jobs.clock(), &needed).await;
    drop(turn);
    problem.map_or(Ok(()), Err)
}
