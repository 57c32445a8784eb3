//! Opens the storage of a stopped server for a command.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use roadstead::app::{OfflineMirror, StartError};
use roadstead::clock::Clock;
use roadstead::config::Config;
use roadstead::health::Health;
use roadstead::index::Index;
use roadstead::oci::Digest;
use roadstead::store::{OpenError, Store};
use roadstead::telemetry;

/// The storage, locked as long as this value lives.
pub(super) struct Storage {
    pub(super) store: Store,
    pub(super) index: Arc<Index>,
}

/// Takes the lock and opens the index, or prints the reason why not. Blocks; needs a runtime.
pub(super) fn open(config: &Config) -> Result<Storage, ExitCode> {
    is_there(&config.storage.path)?;
    open_or_make(config)
}

/// The storage with its mirror, for commands that need blobs as well as facts.
pub(super) async fn still(config: Config) -> Result<OfflineMirror, ExitCode> {
    let root = config.storage.path.clone();
    let socket = config.server.admin_socket.clone();
    is_there(&root)?;
    is_ours(&root)?;
    telemetry::start(config.log.format, config.log.level);
    OfflineMirror::open(config, Clock::default()).await.map_err(|err| {
        let is_in_use = matches!(err, StartError::Store(OpenError::InUse { .. }));
        let advice = if is_in_use { in_use(socket.as_deref()) } else { String::new() };
        super::report(&format!("roadstead: {err}{advice}"));
        ExitCode::FAILURE
    })
}

fn is_there(root: &Path) -> Result<(), ExitCode> {
    if root.join("VERSION").exists() {
        return Ok(());
    }
    super::report(&format!("roadstead: there is no storage at {}", root.display()));
    Err(ExitCode::FAILURE)
}

/// Refuses to run as another user than the storage's owner, whose server could not open the files that the command
/// leaves. A missing or unreadable directory is left to the next step.
fn is_ours(root: &Path) -> Result<(), ExitCode> {
    let Ok(metadata) = std::fs::metadata(root) else { return Ok(()) };
    let owner = metadata.uid();
    if owner == rustix::process::geteuid().as_raw() {
        return Ok(());
    }
    super::report(&format!(
        "roadstead: the storage {} belongs to the user with the id {owner}: run this as that user, as with `sudo -u '#{owner}'`; \
         files of another one would keep its server from starting",
        root.display()
    ));
    Err(ExitCode::FAILURE)
}

/// As [`open`], but makes an empty storage if there is none.
pub(super) fn open_or_make(config: &Config) -> Result<Storage, ExitCode> {
    let root = &config.storage.path;
    is_ours(root)?;
    let store = Store::open(root, config.storage.limits).map_err(|err| {
        let advice = if matches!(err, OpenError::InUse { .. }) {
            in_use(config.server.admin_socket.as_deref())
        } else {
            String::new()
        };
        super::report(&format!("roadstead: {err}{advice}"));
        ExitCode::FAILURE
    })?;
    telemetry::start(config.log.format, config.log.level);
    let walk = |each: &mut dyn FnMut(Digest, u64)| store.walk(|blob| each(blob.digest, blob.size_bytes));
    let opened = Index::open(root, Health::default(), Clock::default().now(), &walk);
    let (index, _) = opened.map_err(|err| {
        super::report(&format!("roadstead: the index in {} cannot be opened: {err}", root.display()));
        ExitCode::FAILURE
    })?;
    Ok(Storage { store, index: Arc::new(index) })
}

fn in_use(socket: Option<&Path>) -> String {
    match socket {
        Some(socket) => {
            format!("\n  its admin socket {} does not answer: is its configuration this one?", socket.display())
        }
        None => "\n  `server.admin_socket` is off: the command cannot ask it".to_owned(),
    }
}
