use std::io::{self, Read};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use clap::Args;
use roadstead::jobs::JobRunner;
use roadstead::jobs::bundle::receipt::Receipt;
use roadstead::jobs::export::held::WantedPlatforms;
use roadstead::jobs::export::{Chosen, ExportRequest, PartStream};
use serde_json::{Value, json};

use super::follow::{Engine, Shown};
use super::inventory::write_receipt;
use super::output::Output;
use crate::cli::output::{failed, list, plain, usage};
use crate::cli::reach::server::{Server, Upload};
use crate::cli::reach::{Reach, Request, Site, offline_storage};

#[derive(Debug, Args)]
pub(in crate::cli) struct Options {
    /// Names of images, as in "docker.io/library/app:1" or "quay.io/org/app@sha256:…".
    #[arg(value_name = "REF")]
    references: Vec<String>,
    /// A file with names, one on each line, or a manifest of Kubernetes, a rendered chart or a compose file, of which every
    /// `image` counts; "-" for standard input.
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Everything that is held.
    #[arg(long, conflicts_with_all = ["references", "file", "used_since"])]
    all: bool,
    /// Everything that was pulled since, by whole days, as in "7d".
    #[arg(long, value_name = "AGE", conflicts_with_all = ["references", "file"], value_parser = humantime::parse_duration)]
    used_since: Option<Duration>,
    /// Where it goes: a directory, a file that ends in ".tar", or "-" for standard output.
    #[arg(long, short, value_name = "PATH")]
    output: PathBuf,
    /// Platforms that have to be in it, as in "linux/amd64", or "all". Without it, those that are held.
    #[arg(long = "platform", value_name = "PLATFORM")]
    platforms: Vec<String>,
    /// Also what refers to the images: signatures, SBOMs, attestations.
    #[arg(long)]
    referrers: bool,
    /// Leave out what this receipt lists: the output of `inventory` at the other side, or the file beside an earlier export.
    #[arg(long, value_name = "RECEIPT")]
    since: Option<PathBuf>,
    /// Largest part, as in "4GiB". Parts are imported one by one, in any order.
    #[arg(long, value_name = "SIZE")]
    split: Option<bytesize::ByteSize>,
    /// As JSON, a line for each image; the last one says how it ended.
    #[arg(long)]
    json: bool,
}

/// Writes what is held into a bundle.
pub(in crate::cli) fn run(reach: &Reach, options: &Options) -> Result<(), ExitCode> {
    let output = Output::of(&options.output);
    output.check().map_err(|why| usage(&format!("--output: {why}")))?;
    let is_stdout = matches!(output, Output::Stdout);
    if is_stdout && options.split.is_some() {
        return Err(usage("--split needs files or directories: `--output` is standard output"));
    }
    let references = super::names(&options.references, options.file.as_slice())?;
    if references.is_empty() && !options.all && options.used_since.is_none() {
        return Err(usage("nothing is named: name images, or give `-f`, `--all` or `--used-since`"));
    }
    let platforms = WantedPlatforms::parse(&options.platforms).map_err(|why| usage(&format!("--platform: {why}")))?;
    let since = options.since.as_deref().map(std::fs::read).transpose();
    let since = since.map_err(|err| usage(&format!("--since: {err}")))?;
    let receipt = since.as_deref().map(Receipt::read).transpose();
    let receipt = receipt.map_err(|err| usage(&format!("--since: {err}")))?;
    let mut shown = Shown::new(options.json, is_stdout);
    let done = match reach.find()? {
        Site::Running(server) => {
            let body = json!({
                "references": references,
                "all": options.all,
                "used_since": options.used_since.map(|age| humantime::format_duration(age).to_string()),
                "platforms": options.platforms,
                "referrers": options.referrers,
                "since": since.map(|text| String::from_utf8_lossy(&text).into_owned()),
                "split": options.split.map(|split| split.as_u64()),
            });
            let started = server.json(Request::post("/api/v1/export").with(&body))?;
            let id = started.get("job").map(|job| plain(job, "id")).unwrap_or_default();
            let (engine, is_ready) = (Engine::Server(&server), |job: &Value| !list(job, "parts").is_empty());
            let job = crate::cli::block_on(shown.follow(&engine, &id, is_ready))?;
            let receipt = || server.bytes(&format!("/api/v1/jobs/{id}/receipt"));
            let fetch = &mut |part| fetch(&server, &id, part);
            let written = write_parts(&job, &output, &mut shown, receipt, fetch);
            if written.is_err() {
                // Nobody fetches the rest.
                let _told = server.ask("POST", &format!("/api/v1/jobs/{id}/cancel"), Upload::Nothing);
            }
            written.map(|()| job)
        }
        Site::Stopped(config) => {
            let chosen = match options.used_since {
                Some(age) => Chosen::UsedSince(age),
                None if options.all => Chosen::All,
                None => Chosen::Named(references),
            };
            let split = options.split.map(|split| split.as_u64());
            let request = ExportRequest { chosen, platforms, referrers: options.referrers, since: receipt, split };
            offline_storage::with_mirror(*config, async |mirror| {
                let runner = Arc::new(JobRunner::new(mirror));
                let running = runner.export(request).map_err(|err| failed(&err.to_string()))?;
                let id = running.id().to_owned();
                let is_ready = |job: &Value| !list(job, "parts").is_empty();
                let job = shown.follow(&Engine::Here(&runner), &id, is_ready).await?;
                let fetch = &mut |part| {
                    let (_, pieces) = runner.part(&id, part - 1).ok_or_else(|| failed("the export has gone"))?;
                    Ok(Box::new(Pieces { pieces, current: Bytes::new() }) as Box<dyn Read>)
                };
                let receipt = || {
                    let receipt = runner.receipt(&id).ok_or_else(|| failed("the export has gone"))?;
                    Ok(receipt.to_bytes())
                };
                let written = tokio::task::block_in_place(|| write_parts(&job, &output, &mut shown, receipt, fetch));
                if written.is_ok() {
                    (0..list(&job, "parts").len()).for_each(|nth| runner.part_is_fetched(&id, nth));
                    running.ended().await;
                }
                runner.stop();
                written.map(|()| job)
            })?
        }
    };
    let Ok(done) = done else { return shown.end(Some("no bundle was written"), true) };
    shown.end(done.get("problem").and_then(Value::as_str), true)
}

/// Writes all parts, if there are any, and then the sender's record of them.
fn write_parts(
    job: &Value,
    output: &Output,
    shown: &mut Shown,
    receipt: impl FnOnce() -> Result<Vec<u8>, ExitCode>,
    fetch: &mut dyn FnMut(usize) -> Result<Box<dyn Read>, ExitCode>,
) -> Result<(), ExitCode> {
    let parts: Vec<u64> = list(job, "parts").iter().filter_map(Value::as_u64).collect();
    if parts.is_empty() {
        return Ok(());
    }
    // Before the last part: with that, the export ends.
    let receipt = receipt()?;
    for (number, bytes) in (1..).zip(&parts) {
        let output = output.part(number, parts.len());
        let what = format!("export: writes {}", output.name());
        let mut body = fetch(number)?;
        output
            .write(&mut *body, *bytes, &mut |written| shown.transfer(&what, written, *bytes))
            .map_err(|err| failed(&format!("{} was not written: {err}", output.name())))?;
    }
    output.receipt().map_or(Ok(()), |path| write_receipt(Some(&path), &receipt))
}

fn fetch(server: &Server, id: &str, part: usize) -> Result<Box<dyn Read>, ExitCode> {
    let answer = server.ask("GET", &format!("/api/v1/jobs/{id}/parts?part={part}"), Upload::Nothing)?;
    if answer.is_success() { Ok(answer.body) } else { Err(failed(&answer.refusal())) }
}

/// A part that this process makes.
struct Pieces {
    pieces: PartStream,
    current: Bytes,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.pieces.blocking_recv() {
                Some(piece) => self.current = piece?,
                None => return Ok(0),
            }
        }
        let length = self.current.as_ref().read(buffer)?;
        self.current.advance(length);
        Ok(length)
    }
}
