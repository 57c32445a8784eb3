//! `roadstead client-config`: the files that send a client's pulls through a mirror. Printed, or laid out below a root, where
//! what was there is kept and given back.

mod clients;
mod merge;
mod plan;
mod record;
mod root;
mod wanted;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};

use super::output::{failed, print, report};
use super::reach::ConfigFile;
use plan::Plan;
use record::Record;
use root::Root;
use wanted::Wanted;

/// A program that pulls images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Client {
    Containerd,
    Docker,
    Podman,
    Crio,
    #[value(name = "k3s")]
    K3s,
    #[value(name = "rke2")]
    Rke2,
    Openshift,
    Talos,
    Bottlerocket,
    Buildkit,
    Kaniko,
    GitlabRunner,
}

impl Client {
    fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

/// The form of containerd's own configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum ContainerdForm {
    /// `version = 2`: containerd 1.5 to 1.7; 2.x reads it, too.
    #[value(name = "1.6")]
    One,
    /// `version = 3`: containerd 2.x.
    #[value(name = "2")]
    Two,
}

#[derive(Debug, Args)]
pub(super) struct Options {
    /// The client.
    #[arg(value_name = "CLIENT")]
    client: Client,
    /// Where the client reaches the mirror, as in `http://mirror.corp:5000`.
    #[arg(long, value_name = "URL", required_unless_present = "undo")]
    mirror: Option<String>,
    /// A registry to send through the mirror; repeat it for several. Without it: those that the configuration serves.
    #[arg(long, value_name = "NAME")]
    authority: Vec<String>,
    /// The PEM file of the authority that signed the mirror's certificate, unless the client's system trusts it.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// The PEM file of a certificate by which the client shows who it is.
    #[arg(long, value_name = "FILE", requires = "client_key")]
    client_cert: Option<PathBuf>,
    /// The PEM file of that certificate's key.
    #[arg(long, value_name = "FILE", requires = "client_cert")]
    client_key: Option<PathBuf>,
    /// A header of each request to the mirror, as in 'X-Team: build'; repeat it for several. Others on this machine can see what
    /// stands on a command line: 'K: @FILE' reads the value from a file.
    #[arg(long, value_name = "K: V")]
    header: Vec<String>,
    /// Leave no way round the mirror.
    #[arg(long, conflicts_with = "fallback")]
    strict: bool,
    /// Go to the registry itself when the mirror fails. The default.
    #[arg(long)]
    fallback: bool,
    /// The form of containerd's config.toml, if there is none yet.
    #[arg(long, value_name = "FORM", default_value = "1.6")]
    containerd: ContainerdForm,
    /// Lay the files out below ROOT, which stands for `/`, and keep what was there.
    #[arg(long, value_name = "ROOT", conflicts_with = "undo")]
    write: Option<PathBuf>,
    /// After writing, wait for SIGTERM or SIGINT, and undo it then.
    #[arg(long, requires = "write")]
    until_stopped: bool,
    /// Give back what was there below ROOT before `--write`.
    #[arg(long, value_name = "ROOT")]
    undo: Option<PathBuf>,
}

pub(super) fn run(file: &ConfigFile, options: &Options) -> Result<(), ExitCode> {
    let client = options.client.name();
    if let Some(root) = &options.undo {
        return undo(&client, root);
    }
    let wanted = Wanted::of(options, || Ok(file.read_without_secrets()?.served))?;
    let plan = clients::plan(options.client, &wanted).map_err(|why| failed(&why))?;
    let Some(root) = &options.write else {
        print(&plan.as_text());
        return Ok(());
    };
    if !options.until_stopped {
        return write(&client, root, &plan);
    }
    super::block_on(async {
        // Listened for before anything is written: no signal comes too early to be undone.
        let stopped = stopped().map_err(|err| failed(&format!("cannot wait for signals: {err}")))?;
        write(&client, root, &plan)?;
        stopped.await;
        undo(&client, root)
    })
}

fn write(client: &str, path: &std::path::Path, plan: &Plan) -> Result<(), ExitCode> {
    let failure = |why: String| failed(&format!("{}: {why}", path.display()));
    let root = Root::open(path).map_err(|err| failure(err.to_string()))?;
    let mut record = Record::load(&root, client).map_err(failure)?;
    let told = record.write(&root, plan).map_err(failure)?;
    for line in told.iter().chain(&plan.then) {
        report(line);
    }
    Ok(())
}

fn undo(client: &str, path: &std::path::Path) -> Result<(), ExitCode> {
    let failure = |why: String| failed(&format!("{}: {why}", path.display()));
    let root = Root::open(path).map_err(|err| failure(err.to_string()))?;
    let record = Record::load(&root, client).map_err(failure)?;
    let (told, left) = record.undo(&root).map_err(failure)?;
    for line in &told {
        report(line);
    }
    if left.is_empty() { Ok(()) } else { Err(failure(left.join("; "))) }
}

fn stopped() -> std::io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
