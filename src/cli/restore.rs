use std::fs::File;
use std::path::Path;
use std::process::ExitCode;

use super::output::{failed, print, report};
use super::{admin_client, offline_storage};

/// Restores a backup into the storage of a stopped server.
pub(super) fn run(file: Option<&Path>, from: &Path) -> Result<(), ExitCode> {
    let config = super::read(file)?;
    if admin_client::ask_server(&config, "GET", "/livez").is_ok_and(|answer| answer.is_some()) {
        return Err(failed("the server runs: stop it, restore, and start it again"));
    }
    let backup = File::open(from).map_err(|err| failed(&format!("{} cannot be read: {err}", from.display())))?;
    let restored = super::block_on(async {
        let storage = tokio::task::block_in_place(|| offline_storage::open_or_create(&config))?;
        let restored = roadstead::index::restore(&storage.index, backup).await;
        storage.close().await;
        restored.map_err(|err| failed(&format!("{} was not restored: {err}", from.display())))
    })?;
    print(&format!(
        "{} facts were put back; {} were known already, or are of bytes that are not here",
        restored.put_back, restored.superfluous
    ));
    if restored.unknown > 0 {
        report(&format!("{} were written by a newer release, and left out", restored.unknown));
    }
    Ok(())
}
