//! containerd, pulling with `ctr`: it names the registry that it wants in the query `ns`.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::{Client, reference};
use crate::support::client_files;
use crate::support::image::Image;
use crate::support::machine::Machine;
use crate::support::mirror::Mirror;
use crate::support::process::{self, Process};

const READY_LIMIT: Duration = Duration::from_secs(30);

pub(crate) struct Containerd {
    _daemon: Process,
    machine: Machine,
}

impl Client for Containerd {
    fn set_up(parent: &Path, name: &str, mirror: &Mirror) -> Self {
        Self::set_up_with(parent, name, mirror, &[])
    }

    fn pull(&self, authority: &str, image: &Image) -> String {
        let reference = reference(authority, image);
        process::run("ctr", self.machine.folder(), &mut self.pull_command(&reference));
        let mut list = self.ctr();
        list.args(["images", "ls", &format!("name=={reference}")]);
        let table = process::run("ctr", self.machine.folder(), &mut list);
        // REF TYPE DIGEST SIZE PLATFORMS LABELS
        let digest = table.lines().nth(1).and_then(|row| row.split_whitespace().nth(2));
        digest.unwrap_or_else(|| panic!("containerd does not list {reference}:\n{table}")).to_owned()
    }
}

impl Containerd {
    /// As a user does who adds these arguments.
    pub(crate) fn set_up_with(parent: &Path, name: &str, mirror: &Mirror, more: &[&str]) -> Self {
        let machine = Machine::new(parent, name);
        client_files::lay_out("containerd", &machine, mirror, more);
        let daemon = start(&machine);
        Self { _daemon: daemon, machine }
    }

    pub(crate) fn machine(&self) -> &Machine {
        &self.machine
    }

    /// `ctr` fetches itself, in its own process, and leaves unpacking to the daemon.
    pub(crate) fn pull_command(&self, reference: &str) -> Command {
        let mut command = self.ctr();
        command.args(["images", "pull", "--snapshotter", "native", "--hosts-dir"]);
        command.arg(self.machine.path("etc/containerd/certs.d")).arg(reference);
        command
    }

    pub(crate) fn folder(&self) -> &Path {
        self.machine.folder()
    }

    pub(crate) fn ctr(&self) -> Command {
        let mut command = self.machine.command("ctr");
        command.arg("--address").arg(self.machine.path("c.sock"));
        command
    }
}

/// Starts containerd alone, on `c.sock` in the machine's folder.
pub(super) fn start(machine: &Machine) -> Process {
    let path = |name: &str| machine.path(name);
    machine.write(
        "containerd.toml",
        &format!(
            "version = 2\n\
             root = \"{}\"\n\
             state = \"{}\"\n\
             disabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
             [grpc]\n\
             address = \"{}\"\n\
             [plugins.\"io.containerd.internal.v1.opt\"]\n\
             path = \"{}\"\n",
            path("c-root"),
            path("c-state"),
            path("c.sock"),
            path("c-opt"),
        ),
    );
    let mut command = machine.command("containerd");
    command.arg("--config").arg(path("containerd.toml"));
    let mut daemon = Process::start("containerd", machine.folder(), &mut command);
    let ready = daemon.becomes_ready(READY_LIMIT, || {
        let mut version = machine.command("ctr");
        version.arg("--address").arg(path("c.sock")).arg("version");
        process::try_run("ctr", machine.folder(), &mut version).is_some()
    });
    assert!(ready, "containerd ended at once");
    daemon
}
