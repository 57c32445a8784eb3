//! What `roadstead client-config` lays out is read by the clients themselves, strict too, and taken back.

use std::fs;

use crate::clients::{Client as _, Containerd};
use crate::support::client_files;
use crate::support::machine::Machine;
use crate::support::mirror::{Mirror, Transport};
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
    let reference = format!("{HUB}/{}:{}", crate::support::registry::REPOSITORY, image.tag);
    let pulled = process::try_run("ctr", node.folder(), &mut node.pull_command(&reference));
    assert!(pulled.is_none(), "there is a way round the mirror: {pulled:?}");
    client_files::undo("containerd", node.machine());
    assert!(!node.folder().join("etc/containerd").exists());
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
