use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

/// A file system of its own, so that it can be full.
pub struct Tmpfs(TempDir);

impl Tmpfs {
    pub fn mount(size: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(directory.path());
        assert!(mount.status().unwrap().success(), "this test mounts a file system: run it as root");
        Self(directory)
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _gone_with_the_process = Command::new("umount").arg("--lazy").arg(self.path()).status();
    }
}
