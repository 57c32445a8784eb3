//! What `roadstead client-config` lays out is read by the clients themselves, strict too, and taken back.

use std::fs;

use crate::clients::{Client as _, Containerd, Podman};
use crate::support::client_files;
use crate::support::machine::Machine;
use crate::support::mirror::{Mirror, Transport};
use crate::support::registry::REPOSITORY;
use crate::support::upstreams::{HUB, SECURE, Upstreams};
use crate::support::{process, work_folder};

#[test]
fn containerd_pulls_strictly_from_the_mirror_and_from_nobody_when_it_is_down() {
    let folder = work_folder();
    let folder = folder.path();
    let upstreams = Upstreams::start(folder);
    let mut mirror = Mirror::start(folder, Transport::Tls, &upstreams.configuration());
    let strict = ["--strict", "--authority", HUB, "--authority", SECURE, "--header", "X-Team: build"];
    let node = Containerd::set_up_with(folder, "m1", &mirror, &strict);
    for upstream in upstreams.all() {
        for image in &upstream.images {
            assert_eq!(node.pull(upstream.authority, image), image.digest());
        }
    }
    mirror.kill();
    let image = &upstreams.hub.images[0];
    let reference = format!("{HUB}/{REPOSITORY}:{}", image.tag);
    let (pulled, told) = process::told("ctr", node.folder(), &mut node.pull_command(&reference));
    // Registries' own names lead to a closed port here: it is not even tried.
    assert!(!pulled && told.contains("mirror.test") && !told.contains("registry-1"), "{told}");
    client_files::undo("containerd", node.machine());
    assert!(!node.folder().join("etc/containerd").exists());
}

#[test]
fn podman_pulls_strictly_from_the_mirror_and_from_nobody_when_it_is_down() {
    let folder = work_folder();
    let folder = folder.path();
    let upstreams = Upstreams::start(folder);
    let mut mirror = Mirror::start(folder, Transport::Tls, &upstreams.configuration());
    let node = Podman::strict(folder, "m1", &mirror);
    for upstream in upstreams.all() {
        let image = &upstream.images[0];
        assert_eq!(node.pull(upstream.authority, image), image.digest());
    }
    mirror.kill();
    let reference = format!("{HUB}/{REPOSITORY}:{}", upstreams.hub.images[0].tag);
    let (pulled, told) = process::told("podman", node.folder(), &mut node.pull_command(&reference));
    assert!(!pulled && told.contains("mirror.test") && !told.contains("registry-1"), "{told}");
}

#[test]
fn containerd_reads_the_config_that_was_merged_and_gets_its_own_back() {
    let folder = work_folder();
    let upstreams = Upstreams::start(folder.path());
    let mirror = Mirror::start(folder.path(), Transport::Plain, &upstreams.configuration());
    let machine = Machine::new(folder.path(), "m1");
    let own = "version = 2 # ours\noom_score = -7\n[plugins.\"io.containerd.grpc.v1.cri\"]\nsandbox_image = \"pause.test/pause:1\"\n";
    let dump = || {
        let mut command = machine.command("containerd");
        command.args(["--config", &machine.path("etc/containerd/config.toml"), "config", "dump"]);
        process::run("containerd", machine.folder(), &mut command)
    };
    for there in [None, Some(own)] {
        if let Some(own) = there {
            machine.write("etc/containerd/config.toml", own);
        }
        client_files::lay_out("containerd", &machine, &mirror, &[]);
        let read = dump();
        assert!(read.contains("config_path = \"/etc/containerd/certs.d\""), "{read}");
        assert_eq!(read.contains("pause.test/pause:1") && read.contains("oom_score = -7"), there.is_some(), "{read}");
        client_files::undo("containerd", &machine);
        let after = fs::read_to_string(machine.folder().join("etc/containerd/config.toml")).ok();
        assert_eq!(after.as_deref(), there);
    }
}
