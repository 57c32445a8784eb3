//! Commands that fill the mirror and carry what it holds: they start jobs, and show what becomes of them.

mod directory;
pub(super) mod export;
mod follow;
pub(super) mod import;
pub(super) mod inventory;
mod output;
pub(super) mod warm;

use std::io::Read as _;
use std::path::Path;
use std::process::ExitCode;

use roadstead::jobs::named_images;

use super::output::usage;

/// Largest list of names, in bytes.
const LONGEST_LIST: u64 = 16 * 1024 * 1024;

/// The names of the command line, then those of a file: a list, or a manifest of Kubernetes or compose.
fn names(given: &[String], file: Option<&Path>) -> Result<Vec<String>, ExitCode> {
    let mut names = given.to_vec();
    if let Some(file) = file {
        let text = read_list(file).map_err(|err| usage(&format!("{} cannot be read: {err}", file.display())))?;
        names.extend(named_images(&text));
    }
    Ok(names)
}

fn read_list(file: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    let read = if file == Path::new("-") {
        std::io::stdin().take(LONGEST_LIST).read_to_string(&mut text)?
    } else {
        std::fs::File::open(file)?.take(LONGEST_LIST).read_to_string(&mut text)?
    };
    if read as u64 == LONGEST_LIST { Err(std::io::Error::other("it is too long")) } else { Ok(text) }
}
