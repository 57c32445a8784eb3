//! The real program as a child process, to be killed.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::support::client::Client;
use crate::support::upstream::Upstream;

pub(crate) struct Process {
    child: Child,
    address: SocketAddr,
    admin: SocketAddr,
}

impl Process {
    /// Serves `docker.io` from this upstream, below this directory.
    pub(crate) async fn start(directory: &Path, upstream: &Upstream) -> Self {
        Self::start_on(directory, &directory.join("data"), &super::one(upstream, "segments = 1")).await
    }

    /// The same, with more lines in `[storage]`.
    pub(crate) async fn start_with(directory: &Path, storage: &str, upstream: &Upstream) -> Self {
        Self::start_on(
            directory,
            &directory.join("data"),
            &format!("{storage}\n{}", super::one(upstream, "segments = 1")),
        )
        .await
    }

    /// With its storage there, and these lines behind its path.
    pub(crate) async fn start_on(directory: &Path, storage: &Path, toml: &str) -> Self {
        Self::start_under(&[], directory, storage, toml).await
    }

    /// The same, run by a command that ends in running it.
    pub(crate) async fn start_under(by: &[&str], directory: &Path, storage: &Path, toml: &str) -> Self {
        let config = directory.join("roadstead.toml");
        let toml = format!(
            "[server]\nlisten = \"127.0.0.1:0\"\nadmin_listen = \"127.0.0.1:0\"\n[storage]\npath = \"{}\"\n{toml}",
            storage.display(),
        );
        std::fs::write(&config, toml).unwrap();
        let mut words = by.iter().copied().chain([env!("CARGO_BIN_EXE_roadstead")]);
        let mut serve = Command::new(words.next().unwrap());
        serve.args(words).arg("serve").arg("--config").arg(config).env_clear();
        serve.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        tokio::task::spawn_blocking(move || Self::listening(serve.spawn().unwrap())).await.unwrap()
    }

    /// Reads what the program says until it has said where it listens.
    fn listening(mut child: Child) -> Self {
        let (said, lines) = std::sync::mpsc::channel::<String>();
        let out = BufReader::new(child.stdout.take().unwrap()).lines();
        let err = BufReader::new(child.stderr.take().unwrap()).lines();
        let other = said.clone();
        // Both pipes are emptied to the end, or the program would wait for them.
        std::thread::spawn(move || {
            for line in err.map_while(Result::ok) {
                let _nobody_waits_any_more = other.send(line);
            }
        });
        std::thread::spawn(move || {
            for line in out.map_while(Result::ok) {
                let _nobody_waits_any_more = said.send(line);
            }
        });
        let mut heard = Vec::new();
        let mut told = |what: &str| {
            loop {
                let line = lines.recv_timeout(crate::support::upstream::PATIENCE);
                let line = line.unwrap_or_else(|_| panic!("the program does not say {what:?}, but: {heard:#?}"));
                let at = line.split_once(what).and_then(|(_, rest)| rest.split_whitespace().next());
                if let Some(Ok(at)) = at.map(|at| at.trim_end_matches('/').parse::<SocketAddr>()) {
                    return at;
                }
                heard.push(line);
            }
        };
        let (address, admin) = (told("listening on http://"), told("health and metrics on http://"));
        Self { child, address, admin }
    }

    /// A value of `/metrics`; 0 if it is not there.
    pub(crate) async fn metric(&self, line: &str) -> f64 {
        let text = Client::new(self.admin).get("/metrics").await.text();
        let found = text.lines().find_map(|l| l.strip_prefix(line)?.strip_prefix(' ')?.parse().ok());
        found.unwrap_or(0.0)
    }

    /// SIGTERM, and until it has ended.
    pub(crate) async fn stop(mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        tokio::task::spawn_blocking(move || self.child.wait().unwrap()).await.unwrap();
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(self.address)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Memory that is the program's own, files it reads left out.
    pub(crate) fn private_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap() * 1024
    }

    /// The most memory that it has had, and that it has now, files included.
    pub(crate) fn peak_and_resident_bytes(&self) -> (u64, u64) {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let bytes = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap() * 1024
        };
        (bytes("VmHWM:"), bytes("VmRSS:"))
    }

    /// From here on it opens no file whose number is not below this. The limit before.
    pub(crate) fn limit_descriptors(&self, limit: u64) -> u64 {
        use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
        let maximum = getrlimit(Resource::Nofile).maximum;
        let limit = Rlimit { current: Some(limit), maximum };
        prlimit(Some(Pid::from_child(&self.child)), Resource::Nofile, limit).unwrap().current.unwrap_or(1024)
    }

    /// SIGKILL.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail where it was killed already.
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}
