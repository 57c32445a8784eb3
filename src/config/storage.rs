//! The section `[storage]`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::cache::retention::{EvictionSettings, Marks};
use crate::cache::scrub::{Rate, VerifySettings};
use crate::mirror::Namespaces;
use crate::oci::PinPattern;
use crate::store::{self, SpaceLimits};

use super::StorageSettings;
use super::section::Section;

const DEFAULT_PATH: &str = "./roadstead-data";

pub(super) fn check(storage: Section<'_>, namespaces: &Namespaces) -> StorageSettings {
    let path = storage.text("path");
    if path.as_ref().is_some_and(String::is_empty) {
        storage.problem("path", "must not be empty");
    }
    let path = PathBuf::from(path.unwrap_or_else(|| DEFAULT_PATH.to_owned()));
    let marks = marks(&storage);
    let (max_size, min_free) = (storage.size("max_size"), storage.size("min_free").unwrap_or(0));
    compare_with_disk(&storage, &path, max_size, min_free);
    let (high_mark, low_mark) = max_size.map(|max| marks.of(max)).unzip();
    let settings = StorageSettings {
        limits: SpaceLimits { max_size, min_free, high_mark, low_mark },
        verify: VerifySettings { rate: verify_rate(&storage), every: verify_every(&storage) },
        eviction: EvictionSettings {
            unused_for: storage.duration("unused_for"),
            pins: pins(&storage, namespaces),
            marks,
        },
        path,
    };
    storage.finish();
    settings
}

/// The disk may grow, so what it cannot hold now is no problem.
fn compare_with_disk(storage: &Section<'_>, path: &Path, max_size: Option<u64>, min_free: u64) {
    let Some(disk) = store::disk_bytes(path) else { return };
    let all = bytesize::ByteSize(disk);
    if max_size.is_some_and(|max| max > disk) {
        storage
            .doubt("max_size", format!("is more than the whole disk of `path` has ({all}): only `min_free` limits it"));
    }
    if min_free >= disk {
        storage.doubt("min_free", format!("is not less than the whole disk of `path` has ({all}): nothing is stored"));
    }
}

fn marks(storage: &Section<'_>) -> Marks {
    let default = Marks::default();
    let read = |key: &'static str, text: Option<String>| {
        let text = text?;
        let percent = text.strip_suffix('%').and_then(|number| number.parse().ok()).filter(|n| (1..=100).contains(n));
        if percent.is_none() {
            storage.problem(key, "must be a part of `max_size`, as in \"90%\"");
        }
        percent
    };
    let high = read("high_mark", storage.text("high_mark")).unwrap_or(default.high);
    let low = read("low_mark", storage.text("low_mark")).unwrap_or(default.low.min(high.saturating_sub(1)));
    if low >= high {
        storage.problem("low_mark", "must be below `high_mark`");
    }
    Marks { high, low }
}

fn pins(storage: &Section<'_>, namespaces: &Namespaces) -> Vec<PinPattern> {
    storage.each("pins", |text| namespaces.pin(text)).unwrap_or_default()
}

fn verify_rate(storage: &Section<'_>) -> Option<u64> {
    const DEFAULT: u64 = 50 * 1024 * 1024;
    let Some(text) = storage.text("verify_rate") else { return Some(DEFAULT) };
    match text.parse::<Rate>() {
        Ok(rate) => rate.bytes_per_second(),
        Err(err) => {
            storage.problem("verify_rate", err.to_string());
            None
        }
    }
}

fn verify_every(storage: &Section<'_>) -> Option<Duration> {
    let text = storage.text("verify_every")?;
    if text == "off" {
        return None;
    }
    let every = humantime::parse_duration(&text).ok().filter(|every| !every.is_zero());
    if every.is_none() {
        storage.problem("verify_every", "must be \"off\", or a duration with its unit, as in \"30days\"");
    }
    every
}
