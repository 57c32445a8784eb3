//! podman fetches of a zstd:chunked layer only the files that it does not have, by several ranges in one request.

use std::fs;
use std::path::Path;

use crate::support::machine::Machine;
use crate::support::mirror::{Mirror, Transport};
use crate::support::process;
use crate::support::registry::{REPOSITORY, Registry};
use crate::support::{program, work_folder};

const FILES: usize = 60;
const FILE_BYTES: usize = 40_000;
/// The files that the second image changes, far from each other in the layer.
const CHANGED: [usize; 3] = [7, 23, 41];

struct Podman(Machine);

impl Podman {
    fn new(parent: &Path, name: &str) -> Self {
        let mut machine = Machine::new(parent, name);
        machine.owns_folder("etc/containers");
        machine.write("etc/containers/policy.json", r#"{"default": [{"type": "insecureAcceptAnything"}]}"#);
        let storage = format!(
            "[storage]\ndriver = \"overlay\"\nrunroot = \"{}\"\ngraphroot = \"{}\"\n[storage.options]\n\
             pull_options = {{enable_partial_images = \"true\", use_hard_links = \"false\", ostree_repos = \"\"}}\n",
            machine.path("p-run"),
            machine.path("p-root")
        );
        machine.write("etc/containers/storage.conf", &storage);
        Self(machine)
    }

    fn run(&self, arguments: &[&str]) {
        let mut command = self.0.command("podman");
        command.args(["--events-backend=none", "--cgroup-manager=cgroupfs"]).args(arguments);
        process::run("podman", self.0.folder(), &mut command);
    }

    fn pull(&self, host: &str, tag: &str) {
        self.run(&["pull", "--tls-verify=false", &format!("{host}/{REPOSITORY}:{tag}")]);
    }
}

/// Bytes that do not compress, the same for one seed.
fn noise(seed: usize) -> Vec<u8> {
    let mut state = seed as u64 + 1;
    let next = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()[0]
    });
    next.take(FILE_BYTES).collect()
}

fn push(podman: &Podman, registry: &str, tag: &str, changed: &[usize]) {
    let folder = podman.0.folder().join(tag);
    fs::create_dir(&folder).expect("a machine's folder is writable");
    for file in 0..FILES {
        let seed = if changed.contains(&file) { file + FILES } else { file };
        fs::write(folder.join(format!("file-{file:02}")), noise(seed)).expect("a machine's folder is writable");
    }
    let tar = podman.0.path(&format!("{tag}.tar"));
    let mut archive = process::command(program::find("tar"));
    process::run("tar", &folder, archive.args(["--create", "--file", &tar, "--directory"]).arg(&folder).arg("."));
    let name = format!("{registry}/{REPOSITORY}:{tag}");
    podman.run(&["import", &tar, &name]);
    podman.run(&["push", "--tls-verify=false", "--compression-format=zstd:chunked", &name]);
}

/// The bytes of the answers with status 206, in a log with `status` in front of the bytes.
fn partial_bytes(log: &str, status: &str) -> u64 {
    let bytes = |line: &str| -> Option<u64> {
        let (_, after) = line.split_once(status)?;
        after
            .chars()
            .skip_while(|c| !c.is_ascii_digit())
            .take_while(char::is_ascii_digit)
            .collect::<String>()
            .parse()
            .ok()
    };
    log.lines().filter(|line| line.contains("/blobs/") || line.contains("kind=\"blob\"")).filter_map(bytes).sum()
}

#[test]
fn podman_updates_a_chunked_image_through_the_mirror_for_what_it_costs_at_the_registry() {
    let folder = work_folder();
    let folder = folder.path();
    let registry = Registry::open(folder);
    let upstream = format!("[upstreams.\"docker.io\"]\nurl = \"{}\"\n", registry.url());
    let mirror = Mirror::start(folder, Transport::Plain, &upstream);
    let at_registry = registry.url().trim_start_matches("http://").to_owned();
    let maker = Podman::new(folder, "m0");
    push(&maker, &at_registry, "1", &[]);
    push(&maker, &at_registry, "2", &CHANGED);

    let log = |path: &str| fs::read_to_string(folder.join(path)).unwrap_or_default();
    let cost = |name: &str, host: &str, read: &dyn Fn() -> u64| {
        let node = Podman::new(folder, name);
        node.pull(host, "1");
        let before = read();
        node.pull(host, "2");
        read() - before
    };
    let at_the_registry = || partial_bytes(&log("open/docker-registry.out"), "\" 206 ");
    let at_the_mirror = || partial_bytes(&(log("mirror/roadstead.out") + &log("mirror/roadstead.err")), "status=206 ");
    let direct = cost("m1", &at_registry, &at_the_registry);
    let cold = cost("m2", &mirror.address(), &at_the_mirror);
    let warm = cost("m3", &mirror.address(), &at_the_mirror);
    println!("an update costs {direct} bytes at the registry, {cold} through a cold mirror, {warm} through a warm one");
    assert!(direct > 0 && direct < (FILES * FILE_BYTES / 4) as u64);
    for through in [cold, warm] {
        assert!(through > 0 && through < direct + direct / 20, "{through} bytes, {direct} at the registry");
    }
}
