use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::bare;
use crate::measure::Bench;
use crate::programs::{More, Nginx, Registry, Roadstead, Secure, Settings};
use crate::pull;
use crate::table::Who;
use crate::usage::cpu_seconds;

/// One of those that do the work.
#[derive(Clone, Copy)]
pub(crate) struct Contestant {
    pub(crate) who: Who,
    pub(crate) address: SocketAddr,
    /// Of the process whose CPU time, with its children's, counts.
    pub(crate) pid: u32,
}

/// All servers with empty storages, in front of one upstream.
pub(crate) struct Stage {
    pub(crate) roadstead: Roadstead,
    pub(crate) files: Nginx,
    proxy: Nginx,
    registry: Registry,
    upstream: SocketAddr,
    folder: PathBuf,
}

impl Stage {
    pub(crate) async fn new(bench: &Bench, name: &str, upstream: SocketAddr) -> Self {
        Self::with(bench, name, upstream, None).await
    }

    /// Roadstead and nginx with static files speak TLS too.
    pub(crate) async fn with(bench: &Bench, name: &str, upstream: SocketAddr, secure: Option<&Secure>) -> Self {
        let folder = bench.folder(name);
        std::fs::create_dir(&folder).expect("the stage's folder is new");
        let url = format!("http://{upstream}");
        // A tag stays fresh for the whole run.
        let settings = Settings::with(folder.join("roadstead"), &url, "1h", &More { secure, ..More::default() });
        Self {
            roadstead: settings.start().await,
            files: Nginx::files(folder.join("files"), secure).await,
            proxy: Nginx::proxy(folder.join("proxy"), upstream).await,
            registry: Registry::proxy(folder.join("registry"), upstream).await,
            upstream,
            folder,
        }
    }

    pub(crate) fn roadstead(&self) -> Contestant {
        Contestant { who: Who::Roadstead, address: self.roadstead.address, pid: self.roadstead.pid() }
    }

    pub(crate) fn files(&self) -> Contestant {
        Contestant { who: Who::Static, address: self.files.address, pid: self.files.pid() }
    }

    pub(crate) fn proxy(&self) -> Contestant {
        Contestant { who: Who::Proxy, address: self.proxy.address, pid: self.proxy.pid() }
    }

    pub(crate) fn registry(&self) -> Contestant {
        Contestant { who: Who::Registry, address: self.registry.address, pid: self.registry.pid() }
    }

    /// Those that fetch what they do not have.
    pub(crate) fn caches(&self) -> [Contestant; 3] {
        [self.roadstead(), self.proxy(), self.registry()]
    }

    pub(crate) fn caches_and_files(&self) -> [Contestant; 4] {
        [self.roadstead(), self.files(), self.proxy(), self.registry()]
    }

    /// Straight from the upstream. Its CPU time is nobody's.
    pub(crate) fn direct(&self) -> Contestant {
        Contestant { who: Who::Direct, address: self.upstream, pid: 0 }
    }

    /// What has to be done, and nothing else.
    pub(crate) fn bare(&self) -> Contestant {
        Contestant { who: Who::Bare, address: bare::start(self.upstream), pid: 0 }
    }

    /// All have it afterwards, and it is what it should be.
    pub(crate) async fn warm(&self, path: &str, digest: &str) {
        for cache in self.caches() {
            pull::verified(cache.address, path, digest).await;
        }
        self.files.serve(&self.stored(digest).await, path);
        pull::verified(self.files.address, path, digest).await;
        // docker-registry has it a moment after its client.
        pull::verified(self.registry.address, path, digest).await;
    }

    /// The file of a blob that was pulled: readers have it a moment before it is stored.
    pub(crate) async fn stored(&self, digest: &str) -> PathBuf {
        let file = self.roadstead.settings.stored(digest);
        let stored = async {
            while !file.exists() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_mins(1), stored).await.expect("what was pulled is stored");
        file
    }

    /// Ends all and frees the disk.
    pub(crate) async fn stop(self) {
        let folder = self.folder;
        self.roadstead.stop().await;
        drop((self.files, self.proxy, self.registry));
        std::fs::remove_dir_all(folder).expect("the stage's folder goes");
    }
}

impl Contestant {
    /// Whether it has afterwards what it was asked for.
    pub(crate) fn is_cache(&self) -> bool {
        !matches!(self.who, Who::Direct | Who::Bare)
    }

    /// CPU seconds that it takes while `work` is done.
    pub(crate) fn cpu_of<T>(&self, work: impl FnOnce() -> T) -> (f64, T) {
        let before = cpu_seconds(self.pid);
        let done = work();
        (cpu_seconds(self.pid) - before, done)
    }
}
