//! Roadstead itself, as its users start it.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ChildStderr, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;

use super::{Program, Secure, answers, command, free_address};

const BINARY: &str = env!("CARGO_BIN_EXE_roadstead");
const START_LIMIT: Duration = Duration::from_mins(10);
const LOOK_EVERY: Duration = Duration::from_micros(200);

/// A configuration and a storage: what is left of a mirror between two lives.
#[derive(Clone)]
pub(crate) struct Settings {
    folder: PathBuf,
    file: PathBuf,
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
    /// Where it speaks TLS, if it does.
    pub(crate) secure_address: Option<SocketAddr>,
}

/// What only some mirrors have.
#[derive(Default)]
pub(crate) struct More<'a> {
    /// A listener for TLS.
    pub(crate) secure: Option<&'a Secure>,
    /// Lines of `[server]`.
    pub(crate) server: &'a str,
    /// Lines of `[storage]`.
    pub(crate) storage: &'a str,
    /// Lines of Docker Hub's own section, or whole sections.
    pub(crate) upstreams: &'a str,
}

pub(crate) struct Roadstead {
    program: Program,
    pub(crate) settings: Settings,
    pub(crate) address: SocketAddr,
}

/// Times from the start of the process.
#[derive(Clone, Copy)]
pub(crate) struct Started {
    pub(crate) accepts: Duration,
    pub(crate) ready: Duration,
    pub(crate) logged: Duration,
}

impl Settings {
    /// Docker Hub's name with this upstream behind it, and an empty storage in a new folder.
    pub(crate) fn new(folder: PathBuf, upstream: &str, tag_ttl: &str) -> Self {
        Self::with(folder, upstream, tag_ttl, &More::default())
    }

    /// The same with what else is configured.
    pub(crate) fn with(folder: PathBuf, upstream: &str, tag_ttl: &str, more: &More<'_>) -> Self {
        fs::create_dir(&folder).expect("a mirror's folder is new");
        let file = folder.join("roadstead.toml");
        let (address, admin) = (free_address(), free_address());
        let secure_address = more.secure.map(|_| free_address());
        let listener = secure_address.zip(more.secure).map(|(at, secure)| {
            format!(
                "[[server.listeners]]\nlisten = \"{at}\"\ntls = {{ certificate = \"{}\", key = \"{}\" }}\n\n",
                secure.certificate.display(),
                secure.key.display(),
            )
        });
        let storage = folder.join("storage");
        let toml = format!(
            "[server]\nlisten = \"{address}\"\nadmin_listen = \"{admin}\"\n{}\n\n\
             {}[storage]\npath = \"{}\"\n{}\n\
             [defaults]\ntag_ttl = \"{tag_ttl}\"\n\n\
             [upstreams.\"docker.io\"]\nurl = \"{upstream}\"\n{}",
            more.server,
            listener.unwrap_or_default(),
            storage.display(),
            more.storage,
            more.upstreams,
        );
        fs::write(&file, toml).expect("a mirror's folder is writable");
        Self { folder, file, address, admin, secure_address }
    }

    pub(crate) fn storage(&self) -> PathBuf {
        self.folder.join("storage")
    }

    /// Where a blob is once it is stored.
    pub(crate) fn stored(&self, digest: &str) -> PathBuf {
        let (algorithm, hex) = digest.split_once(':').expect("a digest has a colon");
        self.storage().join("blobs").join(algorithm).join(hex.get(..2).unwrap_or_default()).join(hex)
    }

    pub(crate) async fn start(self) -> Roadstead {
        let mut program = Program::start("roadstead", &self.folder, self.arguments(&mut command(Path::new(BINARY))));
        program.ready(self.admin, "/readyz").await;
        Roadstead { program, address: self.address, settings: self }
    }

    /// Starts it and watches closely.
    pub(crate) async fn start_timed(self) -> (Roadstead, Started) {
        // Without `setpriv` in front, which takes a millisecond.
        let mut command = Command::new(BINARY);
        self.arguments(&mut command).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let log = self.folder.join("roadstead.log");
        let begun = Instant::now();
        let mut child = command.spawn().expect("the release binary starts");
        let errors = child.stderr.take().expect("it is piped");
        let listening = logged(errors, begun, &log);
        let mut program = Program { child, log };
        let accepts = program.first(begun, || async { TcpStream::connect(self.address).await.is_ok() }).await;
        let ready = program.first(begun, || answers(self.admin, "/readyz")).await;
        let logged = listening.recv_timeout(START_LIMIT).expect("it logs where it listens");
        (Roadstead { program, address: self.address, settings: self }, Started { accepts, ready, logged })
    }

    /// One of the commands for a mirror that is stopped.
    pub(crate) fn command(&self, name: &str) -> Command {
        let mut command = command(Path::new(BINARY));
        command.arg(name).arg("--config").arg(&self.file).current_dir(&self.folder).stdin(Stdio::null());
        command
    }

    fn arguments<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.arg("serve").arg("--config").arg(&self.file).current_dir(&self.folder)
    }
}

/// Copies what the program says to its log, and tells how long after `begun` it said that it listens.
fn logged(errors: ChildStderr, begun: Instant, log: &Path) -> mpsc::Receiver<Duration> {
    let (say, listening) = mpsc::channel();
    let mut log = File::options().create(true).append(true).open(log).expect("a mirror's folder is writable");
    thread::spawn(move || {
        // Read to its end, so that the program never waits for us.
        for line in BufReader::new(errors).lines().map_while(Result::ok) {
            if line.contains("listening on") {
                // Nobody waits for it twice.
                let _said = say.send(begun.elapsed());
            }
            writeln!(log, "{line}").expect("a mirror's folder is writable");
        }
    });
    listening
}

impl Roadstead {
    pub(crate) fn pid(&self) -> u32 {
        self.program.pid()
    }

    pub(crate) async fn stop(self) -> Settings {
        self.program.stop().await;
        self.settings
    }

    pub(crate) fn kill(self) -> Settings {
        self.program.kill();
        self.settings
    }
}

impl Program {
    /// How long after `begun` something was so for the first time.
    async fn first<F: Future<Output = bool>>(&mut self, begun: Instant, is_so: impl Fn() -> F) -> Duration {
        while !is_so().await {
            let ended = self.child.try_wait().expect("a child can be asked");
            assert!(ended.is_none() && begun.elapsed() < START_LIMIT, "it does not start: {ended:?}");
            tokio::time::sleep(LOOK_EVERY).await;
        }
        begun.elapsed()
    }
}
