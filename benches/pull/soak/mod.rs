//! A site's pulls through a cache that is much smaller than what is pulled: does it stay as it was after an hour?

mod chart;
mod sample;
mod traffic;

use std::fmt::Write as _;
use std::fs;
use std::time::Duration;

use serde_json::{Value, json};

use crate::arguments::Soak;
use crate::measure::{Bench, MIB};
use crate::programs::{More, Settings};
use crate::report::{Figure, Unit, median};
use crate::support::upstream::Upstream;
use crate::trace::{AUTHORITIES, Shape};

use chart::{Line, Panel};
use sample::{Sample, Sampler};
use traffic::Traffic;

/// A day of the trace.
const DAY_TAKES: Duration = Duration::from_mins(1);
/// Points of the picture, about.
const SAMPLES: u32 = 360;
const SHORTEST: Duration = Duration::from_secs(1);

/// Figures of the whole run, and what was seen over time. The picture is drawn to its file.
pub(crate) async fn measure(bench: &Bench, wanted: &Soak) -> (Vec<Figure>, Value) {
    let minutes = bench.scale(wanted.minutes, 1);
    let quota = bench.scale(1024 * MIB, 96 * MIB);
    let shape = Shape {
        days: minutes,
        repositories: 160,
        bases: 16,
        pulls_per_day: 1000,
        scan_depth: 2,
        shrink: bench.scale(24, 256),
        ..Shape::default()
    };
    let upstream = Upstream::start().await;
    let mut others = String::new();
    for authority in AUTHORITIES.iter().filter(|authority| **authority != "docker.io") {
        // Writing to a string cannot fail.
        let _written = writeln!(others, "[upstreams.\"{authority}\"]\nurl = \"{}\"", upstream.url());
    }
    let storage = format!("max_size = \"{quota}B\"");
    let more = More { storage: &storage, upstreams: &others, ..More::default() };
    let settings = Settings::with(bench.folder("soak"), &upstream.url(), "10s", &more);
    let roadstead = settings.start().await;

    let lasts = DAY_TAKES * u32::try_from(minutes).unwrap_or(u32::MAX);
    let every = (lasts / SAMPLES).max(SHORTEST);
    let traffic = Traffic::start(roadstead.address);
    let watch = Sampler::start(roadstead.pid(), roadstead.settings.storage(), traffic.seen(), every);
    let failed = traffic.replay(shape, DAY_TAKES, &upstream);
    let samples = watch.end();
    roadstead.stop().await;

    let picture =
        chart::draw(&format!("A site's pulls through a cache of {} MiB", quota / MIB), &panels(&samples, quota));
    fs::write(&wanted.picture, picture).expect("the file for the picture is writable");
    eprintln!("drawn: {}", wanted.picture.display());
    (figures(&samples, quota, failed), json!(samples.iter().map(Sample::json).collect::<Vec<_>>()))
}

fn figures(samples: &[Sample], quota: u64, failed: u64) -> Vec<Figure> {
    // From a quarter on, the cache is full, and what grows does not stop.
    let late = samples.get(samples.len() / 4..).unwrap_or_default();
    let part = |from: usize, to: usize| late.get(late.len() * from / 4..late.len() * to / 4).unwrap_or_default();
    let of = |part: &[Sample], figure: fn(&Sample) -> f64| median(part.iter().map(figure));
    let memory = |sample: &Sample| sample.private_bytes as f64 / MIB as f64;
    let peak = |figure: fn(&Sample) -> f64| samples.iter().map(figure).fold(0.0, f64::max);
    let answered: u64 = samples.iter().map(|sample| sample.answers).sum();
    vec![
        Figure::new("requests answered", answered as f64, Unit::Count),
        Figure::promised("requests that failed", failed as f64, 0.0),
        Figure::new("byte hit ratio, from a quarter on", of(late, |sample| sample.byte_hits), Unit::Times),
        Figure::new("p99 of hits, median of samples", of(late, |sample| sample.p99_ms), Unit::Milliseconds),
        Figure::new("private memory, second quarter", of(part(0, 1), memory), Unit::Mebibytes),
        Figure::new("private memory, at the end", of(part(3, 4), memory), Unit::Mebibytes),
        Figure::new("private memory, peak", peak(memory), Unit::Mebibytes),
        Figure::new("open descriptors, peak", peak(|sample| sample.descriptors as f64), Unit::Count),
        Figure::new("index, peak", peak(|sample| sample.index_bytes as f64 / MIB as f64), Unit::Mebibytes),
        Figure::new(
            format!("held of {} MiB, peak", quota / MIB),
            peak(|sample| sample.held_bytes as f64 / MIB as f64),
            Unit::Mebibytes,
        ),
        Figure::new("the same in blocks", peak(|sample| sample.used_bytes as f64 / MIB as f64), Unit::Mebibytes),
    ]
}

fn panels(samples: &[Sample], quota: u64) -> Vec<Panel> {
    let line = |figure: fn(&Sample) -> f64| Line {
        points: samples.iter().map(|sample| (sample.minutes, figure(sample))).collect(),
    };
    let panel = |title: &str, unit: &'static str, line: Line| Panel::new(title, unit, line);
    vec![
        panel("Byte hit ratio", "%", line(|sample| sample.byte_hits * 100.0)).up_to(100.0),
        panel("p99 of hits", "ms", line(|sample| sample.p99_ms)),
        panel("Blobs held", "MiB", line(|sample| sample.held_bytes as f64 / MIB as f64))
            .limit("quota", quota as f64 / MIB as f64),
        panel("Index", "MiB", line(|sample| sample.index_bytes as f64 / MIB as f64)),
        panel("Private memory", "MiB", line(|sample| sample.private_bytes as f64 / MIB as f64)),
        panel("Open descriptors", "", line(|sample| sample.descriptors as f64)),
    ]
}
