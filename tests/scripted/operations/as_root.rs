//! The storage of another user: only root can make one.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use tempfile::TempDir;

use super::program::stderr;
use crate::support::eventually;
use crate::support::mirror::files_below;

/// The user that the unit would run the server as, and somebody else.
const OWNER: u32 = 64_001;
const STRANGER: u32 = 64_002;

/// Directories and users as `deploy/systemd/roadstead.service` lays them out, below a directory of the test's own.
struct Machine {
    root: TempDir,
}

impl Machine {
    fn new() -> Self {
        let machine = Self { root: tempfile::tempdir().unwrap() };
        let open = |path: &Path, mode: u32| {
            std::fs::create_dir_all(path).unwrap();
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        for directory in [machine.at(""), machine.at("etc"), machine.at("usr"), machine.at("var")] {
            open(&directory, 0o755);
        }
        // As `StateDirectory` and `StateDirectoryMode` say.
        open(&machine.storage(), 0o750);
        chown(machine.storage(), Some(OWNER), Some(OWNER)).unwrap();
        // As `LoadCredential` does: for the service alone, and only while it runs.
        open(&machine.at("run"), 0o700);
        std::fs::write(machine.at("run/hub"), "secret").unwrap();
        // By another process: a file that this one has open for writing would go to each child that another test starts, and
        // could not be run meanwhile.
        let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_roadstead")).arg(machine.at("usr/roadstead")).status();
        assert!(copied.unwrap().success());
        let toml = format!(
            "[server]\nlisten = \"127.0.0.1:0\"\nadmin_listen = \"off\"\n[storage]\npath = \"{}\"\n\
             [upstreams.\"docker.io\"]\nurl = \"http://127.0.0.1:9\"\nusername = \"robot\"\npassword_file = \"{}\"\n",
            machine.storage().display(),
            machine.at("run/hub").display()
        );
        std::fs::write(machine.config(), toml).unwrap();
        machine
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    fn storage(&self) -> PathBuf {
        self.at("var/roadstead")
    }

    fn config(&self) -> PathBuf {
        self.at("etc/roadstead.toml")
    }

    fn command(&self, user: u32, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.at("usr/roadstead"));
        command.env_clear().current_dir("/").stdin(Stdio::null()).args(arguments).arg("-c").arg(self.config());
        if user != 0 {
            command.uid(user).gid(user);
        }
        command
    }

    async fn run(&self, user: u32, arguments: &[&str]) -> Output {
        let mut command = self.command(user, arguments);
        tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
    }

    /// Root runs a command, which works. What it printed.
    async fn root(&self, arguments: &[&str]) -> String {
        let output = self.run(0, arguments).await;
        assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// The server as the unit starts it, with its credentials.
    async fn serve(&self) -> Child {
        chown(self.at("run"), Some(OWNER), None).unwrap();
        chown(self.at("run/hub"), Some(OWNER), None).unwrap();
        let mut server = self.command(OWNER, &["serve"]).stderr(Stdio::null()).spawn().unwrap();
        eventually("it serves", async || {
            assert!(server.try_wait().unwrap().is_none(), "it ends");
            self.run(OWNER, &["healthcheck"]).await.status.success()
        })
        .await;
        server
    }

    async fn stop(&self, mut server: Child) {
        let pid = rustix::process::Pid::from_child(&server);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let ended = tokio::task::spawn_blocking(move || server.wait().unwrap()).await.unwrap();
        assert!(ended.success());
        // The credentials go with the service.
        chown(self.at("run"), Some(0), None).unwrap();
        chown(self.at("run/hub"), Some(0), None).unwrap();
    }

    fn assert_all_is_the_owners(&self) {
        for path in files_below(&self.storage()) {
            assert_eq!(std::fs::metadata(&path).unwrap().uid(), OWNER, "{}", path.display());
        }
    }
}

#[tokio::test]
async fn t63_commands_of_root_work_as_the_unit_lays_things_out_and_leave_nothing_of_root() {
    let machine = Machine::new();
    let backups = machine.at("root");
    std::fs::create_dir(&backups).unwrap();
    std::fs::set_permissions(&backups, std::fs::Permissions::from_mode(0o700)).unwrap();
    let (running, stopped) = (backups.join("running.facts"), backups.join("stopped.facts"));
    let server = machine.serve().await;
    assert!(machine.root(&["status"]).await.contains("running: yes"));
    machine.root(&["pin", "add", "docker.io/library/**"]).await;
    machine.root(&["backup", running.to_str().unwrap()]).await;
    assert!(machine.root(&["verify"]).await.contains("all is right"));
    machine.stop(server).await;

    // The secrets of the server are not to be read now, and no command needs them.
    assert!(machine.root(&["status"]).await.contains("running: no"));
    assert!(machine.root(&["pin", "ls"]).await.contains("docker.io/library/**"));
    assert!(machine.root(&["lost"]).await.contains("nothing is lost"));
    assert!(machine.root(&["verify"]).await.contains("all is right"));
    machine.root(&["backup", stopped.to_str().unwrap()]).await;
    assert_eq!(std::fs::read(&running).unwrap(), std::fs::read(&stopped).unwrap());
    machine.root(&["pin", "rm", "docker.io/library/**"]).await;
    let restored = machine.root(&["restore", stopped.to_str().unwrap()]).await;
    assert!(restored.contains("facts were put back"), "{restored}");
    machine.assert_all_is_the_owners();

    let server = machine.serve().await;
    machine.stop(server).await;
}

/// Its files would keep the owner's server from starting.
#[tokio::test]
async fn a_command_leaves_nothing_in_the_storage_of_another_user() {
    let machine = Machine::new();
    std::fs::set_permissions(machine.storage(), std::fs::Permissions::from_mode(0o777)).unwrap();
    std::fs::write(machine.storage().join("VERSION"), "1\n").unwrap();
    for command in [&["status"][..], &["verify"], &["lost"], &["pin", "ls"], &["backup", "-"]] {
        let output = machine.run(STRANGER, command).await;
        assert_eq!(output.status.code(), Some(1), "{command:?}: {}", stderr(&output));
        let told = format!("belongs to the user with the id {OWNER}");
        assert!(stderr(&output).contains(&told), "{command:?}: {}", stderr(&output));
    }
    assert_eq!(std::fs::read_dir(machine.storage()).unwrap().count(), 1, "but what was there");
}

/// What the layout above takes from the unit.
#[test]
fn the_unit_has_a_user_of_its_own_that_keeps_the_storage() {
    let read = |file: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/systemd").join(file);
        std::fs::read_to_string(path).unwrap()
    };
    let unit = read("roadstead.service");
    for line in ["User=roadstead", "StateDirectory=roadstead", "StateDirectoryMode=0750"] {
        assert!(unit.lines().any(|have| have == line), "{line} in\n{unit}");
    }
    assert!(!unit.contains("DynamicUser="), "root cannot become a user that is there only while the service runs");
    assert!(read("roadstead.sysusers.conf").lines().any(|line| line.starts_with("u roadstead ")));
}
