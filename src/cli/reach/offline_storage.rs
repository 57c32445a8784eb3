//! Opens the storage of a stopped server for a command. The storage stays locked while it is open.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use roadstead::app::{OfflineMirror, StartError};
use roadstead::clock::Clock;
use roadstead::config::Config;
use roadstead::health::Health;
use roadstead::index::Index;
use roadstead::mirror::Mirror;
use roadstead::oci::Digest;
use roadstead::store::{self, OpenError, Store};
use roadstead::telemetry;

use super::as_owner;
use crate::cli::output::failed;

pub(in crate::cli) struct OfflineStorage {
    store: Store,
    pub(in crate::cli) index: Arc<Index>,
}

impl OfflineStorage {
    /// Writes the index down, and releases the lock.
    pub(in crate::cli) async fn close(self) {
        self.index.close().await;
        drop(self.store);
    }
}

/// Runs work that needs the mirror, not only facts, on a runtime of its own. Root becomes the owner first.
pub(in crate::cli) fn with_mirror<T>(config: Config, work: impl AsyncFnOnce(&Arc<Mirror>) -> T) -> Result<T, ExitCode> {
    require_storage(&config.storage.path)?;
    fill_mirror(config, work)
}

/// As [`with_mirror`], for work that fills the storage: creates an empty one if there is none.
pub(in crate::cli) fn fill_mirror<T>(config: Config, work: impl AsyncFnOnce(&Arc<Mirror>) -> T) -> Result<T, ExitCode> {
    as_owner::hand_over(&config.storage.path)?;
    let socket = config.server.admin_socket.clone();
    crate::cli::block_on(async {
        telemetry::start(config.log.format, config.log.level);
        let offline = OfflineMirror::open(config, Clock::default()).await.map_err(|err| {
            let is_in_use = matches!(err, StartError::Store(OpenError::InUse { .. }));
            cannot_open(&err.to_string(), is_in_use, socket.as_deref())
        })?;
        let done = work(offline.mirror()).await;
        offline.close().await;
        Ok(done)
    })
}

/// Opens the facts of an existing storage. The owner runs it: see [`as_owner`]. Blocking, within a runtime.
pub(in crate::cli) fn open(config: &Config) -> Result<OfflineStorage, ExitCode> {
    require_storage(&config.storage.path)?;
    open_or_create(config)
}

/// As [`open`], but creates an empty storage if there is none. The owner runs it: see [`as_owner`].
pub(in crate::cli) fn open_or_create(config: &Config) -> Result<OfflineStorage, ExitCode> {
    let root = &config.storage.path;
    let store = Store::open(root, config.storage.limits).map_err(|err| {
        let is_in_use = matches!(err, OpenError::InUse { .. });
        cannot_open(&err.to_string(), is_in_use, config.server.admin_socket.as_deref())
    })?;
    telemetry::start(config.log.format, config.log.level);
    let walk =
        |each: &mut dyn FnMut(Digest, u64)| store::recovery::walk(&store, |blob| each(blob.digest, blob.size_bytes));
    let opened = Index::open(root, Health::default(), Clock::default().now(), &walk);
    let (index, _) =
        opened.map_err(|err| failed(&format!("the index in {} cannot be opened: {err}", root.display())))?;
    Ok(OfflineStorage { store, index: Arc::new(index) })
}

fn require_storage(root: &Path) -> Result<(), ExitCode> {
    if root.join("VERSION").exists() {
        return Ok(());
    }
    Err(failed(&format!("there is no storage at {}", root.display())))
}

fn cannot_open(err: &str, is_in_use: bool, socket: Option<&Path>) -> ExitCode {
    let advice = match (is_in_use, socket) {
        (false, _) => String::new(),
        (true, Some(socket)) => {
            format!("\n  its admin socket {} does not answer: is its configuration this one?", socket.display())
        }
        (true, None) => "\n  `server.admin_socket` is off: the command cannot ask it".to_owned(),
    };
    failed(&format!("{err}{advice}"))
}
