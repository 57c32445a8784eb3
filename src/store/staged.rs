//! The blobs that an import has brought and that nothing names yet. Those of an import that was cut would stay for
//! ever, as last copies of what nobody can ask for.

use std::collections::{HashMap, HashSet};
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use rustix::fs::OFlags;

use crate::clock::Timestamp;
use crate::oci::Digest;

use super::{Store, layout, off_runtime};

/// Stands for the registry of what comes from none, in names of partial files.
pub const NOWHERE: &str = "import.invalid";

/// A line that is added while the list is written anew must not be lost.
static LIST: Mutex<()> = Mutex::new(());

fn read(path: &Path) -> io::Result<HashMap<Digest, Timestamp>> {
    let list = match File::open(path) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(HashMap::new()),
        list => list?,
    };
    let mut staged = HashMap::new();
    for line in BufReader::new(list).lines() {
        let line = line?;
        let Some((digest, since)) = line.split_once(' ') else { continue };
        if let (Ok(digest), Ok(since)) = (digest.parse(), since.parse()) {
            staged.insert(digest, Timestamp::from_millis(since));
        }
    }
    Ok(staged)
}

/// Adds a blob to the list, before it is stored. A power cut may lose the line: then the blob stays.
pub async fn note(store: &Store, digest: Digest, now: Timestamp) -> io::Result<()> {
    let path = store.layout.staged();
    off_runtime(move || {
        let _turn = LIST.lock().unwrap_or_else(PoisonError::into_inner);
        let flags = OFlags::NOFOLLOW.bits().cast_signed();
        let mut list = OpenOptions::new().append(true).create(true).mode(0o600).custom_flags(flags).open(path)?;
        list.write_all(format!("{digest} {}\n", now.as_millis()).as_bytes())
    })
    .await
}

/// The list: blobs, and since when they wait. Lines that cannot be read are left out.
pub async fn list(store: &Store) -> io::Result<HashMap<Digest, Timestamp>> {
    let path = store.layout.staged();
    off_runtime(move || read(&path)).await
}

/// Takes blobs off the list.
pub async fn forget(store: &Store, settled: Vec<Digest>) -> io::Result<()> {
    let path = store.layout.staged();
    off_runtime(move || {
        let _turn = LIST.lock().unwrap_or_else(PoisonError::into_inner);
        let settled: HashSet<Digest> = settled.into_iter().collect();
        let mut staged = read(&path)?;
        staged.retain(|digest, _| !settled.contains(digest));
        if staged.is_empty() {
            return layout::remove_if_there(&path);
        }
        let mut lines: Vec<String> =
            staged.iter().map(|(digest, since)| format!("{digest} {}\n", since.as_millis())).collect();
        lines.sort_unstable();
        layout::write_durably(&path, &path.with_extension("new"), lines.concat().as_bytes())
    })
    .await
}

/// A file without a name, for content whose digest is not known yet. Blocking. Its bytes are not counted.
pub fn unnamed_file(store: &Store) -> io::Result<File> {
    let directory = store.layout.partials();
    let flags = OFlags::TMPFILE.bits().cast_signed();
    let unnamed = OpenOptions::new().read(true).write(true).mode(0o600).custom_flags(flags).open(&directory);
    unnamed.or_else(|_no_such_kind| {
        // Some file systems have no such files.
        let path = directory.join("unnamed");
        layout::remove_if_there(&path)?;
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
        std::fs::remove_file(path)?;
        Ok(file)
    })
}
