//! What `--write` changed below a root, kept there, so that `--undo` gives back what was there. The copies and the list are on
//! the disk before the first file changes: after a crash at any moment, undo and another write both know all of it (T88).

use serde::{Deserialize, Serialize};

use super::merge::{Merge, Merged};
use super::plan::{Plan, PlannedFile};
use super::root::{Found, Root};

/// Where the record is, below the root; for root alone, since the copies may hold secrets (T87).
const KEPT: &str = "var/lib/roadstead-clients";
const SECRET: u32 = 0o600;

#[derive(Default)]
pub(super) struct Record {
    folder: String,
    list: List,
}

/// `record.json`.
#[derive(Default, Serialize, Deserialize)]
struct List {
    entries: Vec<Entry>,
    /// Made for the files, from the top.
    folders: Vec<String>,
    /// The next copy is called so.
    next: u64,
}

#[derive(Clone, Serialize, Deserialize)]
struct Entry {
    path: String,
    original: Option<Kept>,
    /// Copies of what Roadstead wrote there, or was about to: anything else there is somebody's own.
    wrote: Vec<Kept>,
}

/// A copy in the record's folder, and the rights of what it is a copy of.
#[derive(Clone, Serialize, Deserialize)]
struct Kept {
    copy: String,
    mode: u32,
    owner: (u32, u32),
}

/// A file that is about to change.
struct Change {
    path: String,
    original: Option<Found>,
    wanted: Found,
}

impl Record {
    pub(super) fn load(root: &Root, client: &str) -> Result<Self, String> {
        let folder = format!("{KEPT}/{client}");
        let list = match root.read(&format!("{folder}/record.json"))? {
            Some(found) => {
                serde_json::from_slice(&found.bytes).map_err(|err| format!("/{folder}/record.json: {err}"))?
            }
            None => List::default(),
        };
        Ok(Self { folder, list })
    }

    /// Lays out `plan` in place of what this record has, and says what it did. A failure before the first file changes leaves
    /// everything as it was.
    pub(super) fn write(&mut self, root: &Root, plan: &Plan) -> Result<Vec<String>, String> {
        let mut told = Vec::new();
        let mut changes = Vec::new();
        for file in &plan.files {
            match self.change(root, file)? {
                Ok(change) => changes.push(change),
                Err(why) => told.push(format!("/{} stays as it is: {why}", file.path)),
            }
        }
        let is_planned = |path: &str| changes.iter().any(|change| change.path == path);
        let gone: Vec<Entry> = self.list.entries.iter().filter(|entry| !is_planned(&entry.path)).cloned().collect();

        root.make_folder(KEPT, 0o755)?;
        root.make_folder(&self.folder, 0o700)?;
        for change in &changes {
            let wrote = self.keep(root, &change.wanted)?;
            if let Some(entry) = self.list.entries.iter_mut().find(|entry| entry.path == change.path) {
                entry.wrote.push(wrote);
            } else {
                let original = change.original.as_ref().map(|found| self.keep(root, found)).transpose()?;
                self.list.entries.push(Entry { path: change.path.clone(), original, wrote: vec![wrote] });
            }
        }
        self.save(root)?;

        for change in &changes {
            let folder = change.path.rsplit_once('/').map_or("", |(folder, _)| folder);
            let made = root.make_folder(folder, 0o755)?;
            if !made.is_empty() {
                self.list.folders.extend(made);
                self.save(root)?;
            }
            root.write(&change.path, &change.wanted)?;
            told.push(format!("wrote /{}", change.path));
        }
        for entry in gone {
            match self.give_back(root, &entry)? {
                Ok(line) => told.extend(line),
                Err(why) => told.push(why),
            }
            self.list.entries.retain(|other| other.path != entry.path);
        }
        self.forget_older(root)?;
        Ok(told)
    }

    /// What is to become of one file; or why it stays.
    fn change(&self, root: &Root, file: &PlannedFile) -> Result<Result<Change, String>, String> {
        let now = root.read(&file.path)?;
        let original = match self.list.entries.iter().find(|entry| entry.path == file.path) {
            None => now,
            Some(entry) if self.is_ours(root, entry, now.as_ref())? => self.original(root, entry)?,
            Some(_) => {
                return Err(format!(
                    "/{} was changed since Roadstead wrote it: --undo first, or take the change back",
                    file.path
                ));
            }
        };
        let text = original.as_ref().map(|found| str::from_utf8(&found.bytes));
        let text = text.transpose().map_err(|_not_text| format!("/{} is no text", file.path))?;
        let content = match file.merge.apply(&file.content, text).map_err(|why| format!("/{} {why}", file.path))? {
            Merged::Content(content) => content,
            Merged::Leave(why) => return Ok(Err(why)),
        };
        // A file that is merged keeps its rights.
        let kept = original.as_ref().filter(|_| !matches!(file.merge, Merge::Replace));
        let (mode, owner) = kept.map_or((file.mode, ids()), |found| (found.mode, found.owner));
        let wanted = Found { bytes: content.into_bytes(), mode, owner };
        Ok(Ok(Change { path: file.path.clone(), original, wanted }))
    }

    /// Gives everything back; what somebody changed since stays, and is told in the second list.
    pub(super) fn undo(mut self, root: &Root) -> Result<(Vec<String>, Vec<String>), String> {
        let (mut told, mut left) = (Vec::new(), Vec::new());
        if self.list.entries.is_empty() && self.list.folders.is_empty() {
            return Ok((told, left));
        }
        for entry in self.list.entries.clone() {
            match self.give_back(root, &entry)? {
                Ok(line) => told.extend(line),
                Err(why) => {
                    left.push(why);
                    continue;
                }
            }
            self.list.entries.retain(|other| other.path != entry.path);
        }
        for folder in self.list.folders.iter().rev() {
            root.remove_empty_folder(folder);
        }
        if left.is_empty() {
            self.list.folders.clear();
        }
        self.forget_older(root)?;
        if self.list.entries.is_empty() {
            root.remove(&format!("{}/record.json", self.folder))?;
            root.remove_empty_folder(&self.folder);
            root.remove_empty_folder(KEPT);
        }
        Ok((told, left))
    }

    /// What it did, nothing if there was nothing to do; or why it did not.
    fn give_back(&self, root: &Root, entry: &Entry) -> Result<Result<Option<String>, String>, String> {
        let (now, original) = (root.read(&entry.path)?, self.original(root, entry)?);
        if now == original {
            return Ok(Ok(None));
        }
        if !self.is_ours(root, entry, now.as_ref())? {
            let copy = entry.original.as_ref().map_or_else(
                || "there was none before".to_owned(),
                |kept| format!("what was there before is in /{}/{}", self.folder, kept.copy),
            );
            return Ok(Err(format!("/{} was changed since Roadstead wrote it, and is left; {copy}", entry.path)));
        }
        match original {
            Some(original) => root.write(&entry.path, &original)?,
            None => root.remove(&entry.path)?,
        }
        let what = if entry.original.is_some() { "gave back" } else { "removed" };
        Ok(Ok(Some(format!("{what} /{}", entry.path))))
    }

    /// Whether a file is as Roadstead found it or wrote it.
    fn is_ours(&self, root: &Root, entry: &Entry, now: Option<&Found>) -> Result<bool, String> {
        let original = self.original(root, entry)?;
        let bytes = |found: &Found| found.bytes.clone();
        if now.map(bytes) == original.as_ref().map(bytes) {
            return Ok(true);
        }
        for kept in &entry.wrote {
            if self.copy(root, kept)?.map(|found| found.bytes) == now.map(bytes) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn original(&self, root: &Root, entry: &Entry) -> Result<Option<Found>, String> {
        let Some(kept) = &entry.original else { return Ok(None) };
        let copy = self.copy(root, kept)?;
        copy.map(Some).ok_or_else(|| format!("/{}/{} is missing: it had /{}", self.folder, kept.copy, entry.path))
    }

    fn copy(&self, root: &Root, kept: &Kept) -> Result<Option<Found>, String> {
        let found = root.read(&format!("{}/{}", self.folder, kept.copy))?;
        Ok(found.map(|found| Found { mode: kept.mode, owner: kept.owner, ..found }))
    }

    fn keep(&mut self, root: &Root, file: &Found) -> Result<Kept, String> {
        let copy = self.list.next.to_string();
        self.list.next += 1;
        let secret = Found { bytes: file.bytes.clone(), mode: SECRET, owner: ids() };
        root.write(&format!("{}/{copy}", self.folder), &secret)?;
        Ok(Kept { copy, mode: file.mode, owner: file.owner })
    }

    /// Of several writings of a file, the last one stays.
    fn forget_older(&mut self, root: &Root) -> Result<(), String> {
        for entry in &mut self.list.entries {
            entry.wrote.drain(..entry.wrote.len().saturating_sub(1));
        }
        self.save(root)?;
        let entries = &self.list.entries;
        let in_use = |name: &str| {
            let kept = entries.iter().flat_map(|entry| entry.wrote.iter().chain(&entry.original));
            kept.into_iter().any(|kept| kept.copy == name)
        };
        for name in (0..self.list.next).map(|nth| nth.to_string()).filter(|name| !in_use(name)) {
            root.remove(&format!("{}/{name}", self.folder))?;
        }
        self.list.next = (0..self.list.next).rev().find(|nth| in_use(&nth.to_string())).map_or(0, |last| last + 1);
        self.save(root)
    }

    fn save(&self, root: &Root) -> Result<(), String> {
        let bytes = serde_json::to_vec_pretty(&self.list).map_err(|err| err.to_string())?;
        root.write(&format!("{}/record.json", self.folder), &Found { bytes, mode: SECRET, owner: ids() })
    }
}

/// Who runs this.
fn ids() -> (u32, u32) {
    (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw())
}
