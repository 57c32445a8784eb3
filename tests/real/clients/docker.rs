//! dockerd: names on docker.io go to its registry mirror, without a word about the registry; other registries are
//! reached by their name in the path.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::{Client, containerd, reference};
use crate::support::client_files;
use crate::support::image::Image;
use crate::support::machine::Machine;
use crate::support::mirror::Mirror;
use crate::support::process::{self, Process};
use crate::support::upstreams::HUB;

const READY_LIMIT: Duration = Duration::from_mins(1);

pub(crate) struct Docker {
    /// Ends first: it needs containerd to end well.
    _daemon: Process,
    _containerd: Process,
    machine: Machine,
    mirror_address: String,
}

impl Client for Docker {
    fn set_up(parent: &Path, name: &str, mirror: &Mirror) -> Self {
        let mut machine = Machine::new(parent, name);
        machine.owns_folder("etc/docker");
        machine.write("etc/docker/daemon.json", r#"{"log-level": "warn"}"#);
        client_files::lay_out("docker", &machine, mirror, &[]);
        let mirror_address = mirror.address();
        let containerd = containerd::start(&machine);
        let daemon = start(&machine);
        Self { _daemon: daemon, _containerd: containerd, machine, mirror_address }
    }

    fn pull(&self, authority: &str, image: &Image) -> String {
        let mut reference = reference(authority, image);
        if authority != HUB {
            reference = format!("{}/{reference}", self.mirror_address);
        }
        let folder = self.machine.folder();
        process::run("docker", folder, docker(&self.machine).args(["pull", &reference]));
        let format = "{{range .RepoDigests}}{{println .}}{{end}}";
        let known = process::run(
            "docker",
            folder,
            docker(&self.machine).args(["image", "inspect", "--format", format, &reference]),
        );
        let digest = known.trim().split_once('@').map(|(_, digest)| digest.to_owned());
        digest.unwrap_or_else(|| panic!("docker knows {reference} by no single digest: {known}"))
    }
}

impl Docker {
    pub(crate) fn folder(&self) -> &Path {
        self.machine.folder()
    }

    pub(crate) fn docker(&self) -> Command {
        docker(&self.machine)
    }
}

fn docker(machine: &Machine) -> Command {
    let mut command = machine.command("docker");
    command.arg("--host").arg(format!("unix://{}", machine.path("d.sock")));
    command
}

/// Starts dockerd beside a running containerd, with what it needs of the network left out: pulling needs none of it.
fn start(machine: &Machine) -> Process {
    let mut command = machine.command("dockerd");
    command
        .arg("--config-file=/etc/docker/daemon.json")
        .arg(format!("--data-root={}", machine.path("d-root")))
        .arg(format!("--exec-root={}", machine.path("d-exec")))
        .arg(format!("--host=unix://{}", machine.path("d.sock")))
        .arg(format!("--pidfile={}", machine.path("d.pid")))
        .arg(format!("--containerd={}", machine.path("c.sock")))
        .args(["--iptables=false", "--ip6tables=false", "--bridge=none", "--storage-driver=vfs"]);
    let mut daemon = Process::start("dockerd", machine.folder(), &mut command);
    let ready = daemon.becomes_ready(READY_LIMIT, || {
        process::try_run("docker", machine.folder(), docker(machine).arg("info")).is_some()
    });
    assert!(ready, "dockerd ended at once");
    daemon
}
