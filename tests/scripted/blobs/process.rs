//! The real program as a child process, to be killed.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::support::client::Client;
use crate::support::upstream::Upstream;

pub(super) struct Process {
    child: Child,
    address: SocketAddr,
}

impl Process {
    /// Serves `docker.io` from this upstream, below this directory.
    pub(super) async fn start(directory: &Path, upstream: &Upstream) -> Self {
        let config = directory.join("roadstead.toml");
        let toml = format!(
            "[server]\nlisten = \"127.0.0.1:0\"\nadmin_listen = \"off\"\n[storage]\npath = \"{}\"\n{}",
            directory.join("data").display(),
            super::one(upstream, "segments = 1"),
        );
        std::fs::write(&config, toml).unwrap();
        let mut serve = Command::new(env!("CARGO_BIN_EXE_roadstead"));
        serve.arg("serve").arg("--config").arg(config).env_clear();
        serve.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        tokio::task::spawn_blocking(move || Self::listening(serve.spawn().unwrap())).await.unwrap()
    }

    /// Reads what the program says until it has said where it listens.
    fn listening(mut child: Child) -> Self {
        let (said, address) = std::sync::mpsc::channel();
        let out = BufReader::new(child.stdout.take().unwrap()).lines();
        let err = BufReader::new(child.stderr.take().unwrap()).lines();
        let listen = move |line: &str| {
            let address = line.split_once("listening on http://")?.1.split_whitespace().next()?;
            address.trim_end_matches('/').parse::<SocketAddr>().ok()
        };
        let other = said.clone();
        // Both pipes are emptied to the end, or the program would wait for them.
        std::thread::spawn(move || {
            for at in err.map_while(Result::ok).filter_map(|line| listen(&line)) {
                let _nobody_waits_any_more = other.send(at);
            }
        });
        std::thread::spawn(move || {
            for at in out.map_while(Result::ok).filter_map(|line| listen(&line)) {
                let _nobody_waits_any_more = said.send(at);
            }
        });
        let address = address.recv_timeout(crate::support::upstream::PATIENCE).expect("the program listens");
        Self { child, address }
    }

    pub(super) fn client(&self) -> Client {
        Client::new(self.address)
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Memory that is the program's own, files it reads left out.
    pub(super) fn private_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap() * 1024
    }

    /// SIGKILL.
    pub(super) fn kill(mut self) {
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
