use std::fs::File;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::ExitCode;

use crate::cli::output::{failed, print, report};
use crate::cli::reach::ConfigFile;
use crate::cli::reach::{as_owner, offline_storage, server};

/// Restores a backup into the storage of a stopped server.
pub(in crate::cli) fn run(file: &ConfigFile, from: &Path) -> Result<(), ExitCode> {
    let config = file.read_without_secrets()?;
    if server::ask_server(&config, "GET", "/livez").is_ok_and(|answer| answer.is_some()) {
        return Err(failed("the server runs: stop it, restore, and start it again"));
    }
    // Opened by whoever runs this: the owner of the storage may not be allowed to.
    let backup = if from == Path::new("-") {
        std::io::stdin().as_fd().try_clone_to_owned().map(File::from)
    } else {
        File::open(from)
    };
    let backup = backup.map_err(|err| failed(&format!("{} cannot be read: {err}", from.display())))?;
    if let Some(owner) = as_owner::other_owner(&config.storage.path)? {
        let mut command = owner.command_of("restore", file);
        command.arg("-").stdin(backup);
        return Err(owner.run(command));
    }
    let restored = crate::cli::block_on(async {
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
