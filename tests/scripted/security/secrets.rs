//! Files that hold secrets, and programs that tell them.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use tempfile::TempDir;

pub(super) struct Secrets {
    directory: TempDir,
}

impl Secrets {
    pub(super) fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Written, or written anew. Gives its path.
    pub(super) fn file(&self, name: &str, content: &str) -> String {
        let path = self.path(name);
        std::fs::write(&path, content).unwrap();
        path.display().to_string()
    }

    /// A credential helper: a shell script that reads the registry's name from standard input.
    pub(super) fn helper(&self, name: &str, script: &str) -> String {
        let file = self.file(name, &format!("#!/bin/sh\nread -r server || true\n{script}\n"));
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
        file
    }

    /// `username` and `password_file` lines.
    pub(super) fn login(&self, username: &str, password: &str) -> String {
        let file = self.file(username, &format!("{password}\n"));
        format!("username = \"{username}\"\npassword_file = \"{file}\"\n")
    }
}
