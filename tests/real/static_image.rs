//! The static binaries, and the image made of them: pulled through Roadstead, and run, by containerd.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::clients::{Client as _, Containerd};
use crate::support::mirror::{Mirror, Transport};
use crate::support::process::{self, Process};
use crate::support::registry::REPOSITORY;
use crate::support::upstreams::{HUB, Upstreams};
use crate::support::{curl, port, program, wait, work_folder};

const LIMIT: Duration = Duration::from_mins(1);
/// As `deploy/image/config.json` has it.
const USER: u32 = 65532;
const NAME: &str = "library/roadstead:1";

/// `tests/run.sh clients` builds it.
fn static_binary(machine: &str) -> PathBuf {
    let target = Path::new(env!("CARGO_BIN_EXE_roadstead")).ancestors().nth(2).expect("a binary is in target/debug");
    let binary = target.join(format!("{machine}-unknown-linux-musl/debug/roadstead"));
    assert!(binary.is_file(), "{} is missing: tests/run.sh clients builds it", binary.display());
    binary
}

/// The kinds of an ELF file's segments (elf(5)).
fn segments(binary: &Path) -> Vec<u32> {
    let bytes = fs::read(binary).expect("a binary is readable");
    let number = |at: usize, size: usize| {
        let bytes = bytes.get(at..at + size).expect("an ELF file is whole");
        bytes.iter().rev().fold(0, |sum, byte| sum << 8 | usize::from(*byte))
    };
    let (begin, size, count) = (number(0x20, 8), number(0x36, 2), number(0x38, 2));
    (0..count).map(|n| u32::try_from(number(begin + n * size, 4)).expect("four bytes")).collect()
}

#[test]
fn the_binaries_need_no_library_and_that_of_arm64_serves() {
    const LOAD: u32 = 1;
    const INTERPRETER: u32 = 3;
    for machine in ["x86_64", "aarch64"] {
        let segments = segments(&static_binary(machine));
        assert!(segments.contains(&LOAD) && !segments.contains(&INTERPRETER), "{machine}: {segments:?}");
    }
    let folder = work_folder();
    let (listen, admin) = (port::free(), port::free());
    let mut command = process::command(program::find("qemu-aarch64"));
    command.arg(static_binary("aarch64")).arg("serve").current_dir(folder.path());
    command.env("ROADSTEAD__SERVER__LISTEN", format!("127.0.0.1:{listen}"));
    command.env("ROADSTEAD__SERVER__ADMIN_LISTEN", format!("127.0.0.1:{admin}"));
    let mut server = Process::start("arm64", folder.path(), &mut command);
    let status = |url: String| curl::ask(folder.path(), &[&url]).map(|answer| answer.status);
    let ready = server.becomes_ready(LIMIT, || status(format!("http://127.0.0.1:{admin}/readyz")) == Some(200));
    assert!(ready, "it ended at once");
    assert_eq!(status(format!("http://127.0.0.1:{listen}/v2/")), Some(200));
}

fn build(folder: &Path, name: &str) -> String {
    let layout = folder.join(name).display().to_string();
    let mut command = process::command(Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/image/build"));
    command.arg(&layout).env("TAG", "1").env("TMPDIR", folder);
    for (architecture, machine) in [("amd64", "x86_64"), ("arm64", "aarch64")] {
        command.arg(format!("{architecture}={}", static_binary(machine).display()));
    }
    let told = process::run("build", folder, &mut command);
    let (_, digest) = told.trim().rsplit_once(": ").expect("it says what it made");
    digest.to_owned()
}

/// Ends what runs in a container, however the test ends: containerd leaves it behind.
struct Container<'a>(&'a Containerd);

impl Drop for Container<'_> {
    fn drop(&mut self) {
        let mut kill = self.0.ctr();
        kill.args(["task", "kill", "--signal", "SIGKILL", "mirror"]);
        let _it_may_have_ended = process::try_run("ctr", self.0.folder(), &mut kill);
        let mut remove = self.0.ctr();
        let _so_may_its_shim = process::try_run("ctr", self.0.folder(), remove.args(["task", "rm", "mirror"]));
    }
}

#[test]
fn the_image_is_pulled_through_the_mirror_and_mirrors_without_rights_on_a_root_that_is_read_only() {
    let folder = work_folder();
    let upstreams = Upstreams::start(folder.path());
    let digest = build(folder.path(), "image");
    assert_eq!(build(folder.path(), "again"), digest, "the same binaries make the same digests");
    let mut push = process::command(program::find("skopeo"));
    push.args(["--insecure-policy", "copy", "--quiet", "--all", "--preserve-digests", "--dest-tls-verify=false"]);
    push.arg(format!("oci:{}:1", folder.path().join("image").display()));
    push.arg(format!("docker://127.0.0.1:{}/{NAME}", upstreams.hub.registry.port));
    process::run("skopeo", folder.path(), &mut push);

    let mirror = Mirror::start(folder.path(), Transport::Plain, &upstreams.configuration());
    let node = Containerd::set_up(folder.path(), "m1", &mirror);
    let image = format!("{HUB}/{NAME}");
    process::run("ctr", node.folder(), &mut node.pull_command(&image));

    let machine = node.machine();
    let served = format!("[upstreams.\"{HUB}\"]\nurl = \"{}\"\n", upstreams.hub.registry.url());
    machine.write("config/roadstead.toml", &served);
    let storage = machine.folder().join("storage");
    fs::create_dir(&storage).expect("a machine's folder is writable");
    std::os::unix::fs::chown(&storage, Some(USER), Some(USER)).expect("root gives folders away");
    let (listen, admin) = (port::free(), port::free());
    let mut run = node.ctr();
    run.args(["run", "--detach", "--read-only", "--net-host", "--snapshotter", "native"]);
    for (from, to, how) in [("config", "/etc/roadstead", "ro"), ("storage", "/var/lib/roadstead", "rw")] {
        run.args(["--mount", &format!("type=bind,src={},dst={to},options=rbind:{how}", machine.path(from))]);
    }
    run.args(["--env", &format!("ROADSTEAD__SERVER__LISTEN=127.0.0.1:{listen}")]);
    run.args(["--env", &format!("ROADSTEAD__SERVER__ADMIN_LISTEN=127.0.0.1:{admin}")]);
    let container = Container(&node);
    process::run("ctr", node.folder(), run.args([image.as_str(), "mirror"]));
    wait::until("the image to serve", LIMIT, || {
        let answer = curl::ask(folder.path(), &[&format!("http://127.0.0.1:{admin}/readyz")])?;
        (answer.status == 200).then_some(())
    });

    let one = &upstreams.hub.images[0];
    let url = format!("http://127.0.0.1:{listen}/v2/{REPOSITORY}/manifests/{}", one.tag);
    let answer = curl::ask(folder.path(), &[&url]).expect("it answers");
    assert_eq!((answer.status, answer.header("docker-content-digest")), (200, Some(one.digest())));
    let mut check = node.ctr();
    check.args(["task", "exec", "--exec-id", "check", "mirror", "/usr/local/bin/roadstead", "healthcheck"]);
    process::run("ctr", node.folder(), &mut check);
    let task = |column: usize| {
        let mut list = node.ctr();
        let tasks = process::run("ctr", node.folder(), list.args(["task", "ls"]));
        let columns = tasks.lines().find_map(|line| line.strip_prefix("mirror"));
        columns.and_then(|columns| columns.split_whitespace().nth(column).map(str::to_owned)).expect("it is listed")
    };
    let status = fs::read_to_string(format!("/proc/{}/status", task(0))).expect("it runs");
    let has = |line: &str| assert!(status.lines().any(|l| l.replace('\t', " ") == line), "no {line:?} in {status}");
    has(&format!("Uid: {USER} {USER} {USER} {USER}"));
    has("CapEff: 0000000000000000");
    has("NoNewPrivs: 1");
    let mut stop = node.ctr();
    process::run("ctr", node.folder(), stop.args(["task", "kill", "--signal", "SIGTERM", "mirror"]));
    wait::until("it to stop by SIGTERM", LIMIT, || (task(1) == "STOPPED").then_some(()));
    drop(container);
}
