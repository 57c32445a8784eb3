use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use roadstead::jobs::JobRunner;
use roadstead::jobs::bundle::layout::Rename;
use roadstead::jobs::import::ImportRequest;
use serde_json::Value;

use super::directory::DirectoryArchive;
use super::follow::{Engine, Shown};
use crate::cli::output::{failed, plain, usage};
use crate::cli::reach::server::{Server, Upload};
use crate::cli::reach::{Reach, Site, offline_storage, query};

#[derive(Debug, Args)]
pub(in crate::cli) struct Options {
    /// OCI layouts (a directory, or a tar that may be gzipped or in zstd), archives of `docker save`, and directories of
    /// `skopeo copy … dir:`; "-" for an archive on standard input.
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,
    /// The name of the image, in place of the one in the archive. In it, "*" stands for the last part of the repository, and
    /// "**" for all of it, as in "registry.corp/team/*".
    #[arg(long = "as", value_name = "REF")]
    rename: Option<String>,
    /// As JSON, a line for each image; the last one says how it ended.
    #[arg(long)]
    json: bool,
}

/// Imports archives, one after the other.
pub(in crate::cli) fn run(reach: &Reach, options: &Options) -> Result<(), ExitCode> {
    let rename = options.rename.as_deref().map(Rename::parse).transpose().map_err(|err| usage(&err.to_string()))?;
    let mut shown = Shown::new(options.json, false);
    let mut problems = Vec::new();
    match reach.find()? {
        Site::Running(server) => {
            for path in &options.paths {
                let job = upload(&server, path, options.rename.as_deref(), &mut shown)?;
                let id = plain(&job, "id");
                let job = crate::cli::block_on(shown.follow(&Engine::Server(&server), &id, |_| false))?;
                problems.extend(problem(path, &job));
            }
        }
        Site::Stopped(config) => offline_storage::fill_mirror(*config, async |mirror| {
            let runner = Arc::new(JobRunner::new(mirror));
            for path in &options.paths {
                let (archive, _) = open(path)?;
                let request = ImportRequest { rename: rename.clone() };
                let job = runner.import(archive, request).map_err(|err| failed(&err.to_string()))?;
                let job = shown.follow(&Engine::Here(&runner), job.id(), |_| false).await?;
                problems.extend(problem(path, &job));
            }
            Ok::<(), ExitCode>(())
        })??,
    }
    let all = problems.join("; ");
    shown.end(Some(all.as_str()).filter(|all| !all.is_empty()), options.paths.len() > 1)
}

fn problem(path: &Path, job: &Value) -> Option<String> {
    let why = job.get("problem").and_then(Value::as_str)?;
    Some(format!("{}: {why}", path.display()))
}

/// An archive, and how long it is if that is known.
fn open(path: &Path) -> Result<(Box<dyn Read + Send>, u64), ExitCode> {
    let opened = || -> io::Result<(Box<dyn Read + Send>, u64)> {
        if path == Path::new("-") {
            return Ok((Box::new(io::stdin()), 0));
        }
        if path.is_dir() {
            let archive = DirectoryArchive::open(path)?;
            let bytes = archive.bytes;
            return Ok((Box::new(archive), bytes));
        }
        let file = File::open(path)?;
        let bytes = file.metadata()?.len();
        Ok((Box::new(file), bytes))
    };
    opened().map_err(|err| failed(&format!("{} cannot be read: {err}", path.display())))
}

fn upload(server: &Server, path: &Path, rename: Option<&str>, shown: &mut Shown) -> Result<Value, ExitCode> {
    let (archive, total) = open(path)?;
    let mut sent = Sent { archive, bytes: 0, total, name: path.display().to_string(), shown };
    let path = query("/api/v1/import", rename.map(|rename| ("as", rename)));
    let answer = server.ask("POST", &path, Upload::Stream("application/x-tar", &mut sent))?;
    if !answer.is_success() {
        return Err(failed(&answer.refusal()));
    }
    let mut answer: Value =
        serde_json::from_str(&answer.text()).map_err(|err| failed(&format!("the answer is no JSON: {err}")))?;
    Ok(answer.get_mut("job").map(Value::take).unwrap_or_default())
}

/// Shows how much of an archive was sent.
struct Sent<'a> {
    archive: Box<dyn Read + Send>,
    bytes: u64,
    total: u64,
    name: String,
    shown: &'a mut Shown,
}

impl Read for Sent<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.archive.read(buffer)?;
        self.bytes += read as u64;
        let what = format!("import: sends {}", self.name);
        self.shown.transfer(&what, self.bytes, self.total);
        Ok(read)
    }
}
