//! The real binary as a child, and what it writes.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tokio::sync::{Mutex, MutexGuard, watch};

use crate::support::client::Client;

const PATIENCE: Duration = Duration::from_secs(20);

/// A command to its end, in an empty directory and with no environment but this.
pub(crate) fn run(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let directory = tempfile::tempdir().unwrap();
    let output = command(directory.path()).args(arguments).envs(environment.iter().copied()).output().unwrap();
    let left = std::fs::read_dir(directory.path()).unwrap().count();
    assert_eq!(left, 0, "a command that only checks leaves nothing behind");
    output
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn command(directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_roadstead"));
    command.current_dir(directory).env_clear().stdin(Stdio::null());
    command
}

/// `roadstead serve`, with ports of its own. Dropped, it is killed.
pub(super) struct Program {
    child: Child,
    lines: watch::Receiver<Vec<String>>,
    /// Held, nothing more is read of what it writes.
    reading: Arc<Mutex<()>>,
    pub(super) directory: TempDir,
    pub(super) address: SocketAddr,
    pub(super) admin: SocketAddr,
}

impl Program {
    /// With the embedded defaults, but for what the environment says.
    pub(super) async fn serve(environment: &[(&str, &str)]) -> Self {
        Self::start(tempfile::tempdir().unwrap(), None, environment).await
    }

    /// From a file with these lines.
    pub(super) async fn of(toml: &str) -> Self {
        Self::start(tempfile::tempdir().unwrap(), Some(toml), &[]).await
    }

    pub(super) async fn start(directory: TempDir, toml: Option<&str>, environment: &[(&str, &str)]) -> Self {
        let mut arguments = Vec::new();
        let file = directory.path().join("the.toml");
        if let Some(toml) = toml {
            std::fs::write(&file, toml).unwrap();
            arguments.extend(["--config", file.to_str().unwrap()]);
        }
        Self::start_with(directory, &arguments, environment).await
    }

    /// With these arguments of `serve`.
    pub(super) async fn start_with(directory: TempDir, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut command = command(directory.path());
        command.arg("serve").args(arguments).stderr(Stdio::piped());
        command.env("ROADSTEAD__SERVER__LISTEN", "127.0.0.1:0").env("ROADSTEAD__SERVER__ADMIN_LISTEN", "127.0.0.1:0");
        let mut child = command.envs(environment.iter().copied()).spawn().unwrap();
        let (sender, lines) = watch::channel(Vec::new());
        let stderr = child.stderr.take().unwrap();
        let reading = Arc::<Mutex<()>>::default();
        let may_read = Arc::clone(&reading);
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                drop(may_read.blocking_lock());
                sender.send_modify(|lines: &mut Vec<String>| lines.push(line));
            }
        });
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        let mut program = Self { child, lines, reading, directory, address: nowhere, admin: nowhere };
        program.address = address_in(&program.line("listening on http").await);
        program.admin = address_in(&program.line("health and metrics on http").await);
        program.line("serving ").await;
        program
    }

    pub(super) fn client(&self) -> Client {
        Client::new(self.address)
    }

    pub(super) fn admin_client(&self) -> Client {
        Client::new(self.admin)
    }

    /// The first line that holds `text`, once it is there.
    pub(super) async fn line(&self, text: &str) -> String {
        self.lines_with(text, 1).await.remove(0)
    }

    /// At least so many lines that hold `text`.
    pub(super) async fn lines_with(&self, text: &str, count: usize) -> Vec<String> {
        let mut lines = self.lines.clone();
        let found =
            |lines: &Vec<String>| lines.iter().filter(|line| line.contains(text)).cloned().collect::<Vec<String>>();
        let waiting = lines.wait_for(|lines| found(lines).len() >= count);
        let there = tokio::time::timeout(PATIENCE, waiting).await.is_ok_and(|waited| waited.is_ok());
        assert!(there, "{text:?} {count} times in\n{}", self.log());
        found(&self.lines.borrow())
    }

    /// From now on until this is dropped nobody reads its standard error, which soon is full.
    pub(super) async fn deaf(&self) -> MutexGuard<'_, ()> {
        self.reading.lock().await
    }

    /// Everything written so far.
    pub(super) fn log(&self) -> String {
        self.lines.borrow().join("\n")
    }

    pub(super) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("sh").args(["-c", "kill -\"$1\" \"$2\"", "sh", name, &pid]).status().unwrap();
        assert!(sent.success());
    }

    /// Its exit code, once it has one, and its directory.
    pub(super) async fn ended(mut self) -> (Option<i32>, String, TempDir) {
        let waiting = async {
            loop {
                if let Some(status) = self.child.try_wait().unwrap() {
                    return status;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let status = tokio::time::timeout(PATIENCE, waiting).await;
        let status = status.unwrap_or_else(|_| panic!("it does not end:\n{}", self.log()));
        // The pipe ends with the process; its last lines are read then.
        while self.lines.changed().await.is_ok() {}
        let log = self.log();
        let directory = std::mem::replace(&mut self.directory, tempfile::tempdir().unwrap());
        (status.code(), log, directory)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ended_already = self.child.kill();
        let _reaped = self.child.wait();
        if std::thread::panicking() {
            eprintln!("{}", self.log());
        }
    }
}

fn address_in(line: &str) -> SocketAddr {
    let (_, address) = line.split_once("://").unwrap();
    address.split(['/', '"']).next().unwrap().parse().unwrap()
}
