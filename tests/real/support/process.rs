//! Child processes that end with the test: daemons, and commands with a time limit.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::{program, wait};

const COMMAND_LIMIT: Duration = Duration::from_mins(2);
const STOP_LIMIT: Duration = Duration::from_secs(10);
const SHOWN_LINES: usize = 60;

/// A command that ends with the test, even when the test itself is killed.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program::find("setpriv"));
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

/// A running program. Dropping it ends it, and shows what it wrote if the test is failing.
pub(crate) struct Process {
    name: String,
    child: Child,
    log: Log,
}

/// The two files that a program writes to.
#[derive(Clone)]
struct Log {
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Process {
    /// Starts `command`, its output going to `name.out` and `name.err` in `folder`.
    pub(crate) fn start(name: &str, folder: &Path, command: &mut Command) -> Self {
        let log = Log { stdout: folder.join(format!("{name}.out")), stderr: folder.join(format!("{name}.err")) };
        let append = |path: &Path| File::options().create(true).append(true).open(path);
        let child = append(&log.stdout)
            .and_then(|out| Ok((out, append(&log.stderr)?)))
            .and_then(|(out, err)| command.stdin(Stdio::null()).stdout(out).stderr(err).spawn())
            .unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        Self { name: name.to_owned(), child, log }
    }

    /// Waits until `ready` says so, or until the program ends: then `false`.
    pub(crate) fn becomes_ready(&mut self, limit: Duration, mut ready: impl FnMut() -> bool) -> bool {
        wait::until(&format!("{} to be ready", self.name), limit, || {
            if self.exited().is_some() { Some(false) } else { ready().then_some(true) }
        })
    }

    pub(crate) fn exited(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be waited for")
    }

    /// The program's standard output so far.
    pub(crate) fn stdout(&self) -> String {
        fs::read_to_string(&self.log.stdout).expect("the log of a started program is readable")
    }

    /// Ends it as a power cut would.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("a child can be killed");
        self.child.wait().expect("a killed child can be waited for");
    }

    fn end(&mut self) -> io::Result<()> {
        if self.child.try_wait()?.is_some() {
            return Ok(());
        }
        let pid = self.child.id().to_string();
        Command::new("sh").args(["-c", "kill -TERM \"$1\"", "sh", &pid]).status()?;
        let asked = Instant::now();
        while asked.elapsed() < STOP_LIMIT {
            if self.child.try_wait()?.is_some() {
                return Ok(());
            }
            thread::park_timeout(Duration::from_millis(20));
        }
        self.child.kill()?;
        self.child.wait().map(drop)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let ended = self.end();
        if thread::panicking() {
            eprintln!("{}", self.log.tail(&self.name));
        } else {
            ended.expect("a child can be ended");
        }
    }
}

impl Log {
    fn tail(&self, name: &str) -> String {
        let tail = |path: &Path| {
            let bytes = fs::read(path).unwrap_or_default();
            let text = String::from_utf8_lossy(&bytes);
            let lines: Vec<&str> = text.lines().collect();
            lines.get(lines.len().saturating_sub(SHOWN_LINES)..).unwrap_or_default().join("\n")
        };
        let (stdout, stderr) = (tail(&self.stdout), tail(&self.stderr));
        format!("--- {name}, standard output\n{stdout}\n--- {name}, standard error\n{stderr}\n")
    }
}

/// Runs `command` to its end and returns its standard output; a failure panics with all that it wrote.
pub(crate) fn run(name: &str, folder: &Path, command: &mut Command) -> String {
    let (status, stdout, log) = outcome(name, folder, command);
    assert!(status.success(), "{name} failed with {status}\n{command:?}\n{log}");
    stdout
}

/// As [`run`], for a command that may fail: then there is nothing.
pub(crate) fn try_run(name: &str, folder: &Path, command: &mut Command) -> Option<String> {
    let (status, stdout, _) = outcome(name, folder, command);
    status.success().then_some(stdout)
}

/// As [`run`]: whether it succeeded, and all that it wrote.
pub(crate) fn told(name: &str, folder: &Path, command: &mut Command) -> (bool, String) {
    let (status, _, log) = outcome(name, folder, command);
    (status.success(), log)
}

fn outcome(name: &str, folder: &Path, command: &mut Command) -> (ExitStatus, String, String) {
    // Its own folder, because the same command runs many times and each time's output is read apart.
    let folder = tempfile::Builder::new().prefix("run-").tempdir_in(folder).expect("a work folder is writable");
    let mut process = Process::start(name, folder.path(), command);
    let status = wait::until(&format!("{name} to end"), COMMAND_LIMIT, || process.exited());
    (status, process.stdout(), process.log.tail(name))
}
