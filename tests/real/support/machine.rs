//! A machine in the sense of a fleet: a place with its own settings and state, and nothing pulled yet.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{process, program};

/// The name by which clients reach a Roadstead that has a certificate.
///
/// Docker verifies no certificate of an address in 127.0.0.0/8. Connecting to 0.0.0.0 reaches the same listener and
/// is not in that range, so that every client really checks.
pub(crate) const MIRROR_NAME: &str = "mirror.test";

/// Registries' own names lead to a closed port: a client that goes around the mirror fails.
const HOSTS: &str = "\
127.0.0.1 localhost
0.0.0.0 mirror.test
0.0.0.0 docker.io index.docker.io registry-1.docker.io auth.docker.io secure.test
";

/// Puts private files over the system's, then becomes the program, so that the program keeps the process id.
const BECOME: &str = r#"
while [ "$1" != -- ]; do
    mount --bind "$1" "$2" || exit 125
    shift 2
done
shift
exec "$@"
"#;

pub(crate) struct Machine {
    folder: PathBuf,
    /// Files of the machine, and those that stand in for them.
    private: Vec<(PathBuf, String)>,
}

impl Machine {
    /// A new machine in a new folder `name` of `parent`.
    pub(crate) fn new(parent: &Path, name: &str) -> Self {
        let folder = parent.join(name);
        fs::create_dir(&folder).expect("a machine's folder is new");
        let mut machine = Self { folder, private: Vec::new() };
        fs::create_dir(machine.folder.join("tmp")).expect("a machine's folder is writable");
        machine.write("etc/hosts", HOSTS);
        machine.owns("etc/hosts");
        for state in ["var/lib", "run", "dev/shm"] {
            machine.owns_folder(state);
        }
        machine
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// A path on this machine, as text for arguments and configuration files.
    pub(crate) fn path(&self, name: &str) -> String {
        self.folder.join(name).to_str().expect("folders for tests have plain names").to_owned()
    }

    /// Writes a file below the machine's folder.
    pub(crate) fn write(&self, name: &str, content: &str) {
        let path = self.folder.join(name);
        let parent = path.parent().expect("a file is in a folder");
        fs::create_dir_all(parent).and_then(|()| fs::write(&path, content)).expect("a machine's folder is writable");
    }

    /// Gives the machine its own, empty `/<path>`, which is `<path>` below its folder.
    pub(crate) fn owns_folder(&mut self, path: &str) {
        fs::create_dir_all(self.folder.join(path)).expect("a machine's folder is writable");
        self.owns(path);
    }

    fn owns(&mut self, path: &str) {
        self.private.push((self.folder.join(path), format!("/{path}")));
    }

    /// `program` on this machine. It sees nothing of the user who runs the tests.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = process::command(program::find("unshare"));
        command.args(["--mount", "--propagation", "private", "--", "sh", "-c", BECOME, "sh"]);
        for (own, system) in &self.private {
            command.arg(own).arg(system);
        }
        command.arg("--").arg(program::find(program));
        command
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", &self.folder)
            .env("TMPDIR", self.folder.join("tmp"))
            .current_dir(&self.folder);
        command
    }
}
