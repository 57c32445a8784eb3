use super::{Contestant, ROUNDS, Stage, turns};
use crate::load::SecureClient;
use crate::measure::{Bench, MIB};
use crate::programs::{Registry, Secure};
use crate::pull::blob_path;
use crate::report::Unit;
use crate::support::image::image;
use crate::support::upstream::blob;
use crate::table::{Bar, Row, Who};

pub(super) async fn measure(bench: &Bench) -> Vec<Row> {
    let size = bench.scale(256 * MIB, 8 * MIB);
    let upstream = Registry::start(bench.folder("tls-upstream")).await;
    let image = image(&[blob(size, 1)]);
    upstream.push("1", &image).await;
    let secure = Secure::new(&bench.folder("tls-certificate"));
    let stage = Stage::with(bench, "tls", upstream.address, Some(&secure)).await;
    let layer = image.layers().first().expect("it has a layer").digest.clone();
    let path = blob_path(&layer);
    stage.warm(&path, &layer).await;
    let client = SecureClient::new(&secure);
    let at = |contestant: Contestant, address: Option<_>| Contestant {
        address: address.expect("it speaks TLS"),
        ..contestant
    };
    let contestants =
        [at(stage.roadstead(), stage.roadstead.settings.secure_address), at(stage.files(), stage.files.secure_address)];
    for contestant in &contestants {
        client.verified(contestant.address, &path, &layer);
    }
    let mut rows = Vec::new();
    for (clients, times) in [(1, bench.scale(8, 1)), (8, 1)] {
        let work = |what: &str| format!("TLS hit of {} MiB, c={clients}: {what}", size / MIB);
        let mut cpu = Row::new(work("CPU"), Unit::CpuSecondsPerGibibyte).bar(Bar::AtMost(1.15, Who::Static));
        let mut rate = Row::new(work("throughput"), Unit::MebibytesPerSecond);
        for round in 0..ROUNDS {
            for contestant in turns(&contestants, round) {
                let read = || client.read_all(contestant.address, &path, clients, times);
                let (seconds, (took, bytes)) = contestant.cpu_of(read);
                let mib = bytes as f64 / MIB as f64;
                cpu.add(contestant.who, seconds / (mib / 1024.0));
                rate.add(contestant.who, mib / took.as_secs_f64());
            }
        }
        rows.extend([cpu, rate]);
    }
    stage.stop().await;
    rows
}
