//! Jobs that were written down, for a later process to go on with.

use std::io;

use super::{Store, layout, off_runtime};

fn job_file(id: &str) -> io::Result<String> {
    let is_id = !id.is_empty() && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if is_id { Ok(format!("{id}.json")) } else { Err(io::ErrorKind::InvalidInput.into()) }
}

/// Writes a job down, durably, so that a later process goes on with it. `id` is of letters, digits and dashes.
pub async fn remember_job(store: &Store, id: &str, text: Vec<u8>) -> io::Result<()> {
    let (directory, name) = (store.layout.jobs(), job_file(id)?);
    off_runtime(move || {
        layout::make_dir(&directory)?;
        layout::write_durably(&directory.join(name), &directory.join("new"), &text)
    })
    .await
}

pub async fn forget_job(store: &Store, id: &str) -> io::Result<()> {
    let path = store.layout.jobs().join(job_file(id)?);
    off_runtime(move || layout::remove_if_there(&path)).await
}

/// Jobs that were written down and not forgotten, with what was written.
pub async fn remembered_jobs(store: &Store) -> io::Result<Vec<(String, Vec<u8>)>> {
    let directory = store.layout.jobs();
    off_runtime(move || {
        let entries = match std::fs::read_dir(&directory) {
            Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut jobs = Vec::new();
        for entry in entries {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if let Some(id) = name.strip_suffix(".json").filter(|id| job_file(id).is_ok()) {
                jobs.push((id.to_owned(), layout::read_file(&directory.join(&name))?));
            }
        }
        jobs.sort();
        Ok(jobs)
    })
    .await
}
