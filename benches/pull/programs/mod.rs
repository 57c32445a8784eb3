//! Real programs: where they are, and their lives as children of the bench.

mod namespace;
mod nginx;
mod registry;
mod roadstead;
mod secure;

use std::env;
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

pub(crate) use self::namespace::Namespace;
pub(crate) use self::nginx::Nginx;
pub(crate) use self::registry::Registry;
pub(crate) use self::roadstead::{More, Roadstead, Settings, Started};
pub(crate) use self::secure::Secure;

use super::client::Client;

const READY_LIMIT: Duration = Duration::from_mins(1);
const STOP_LIMIT: Duration = Duration::from_mins(1);
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// Every program that a measurement may name, and the Debian package that has it.
const PACKAGES: &[(&str, &str)] = &[
    ("docker-registry", "docker-registry"),
    ("ip", "iproute2"),
    ("iptables", "iptables"),
    ("nginx", "nginx-light"),
    ("nsenter", "util-linux"),
    ("setpriv", "util-linux"),
    ("sh", "dash"),
    ("skopeo", "skopeo"),
    ("sleep", "coreutils"),
    ("tar", "tar"),
    ("unshare", "util-linux"),
];

/// Those that are not installed, each with its package.
pub(crate) fn missing(wanted: impl Iterator<Item = &'static str>) -> Vec<String> {
    let mut missing: Vec<_> = wanted.filter(|name| look_for(name).is_none()).map(advice).collect();
    missing.sort_unstable();
    missing.dedup();
    missing
}

fn advice(name: &str) -> String {
    let package = PACKAGES.iter().find(|(program, _)| *program == name).map_or(name, |(_, package)| *package);
    format!("{name} (Debian package {package})")
}

fn look_for(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"].map(PathBuf::from);
    system.into_iter().chain(env::split_paths(&path)).map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// Where a program of another is.
pub(crate) fn program(name: &str) -> PathBuf {
    find(name)
}

fn find(name: &str) -> PathBuf {
    look_for(name).unwrap_or_else(|| Path::new("/missing").join(advice(name)))
}

/// A command whose process is killed if the bench dies.
fn command(program: &Path) -> Command {
    let mut command = Command::new(find("setpriv"));
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

/// Runs a command to its end, which must be a good one.
fn run(command: &mut Command) {
    let output = command.output().expect("a program that was found can be started");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} failed with {}: {said}", output.status);
}

/// A running program, killed when dropped.
pub(crate) struct Program {
    child: Child,
    log: PathBuf,
}

impl Program {
    /// Starts `command` with its output going to `<folder>/<name>.log`.
    fn start(name: &str, folder: &Path, command: &mut Command) -> Self {
        let log = folder.join(format!("{name}.log"));
        let file = File::options().create(true).append(true).open(&log).expect("the bench's folder is writable");
        let both = file.try_clone().expect("a file handle can be cloned");
        let child = command.stdin(Stdio::null()).stdout(both).stderr(file).spawn();
        Self { child: child.expect("a program that was found can be started"), log }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it answers `GET path` with 200.
    async fn ready(&mut self, at: SocketAddr, path: &str) {
        let begun = Instant::now();
        while !answers(at, path).await {
            let ended = self.child.try_wait().expect("a child can be asked");
            assert!(ended.is_none(), "{ended:?} instead of being ready; it said:\n{}", self.said());
            assert!(begun.elapsed() < READY_LIMIT, "not ready after {READY_LIMIT:?}; it said:\n{}", self.said());
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// As by `kill -9`.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("a child can be killed");
        self.child.wait().expect("a child can be waited for");
    }

    /// By SIGTERM, in order.
    async fn stop(mut self) {
        let pid = self.pid().to_string();
        run(Command::new(find("sh")).args(["-c", "kill -TERM \"$1\"", "sh", &pid]));
        let ended = tokio::time::timeout(STOP_LIMIT, self.end()).await;
        let in_order = ended.as_ref().is_ok_and(ExitStatus::success);
        assert!(in_order, "it did not stop in order: {ended:?}; it said:\n{}", self.said());
    }

    async fn end(&mut self) -> ExitStatus {
        loop {
            if let Some(status) = self.child.try_wait().expect("a child can be asked") {
                return status;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended already.
        let _gone = self.child.kill();
        let _waited = self.child.wait();
    }
}

/// Whether `GET path` is answered with 200 there.
pub(crate) async fn answers(at: SocketAddr, path: &str) -> bool {
    let ask = async { Ok::<_, std::io::Error>(Client::connect(at).await?.get(path).await?.status) };
    ask.await.is_ok_and(|status| status == 200)
}

/// A port of loopback that is free now. Nothing keeps it so, but the system hands out others first.
pub(crate) fn free_address() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("the system has a free port");
    listener.local_addr().expect("a bound listener has an address")
}
