use std::fs::File;
use std::path::Path;
use std::process::ExitCode;

/// Restores a backup into the storage of a stopped server.
pub(super) fn run(file: Option<&Path>, from: &Path) -> ExitCode {
    let config = match super::read(file) {
        Ok(config) => config,
        Err(code) => return code,
    };
    if super::ask_server(&config, "GET", "/livez").is_ok_and(|answer| answer.is_some()) {
        super::report("roadstead: the server runs: stop it, restore, and start it again");
        return ExitCode::FAILURE;
    }
    let backup = match File::open(from) {
        Ok(backup) => backup,
        Err(err) => {
            super::report(&format!("roadstead: {} cannot be read: {err}", from.display()));
            return ExitCode::FAILURE;
        }
    };
    let done = super::block_on(async {
        let storage = tokio::task::block_in_place(|| super::offline_storage::open_or_make(&config))?;
        let restored = roadstead::index::restore(&storage.index, backup).await;
        storage.index.close().await;
        drop(storage.store);
        restored.map_err(|err| {
            super::report(&format!("roadstead: {} was not restored: {err}", from.display()));
            ExitCode::FAILURE
        })
    });
    match done {
        Ok(restored) => {
            super::print(&format!(
                "{} facts were put back; {} were known already, or are of bytes that are not here",
                restored.put_back, restored.superfluous
            ));
            if restored.unknown > 0 {
                super::report(&format!("{} were written by a newer release, and left out", restored.unknown));
            }
            ExitCode::SUCCESS
        }
        Err(code) => code,
    }
}
