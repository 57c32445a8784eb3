use std::sync::Arc;

use tokio::sync::Barrier;

use super::{Bench, MIB};
use crate::programs::Settings;
use crate::pull::{self, REPOSITORY, blob_path};
use crate::report::Figure;
use crate::support::upstream::{Upstream, blob};

const CLIENTS: usize = 32;

/// All clients ask at the same moment for a blob that nobody has asked for before.
pub(super) async fn measure(bench: &Bench) -> Vec<Figure> {
    let size = bench.scale(64 * MIB, 4 * MIB);
    let upstream = Upstream::start().await;
    let digest = upstream.blob(REPOSITORY, blob(size, 1));
    let roadstead = Settings::new(bench.folder("coalescing"), &upstream.url(), "1m").start().await;
    let all_there = Arc::new(Barrier::new(CLIENTS));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (address, digest, all_there) = (roadstead.address, digest.clone(), Arc::clone(&all_there));
            tokio::spawn(async move {
                all_there.wait().await;
                pull::verified(address, &blob_path(&digest), &digest).await;
            })
        })
        .collect();
    for client in clients {
        client.await.expect("every client gets the blob");
    }
    let copies = upstream.bytes_sent_of(&digest) as f64 / size as f64;
    let gets = upstream.gets_of(&digest) as f64;
    roadstead.stop().await;
    let who = format!("{CLIENTS} clients, one cold blob of {} MiB", size / MIB);
    vec![
        Figure::promised(format!("{who}: copies fetched"), copies, 1.0),
        Figure::new(format!("{who}: GETs of it"), gets, crate::report::Unit::Count),
    ]
}
