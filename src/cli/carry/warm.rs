use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use roadstead::jobs::JobRunner;
use roadstead::jobs::export::held::WantedPlatforms;
use roadstead::jobs::warm::WarmRequest;
use serde_json::{Value, json};

use super::follow::{Engine, Shown};
use crate::cli::output::{failed, plain, usage};
use crate::cli::reach::{Reach, Request, Site, offline_storage};

#[derive(Debug, Args)]
pub(in crate::cli) struct Options {
    /// Names of images, as in "docker.io/library/app:1"; or tags by what they are called, as in
    /// "docker.io/library/app{semver=>=1.20, <2; newest=3}" and "quay.io/org/app{regex=^v1}".
    #[arg(value_name = "REF")]
    references: Vec<String>,
    /// A file with names, one on each line, or a manifest of Kubernetes, a rendered chart or a compose file, of which every
    /// `image` counts; "-" for standard input.
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Platforms to pull, as in "linux/amd64". Without it, or with "all", every platform.
    #[arg(long = "platform", value_name = "PLATFORM")]
    platforms: Vec<String>,
    /// Also what refers to the images: signatures, SBOMs, attestations.
    #[arg(long)]
    referrers: bool,
    /// As JSON, a line for each image; the last one says how it ended.
    #[arg(long)]
    json: bool,
}

/// Pulls images before somebody asks for them.
pub(in crate::cli) fn run(reach: &Reach, options: &Options) -> Result<(), ExitCode> {
    let references = super::names(&options.references, options.file.as_slice())?;
    if references.is_empty() {
        return Err(usage("nothing is named: name images, or give `-f`"));
    }
    WantedPlatforms::parse(&options.platforms).map_err(|why| usage(&format!("--platform: {why}")))?;
    let request = WarmRequest { references, platforms: options.platforms.clone(), referrers: options.referrers };
    let mut shown = Shown::new(options.json, false);
    let job = match reach.find()? {
        Site::Running(server) => {
            let started = server.json(Request::post("/api/v1/warm").with(&json!(request)))?;
            let id = started.get("job").map(|job| plain(job, "id")).unwrap_or_default();
            shown.remark(&format!("the server runs {id}, and goes on with it if this command is interrupted"));
            let engine = Engine::Server(&server);
            crate::cli::block_on(shown.follow(&engine, &id, |_| false))?
        }
        Site::Stopped(config) => offline_storage::fill_mirror(*config, async |mirror| {
            let runner = Arc::new(JobRunner::new(mirror));
            let job = runner.warm(request).await.map_err(|err| failed(&err.to_string()))?;
            shown.follow(&Engine::Here(&runner), job.id(), |_| false).await
        })??,
    };
    shown.end(job.get("problem").and_then(Value::as_str), true)
}
