//! What a client needs: files, and what to do then.

use std::fmt::Write as _;

use super::merge::Merge;

/// Readable for all.
pub(super) const OPEN: u32 = 0o644;
/// For root alone: it holds a secret.
pub(super) const SECRET: u32 = 0o600;

#[derive(Default)]
pub(super) struct Plan {
    pub(super) files: Vec<PlannedFile>,
    /// For people: what to restart or run, and what else there is to know.
    pub(super) then: Vec<String>,
}

pub(super) struct PlannedFile {
    /// Below the root, without a slash in front.
    pub(super) path: String,
    pub(super) content: String,
    pub(super) mode: u32,
    /// What becomes of a file that is there.
    pub(super) merge: Merge,
}

impl Plan {
    pub(super) fn file(&mut self, path: impl Into<String>, content: String, mode: u32) {
        self.merged(path, content, mode, Merge::Replace);
    }

    pub(super) fn merged(&mut self, path: impl Into<String>, content: String, mode: u32, merge: Merge) {
        self.files.push(PlannedFile { path: path.into(), content, mode, merge });
    }

    pub(super) fn then(&mut self, line: impl Into<String>) {
        self.then.push(line.into());
    }

    pub(super) fn as_text(&self) -> String {
        let mut text = String::new();
        for file in &self.files {
            let how = match &file.merge {
                Merge::Replace => "",
                Merge::DaemonJson | Merge::Containerd | Merge::Buildkit | Merge::GitlabRunner(_) | Merge::Yaml => {
                    "   (merged with what is there)"
                }
            };
            // A key that was given as a file is not shown on a screen.
            let content = if file.content.contains("PRIVATE KEY-----") {
                "(the file of --client-key)"
            } else {
                file.content.trim_end()
            };
            let _ = write!(text, "==> /{}{how}\n{content}\n\n", file.path);
        }
        for line in &self.then {
            let _ = writeln!(text, "--> {line}");
        }
        text
    }
}
