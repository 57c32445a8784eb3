//! The trace, played against the mirror: what is released goes to the upstream, what is pulled is asked for.

use std::collections::HashMap;
use std::mem;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::load::Stream;
use crate::support::image::{Builder, Image};
use crate::support::upstream::{Content, Upstream, blob};
use crate::trace::{self, AUTHORITIES, Event, Kind, Object, Shape, Trace};

/// Build machines that pull at one time.
const CLIENTS: usize = 8;
/// Requests that wait for one of them.
const WAITING: usize = 64;

/// What the answers were since it was last looked at.
#[derive(Default)]
pub(super) struct Answers {
    pub(super) count: u64,
    pub(super) bytes: u64,
    pub(super) hit_bytes: u64,
    /// From the request to the first byte of a hit.
    pub(super) hit_micros: Vec<u32>,
}

#[derive(Clone, Default)]
pub(super) struct Seen(Arc<Mutex<Answers>>);

impl Seen {
    pub(super) fn take(&self) -> Answers {
        mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn add(&self, bytes: u64, first_byte: Duration, is_hit: bool) {
        let mut answers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        answers.count += 1;
        answers.bytes += bytes;
        if is_hit {
            answers.hit_bytes += bytes;
            answers.hit_micros.push(u32::try_from(first_byte.as_micros()).unwrap_or(u32::MAX));
        }
    }
}

pub(super) struct Traffic {
    requests: SyncSender<String>,
    clients: Vec<JoinHandle<()>>,
    seen: Seen,
    failed: Arc<AtomicU64>,
}

impl Traffic {
    pub(super) fn start(mirror: SocketAddr) -> Self {
        let (requests, waiting) = sync_channel(WAITING);
        let (waiting, seen, failed) = (Arc::new(Mutex::new(waiting)), Seen::default(), Arc::default());
        let clients = (0..CLIENTS).map(|_| {
            let (waiting, seen, failed) = (Arc::clone(&waiting), seen.clone(), Arc::clone(&failed));
            thread::spawn(move || client(mirror, &waiting, &seen, &failed))
        });
        Self { requests, clients: clients.collect(), seen, failed }
    }

    pub(super) fn seen(&self) -> Seen {
        self.seen.clone()
    }

    /// Plays it to its end: a day of it takes so long. How many requests failed.
    pub(super) fn replay(self, shape: Shape, day_takes: Duration, upstream: &Upstream) -> u64 {
        let mut trace = Trace::new(shape);
        let mut releases = Releases { upstream, contents: HashMap::new(), images: HashMap::new() };
        let begun = Instant::now();
        while let Some(event) = trace.next() {
            let request = releases.request(&trace, &event);
            let due = begun + day_takes.mul_f64(event.at as f64 / trace::DAY as f64);
            while let Some(early) = due.checked_duration_since(Instant::now()).filter(|early| !early.is_zero()) {
                thread::park_timeout(early);
                // What the fake remembers of each request would be all that grows here.
                upstream.forget_requests();
            }
            self.requests.send(request).expect("clients wait for requests");
        }
        drop(self.requests);
        for client in self.clients {
            client.join().expect("clients survive failures");
        }
        self.failed.load(Ordering::Relaxed)
    }
}

fn client(mirror: SocketAddr, waiting: &Mutex<Receiver<String>>, seen: &Seen, failed: &AtomicU64) {
    let mut connection: Option<Stream> = None;
    let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
    while let Ok(path) = next() {
        let mut ask = || {
            if connection.is_none() {
                connection = Some(Stream::connect(mirror)?);
            }
            connection.as_mut().map_or_else(|| Err(std::io::ErrorKind::NotConnected.into()), |stream| stream.get(&path))
        };
        match ask() {
            Ok(took) => seen.add(took.bytes, took.first_byte, took.is_hit),
            Err(err) => {
                eprintln!("{path}: {err}");
                failed.fetch_add(1, Ordering::Relaxed);
                connection = None;
            }
        }
    }
}

struct Releases<'a> {
    upstream: &'a Upstream,
    /// By the trace's number, hashed once.
    contents: HashMap<u64, Content>,
    /// Those that the upstream has, by the trace's number.
    images: HashMap<usize, Image>,
}

impl Releases<'_> {
    /// The path of what is asked for, which the upstream has from now on.
    fn request(&mut self, trace: &Trace, event: &Event) -> String {
        let wanted = trace.images().get(event.image).expect("the trace knows its images");
        let repository = format!("site/app-{}", event.repository);
        if !self.images.contains_key(&event.image) {
            let config = self.content(wanted.config);
            let layers: Vec<_> = wanted.layers.iter().map(|(_, layer)| self.content(*layer)).collect();
            let image = layers.into_iter().fold(Builder::new().config(config), Builder::layer).build();
            self.upstream.publish(&repository, &format!("v{}", wanted.version), &image);
            self.images.insert(event.image, image);
        }
        let name = format!("/v2/{}/{repository}", AUTHORITIES.get(event.authority).copied().unwrap_or_default());
        match event.kind {
            Kind::Manifest => format!("{name}/manifests/v{}", wanted.version),
            Kind::Blob => {
                let content = self.contents.get(&event.object).expect("an image's blobs are published with it");
                format!("{name}/blobs/{}", content.sha256())
            }
        }
    }

    fn content(&mut self, object: Object) -> Content {
        self.contents.entry(object.id).or_insert_with(|| blob(object.size_bytes, object.id)).clone()
    }
}
