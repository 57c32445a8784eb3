//! Reads an archive from the beginning to the end. Blobs go into the store; what describes images stays in memory.

use std::collections::HashMap;
use std::io::{self, BufReader, Read};

use bytes::Bytes;
use tokio::runtime::Handle;

use super::staging::{Arrival, Staging};
use crate::jobs::bundle::docker_archive::{MANIFEST_FILE, Part};
use crate::jobs::bundle::layout::{INDEX_FILE, MAX_INDEX_BYTES, digest_of_path};
use crate::jobs::bundle::receipt::{RECEIPT_FILE, Receipt};
use crate::jobs::bundle::tar_reader::{TarEntry, TarError, TarKind, TarReader};
use crate::oci::Digest;
use crate::quote::quoted;

/// Paths and links that are kept for `docker save`, and the longest of them in bytes.
const MAX_PATHS: usize = 100_000;
const MAX_PATH_BYTES: usize = 256;
/// Largest manifest of a `dir:`.
const MAX_MANIFEST_BYTES: u64 = 8 * 1024 * 1024;

/// What an archive held.
pub(super) struct Collected {
    pub(super) staging: Staging,
    /// `index.json` of a layout.
    pub(super) index: Option<Vec<u8>>,
    /// `manifest.json` of `docker save`: a list.
    pub(super) saved: Option<Vec<u8>>,
    /// `manifest.json` of a `dir:`: the manifest itself.
    pub(super) plain: Option<Bytes>,
    pub(super) receipt: Option<Receipt>,
    /// Content of `docker save` by its path.
    pub(super) files: HashMap<String, Part>,
    /// Links of `docker save`, resolved within the archive.
    pub(super) links: HashMap<String, String>,
    /// The first thing that is wrong with the archive as a whole.
    pub(super) problem: Option<String>,
}

impl Collected {
    pub(super) fn new(staging: Staging) -> Self {
        Self {
            staging,
            index: None,
            saved: None,
            plain: None,
            receipt: None,
            files: HashMap::new(),
            links: HashMap::new(),
            problem: None,
        }
    }

    pub(super) fn failed(staging: Staging, problem: String) -> Self {
        Self { problem: Some(problem), ..Self::new(staging) }
    }

    fn complain(&mut self, problem: String) {
        self.problem.get_or_insert(problem);
    }
}

/// Reads the archive. Blocking; what is wrong with it is told in the result, and what came before that is kept.
pub(super) fn collect(archive: impl Read, staging: Staging, runtime: &Handle) -> Collected {
    let mut reading =
        Reading { tar: TarReader::new(archive), runtime, prefix: None, collected: Collected::new(staging) };
    if let Err(err) = reading.run() {
        let err = if let TarError::Io(err) = err { reading.tar.ended(err) } else { err };
        reading.collected.complain(format!("the archive: {err}"));
    }
    // Blobs that are small are stored beside one another.
    runtime.block_on(reading.collected.staging.settle());
    reading.collected
}

struct Reading<'a, R> {
    tar: TarReader<R>,
    runtime: &'a Handle,
    /// What stands in front of the names of the layout, as a directory that was packed.
    prefix: Option<String>,
    collected: Collected,
}

/// What a name in an archive means.
enum Meaning {
    Blob(Digest),
    Index,
    Manifest,
    Receipt,
    /// A layer, or a config, whose digest nobody tells.
    Content,
    Nothing,
}

impl<R: Read> Reading<'_, R> {
    fn run(&mut self) -> Result<(), TarError> {
        while let Some(entry) = self.tar.next_entry()? {
            if self.collected.staging.is_cancelled() {
                return Err(io::Error::other("the import was cancelled").into());
            }
            let Some(name) = inner_name(&entry.name) else {
                let problem = format!("the name {} leads out of the archive: refused", quoted(&entry.name));
                self.collected.complain(problem);
                continue;
            };
            match &entry.kind {
                TarKind::File => self.take(&name, &entry)?,
                TarKind::SymbolicLink(target) => self.link(&name, &join(&name, target)),
                // Its target is a name of the archive, as it is.
                TarKind::HardLink(target) => self.link(&name, target),
                TarKind::Directory | TarKind::Other => {}
            }
        }
        self.tar.drain()?;
        Ok(())
    }

    fn take(&mut self, name: &str, entry: &TarEntry) -> Result<(), TarError> {
        match self.meaning(name) {
            Meaning::Blob(digest) => {
                let arrival = self.collected.staging.take(self.runtime, digest, entry.size_bytes, &mut self.tar)?;
                if matches!(arrival, Some(Arrival::Held | Arrival::Stored)) || arrival.is_none() {
                    // A config or a layer of `docker save`.
                    self.keep_path(name, Part { digest, size_bytes: entry.size_bytes, is_gzip: false });
                }
            }
            Meaning::Index => self.collected.index = Some(self.read(name, entry, MAX_INDEX_BYTES)?),
            Meaning::Manifest => {
                let bytes = self.read(name, entry, MAX_INDEX_BYTES)?;
                if bytes.trim_ascii_start().starts_with(b"[") {
                    self.collected.saved = Some(bytes);
                } else if bytes.len() as u64 <= MAX_MANIFEST_BYTES {
                    self.collected.plain = Some(bytes.into());
                }
            }
            Meaning::Receipt => {
                let from = BufReader::new((&mut self.tar).take(entry.size_bytes));
                match Receipt::read(from) {
                    Ok(receipt) => {
                        let needs = self.runtime.block_on(self.collected.staging.expect(&receipt));
                        if let Err(why) = needs {
                            return Err(io::Error::other(why).into());
                        }
                        self.collected.receipt = Some(receipt);
                    }
                    Err(err) => self.collected.complain(format!("its receipt: {err}")),
                }
            }
            Meaning::Content => {
                let part = self.collected.staging.take_unnamed(self.runtime, entry.size_bytes, &mut self.tar)?;
                if let Some(part) = part {
                    self.keep_path(name, part);
                }
            }
            Meaning::Nothing => {}
        }
        Ok(())
    }

    fn meaning(&mut self, name: &str) -> Meaning {
        if let Some((prefix, digest)) = digest_of_path(name) {
            return if self.is_at(prefix) { Meaning::Blob(digest) } else { Meaning::Nothing };
        }
        let (prefix, last) = name.rsplit_once('/').unwrap_or(("", name));
        match last {
            INDEX_FILE if self.is_at(prefix) => Meaning::Index,
            MANIFEST_FILE if self.is_at(prefix) => Meaning::Manifest,
            RECEIPT_FILE if self.is_at(prefix) => Meaning::Receipt,
            "layer.tar" => Meaning::Content,
            _ => {
                // Of `dir:` and of `docker save`: names that are a digest, and an ending.
                let stem = last.strip_suffix(".manifest.json").or_else(|| last.strip_suffix(".json"));
                let stem = stem.or_else(|| last.strip_suffix(".tar")).unwrap_or(last);
                format!("sha256:{stem}").parse().map_or(Meaning::Nothing, Meaning::Blob)
            }
        }
    }

    /// Whether the layout is in this directory; the first name decides.
    fn is_at(&mut self, prefix: &str) -> bool {
        let known = self.prefix.get_or_insert_with(|| prefix.to_owned());
        if known == prefix {
            return true;
        }
        let problem =
            format!("it holds two layouts, in {} and {}; the second is not read", quoted(&known), quoted(prefix));
        self.collected.complain(problem);
        false
    }

    fn read(&mut self, name: &str, entry: &TarEntry, limit: u64) -> Result<Vec<u8>, TarError> {
        if entry.size_bytes > limit {
            let why = format!("{} has {} bytes; {limit} are read", quoted(name), entry.size_bytes);
            return Err(io::Error::other(why).into());
        }
        let mut bytes = vec![0; usize::try_from(entry.size_bytes).unwrap_or_default()];
        self.tar.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn keep_path(&mut self, name: &str, part: Part) {
        if name.len() <= MAX_PATH_BYTES && self.collected.files.len() < MAX_PATHS {
            self.collected.files.insert(name.to_owned(), part);
        }
    }

    fn link(&mut self, name: &str, target: &str) {
        let target = inner_name(target).filter(|target| target.len() <= MAX_PATH_BYTES);
        if let Some(target) = target
            && name.len() <= MAX_PATH_BYTES
            && self.collected.links.len() < MAX_PATHS
        {
            self.collected.links.insert(name.to_owned(), target);
        }
    }
}

/// A symbolic link's target, from the root of the archive.
fn join(name: &str, target: &str) -> String {
    match name.rsplit_once('/') {
        Some((directory, _)) if !target.starts_with('/') => format!("{directory}/{target}"),
        _ => target.to_owned(),
    }
}

/// A name without `.` and `..`; `None` if it leads out of the archive. Nothing is ever opened by it.
fn inner_name(name: &str) -> Option<String> {
    if name.starts_with('/') || name.contains('\0') {
        return None;
    }
    let mut parts = Vec::new();
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stays_in_the_archive_or_is_refused() {
        assert_eq!(inner_name("./a//b/../c").as_deref(), Some("a/c"));
        for bad in ["/etc/passwd", "..", "../a", "a/../../b", "a\0b"] {
            assert_eq!(inner_name(bad), None, "{bad}");
        }
        assert_eq!(inner_name(&join("x/layer.tar", "../y/layer.tar")).as_deref(), Some("y/layer.tar"));
        assert_eq!(inner_name(&join("x/layer.tar", "/etc/passwd")), None);
    }
}
