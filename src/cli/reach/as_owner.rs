//! Commands of root act as the owner of the storage: files of root would keep the owner's server from starting.

use std::ffi::OsStr;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitCode};

use super::config_file::ConfigFile;
use crate::cli::output::failed;

/// The user whom a storage belongs to, if that is not the one who runs the command.
#[derive(Debug, Clone, Copy)]
pub(in crate::cli) struct OtherOwner {
    user: u32,
    group: u32,
}

/// Whom root has to become for this storage; `None` if its owner runs the command. A missing or unreadable directory is left
/// to the next step. An error for anybody else: the server could not open the files that the command leaves.
pub(in crate::cli) fn other_owner(root: &Path) -> Result<Option<OtherOwner>, ExitCode> {
    let Ok(metadata) = std::fs::metadata(root) else { return Ok(None) };
    let (user, group) = (metadata.uid(), metadata.gid());
    let me = rustix::process::geteuid();
    if user == me.as_raw() {
        return Ok(None);
    }
    if me.is_root() {
        return Ok(Some(OtherOwner { user, group }));
    }
    Err(failed(&format!(
        "the storage {} belongs to the user with the id {user}: run this as that user or as root; files of another one \
        would keep its server from starting",
        root.display()
    )))
}

/// Runs this whole command again as the owner, if root runs it for another user's storage. The error is then its exit code.
pub(in crate::cli) fn hand_over(root: &Path) -> Result<(), ExitCode> {
    match other_owner(root)? {
        None => Ok(()),
        Some(owner) => Err(owner.run(owner.command(std::env::args_os().skip(1)))),
    }
}

impl OtherOwner {
    /// This program with other arguments, as the owner.
    pub(in crate::cli) fn command(self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
        // By this name it is found wherever it is, also below a directory of root.
        let mut command = Command::new("/proc/self/exe");
        command.arg0("roadstead").args(arguments).uid(self.user).gid(self.group);
        command
    }

    /// A command with the same configuration, as the owner.
    pub(in crate::cli) fn command_of(self, name: &str, file: &ConfigFile) -> Command {
        let mut command = self.command([name]);
        if let Some(file) = file.path() {
            command.arg("--config").arg(file);
        }
        command
    }

    /// Waits for such a command. It has printed what there is to say.
    pub(in crate::cli) fn run(self, mut command: Command) -> ExitCode {
        match command.status() {
            Ok(status) => {
                let code = status.code().and_then(|code| u8::try_from(code).ok());
                code.map_or(ExitCode::FAILURE, ExitCode::from)
            }
            Err(err) => {
                let user = self.user;
                failed(&format!("this cannot be run as the user with the id {user}, whose storage it is: {err}"))
            }
        }
    }
}
