//! `roadstead doctor`: what is not well, or soon will not be, and what to do about it. From the mirror's own machine, from a
//! client's, or of a server elsewhere.

mod certificate;
mod disk;
mod finding;
mod here;
mod node;
mod running;
mod upstreams;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use roadstead::config::Overrides;
use serde_json::json;

use super::output::{print, print_json, usage};
use super::reach::Reach;
use finding::{Findings, Level};

#[derive(Debug, Args)]
pub(super) struct Options {
    /// Look from a client's machine at the mirror at this URL. Without it: look at the mirror of this machine's configuration, its
    /// storage, and the registries behind it, each of which is asked once. With --server: ask that server only.
    #[arg(long, value_name = "URL", conflicts_with_all = ["config", "server"])]
    mirror: Option<String>,
    /// With --mirror: the PEM file of the authority that signed its certificate, unless the system trusts it.
    #[arg(long, value_name = "FILE", requires = "mirror")]
    ca: Option<PathBuf>,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// Exits with 1 if anything does not work.
pub(super) fn run(reach: &Reach, options: &Options) -> Result<(), ExitCode> {
    let mut findings = Findings::default();
    if let Some(url) = &options.mirror {
        node::look(url, options.ca.as_deref(), &mut findings).map_err(|why| usage(&why))?;
    } else if let Some(server) = reach.elsewhere()? {
        running::look(&server, &mut findings);
    } else {
        let config = reach.file().read(&Overrides::default())?;
        here::look(&config, &mut findings);
        disk::look(&config.storage.path, &mut findings);
        super::block_on(async {
            upstreams::look(&config.upstreams, &mut findings).await;
            Ok(())
        })?;
    }
    if options.json {
        print_json(&json!({ "worst": findings.worst(), "findings": findings.all() }));
    } else {
        print(&findings.lines());
    }
    if findings.worst() == Level::Bad { Err(ExitCode::FAILURE) } else { Ok(()) }
}
