use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use roadstead::jobs;

use super::output::write_file;
use crate::cli::output::{failed, report};
use crate::cli::reach::{Reach, Site, offline_storage};

#[derive(Debug, Args)]
pub(in crate::cli) struct Options {
    /// The file to write; without it, or with "-", standard output.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Writes what is held as a receipt, for `export --since` at another site.
pub(in crate::cli) fn run(reach: &Reach, options: &Options) -> Result<(), ExitCode> {
    let text = match reach.find()? {
        Site::Running(server) => server.bytes("/api/v1/inventory")?,
        Site::Stopped(config) => {
            let receipt = offline_storage::with_mirror(*config, async |mirror| jobs::inventory(mirror).await)?;
            receipt.map_err(|err| failed(&err.to_string()))?.to_bytes()
        }
    };
    write_receipt(options.output.as_deref(), &text)
}

/// Writes a receipt to a file, whole or not at all, or to standard output.
pub(super) fn write_receipt(output: Option<&Path>, text: &[u8]) -> Result<(), ExitCode> {
    use std::io::Write as _;
    let Some(path) = output.filter(|path| *path != Path::new("-")) else {
        return std::io::stdout().write_all(text).map_err(|err| failed(&format!("the receipt was not written: {err}")));
    };
    write_file(path, &mut |file| file.write_all(text))
        .map_err(|err| failed(&format!("{} was not written: {err}", path.display())))?;
    report(&format!("the receipt is in {}", path.display()));
    Ok(())
}
