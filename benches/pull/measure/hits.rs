use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::{Bench, MIB};
use crate::client::Client;
use crate::programs::{Nginx, Settings};
use crate::pull::{self, REPOSITORY, blob_path, manifest_path};
use crate::report::{Figure, Unit, median};
use crate::support::image::image;
use crate::support::upstream::{Upstream, blob};
use crate::usage::cpu_seconds;

const ROUNDS: usize = 3;
const MANIFEST_CLIENTS: usize = 64;

/// A server under measurement, and what it did in each round.
struct Server {
    address: SocketAddr,
    pid: u32,
    rounds: Vec<Round>,
}

#[derive(Clone, Copy)]
struct Round {
    per_second: f64,
    cpu_per_gib: f64,
}

/// The same stored files, from Roadstead and from nginx, in turns.
pub(super) async fn measure(bench: &Bench) -> Vec<Figure> {
    let size = bench.scale(256 * MIB, 8 * MIB);
    let upstream = Upstream::start().await;
    let image = image(&[blob(size, 1)]);
    upstream.publish(REPOSITORY, "1", &image);
    let roadstead = Settings::new(bench.folder("hits"), &upstream.url(), "1m").start().await;
    let nginx = Nginx::start(bench.folder("nginx")).await;
    let layer = image.layers().first().expect("it has a layer").digest.clone();
    for (path, digest) in [(manifest_path(&image.digest), &image.digest), (blob_path(&layer), &layer)] {
        pull::verified(roadstead.address, &path, digest).await;
        nginx.serve(&stored(&roadstead.settings, digest).await, &path);
        pull::verified(nginx.address, &path, digest).await;
    }
    let mut figures = Vec::new();
    for (clients, pulls) in [(1, bench.scale(16, 2)), (8, bench.scale(4, 1))] {
        let mut servers = [Server::new(roadstead.address, roadstead.pid()), Server::new(nginx.address, nginx.pid())];
        for _round in 0..ROUNDS {
            for server in &mut servers {
                server.blobs(&blob_path(&layer), clients, pulls).await;
            }
        }
        let what = format!("{} MiB blob, c={clients}", size / MIB);
        figures.extend(compared(&what, &servers, Unit::MebibytesPerSecond, |round| round.per_second));
        figures.extend(compared(&what, &servers, Unit::CpuSecondsPerGibibyte, |round| round.cpu_per_gib));
    }
    let mut servers = [Server::new(roadstead.address, roadstead.pid()), Server::new(nginx.address, nginx.pid())];
    for _round in 0..ROUNDS {
        for server in &mut servers {
            server.manifests(&manifest_path(&image.digest), bench.scale(5, 1)).await;
        }
    }
    let what = format!("manifest by digest, c={MANIFEST_CLIENTS}");
    figures.extend(compared(&what, &servers, Unit::RequestsPerSecond, |round| round.per_second));
    roadstead.stop().await;
    figures
}

/// The file of a blob that was pulled: readers have it a moment before it is stored.
async fn stored(settings: &Settings, digest: &str) -> PathBuf {
    let file = settings.stored(digest);
    let stored = async {
        while !file.exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_mins(1), stored).await.expect("what was pulled is stored");
    file
}

impl Server {
    const fn new(address: SocketAddr, pid: u32) -> Self {
        Self { address, pid, rounds: Vec::new() }
    }

    /// Each client pulls the blob so many times. Enough of it, since the kernel's CPU clock is coarse.
    async fn blobs(&mut self, path: &str, clients: usize, pulls: usize) {
        let (cpu, begun) = (cpu_seconds(self.pid), Instant::now());
        let read = self.clients(path, clients, move |pulled| pulled < pulls).await;
        let (cpu, took) = (cpu_seconds(self.pid) - cpu, begun.elapsed().as_secs_f64());
        let mib = read.bytes as f64 / MIB as f64;
        self.rounds.push(Round { per_second: mib / took, cpu_per_gib: cpu / (mib / 1024.0) });
    }

    async fn manifests(&mut self, path: &str, seconds: u64) {
        let begun = Instant::now();
        let end = begun + Duration::from_secs(seconds);
        let read = self.clients(path, MANIFEST_CLIENTS, move |_| Instant::now() < end).await;
        self.rounds.push(Round { per_second: read.pulls as f64 / begun.elapsed().as_secs_f64(), cpu_per_gib: 0.0 });
    }

    async fn clients(
        &self,
        path: &str,
        clients: usize,
        goes_on: impl Fn(usize) -> bool + Copy + Send + 'static,
    ) -> Read {
        let started: Vec<_> =
            (0..clients).map(|_| tokio::spawn(read(self.address, path.to_owned(), goes_on))).collect();
        let mut all = Read::default();
        for client in started {
            let read = client.await.expect("every client gets what it asks for");
            all.pulls += read.pulls;
            all.bytes += read.bytes;
        }
        all
    }
}

#[derive(Default)]
struct Read {
    pulls: usize,
    bytes: u64,
}

async fn read(from: SocketAddr, path: String, goes_on: impl Fn(usize) -> bool) -> Read {
    let mut client = Client::connect(from).await.expect("the server accepts connections");
    let mut read = Read::default();
    while goes_on(read.pulls) {
        let head = client.get(&path).await.expect("the server answers");
        assert_eq!(head.status, 200, "{path}");
        client.discard().await.expect("a body comes to its end");
        read.pulls += 1;
        read.bytes += head.length;
    }
    read
}

/// Medians of both, and of the ratios of each round.
fn compared(what: &str, [ours, nginx]: &[Server; 2], unit: Unit, of: impl Fn(&Round) -> f64) -> [Figure; 3] {
    let ratios = ours.rounds.iter().zip(&nginx.rounds).map(|(ours, nginx)| of(ours) / of(nginx));
    [
        Figure::new(format!("{what}: Roadstead"), median(ours.rounds.iter().map(&of)), unit),
        Figure::new(format!("{what}: nginx"), median(nginx.rounds.iter().map(&of)), unit),
        Figure::new(format!("{what}: Roadstead / nginx, {}", unit.name()), median(ratios), Unit::Times),
    ]
}
