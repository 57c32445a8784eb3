//! T78: archives that are made to cost memory, the disk or time, read by the real program.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::bundles::{archive, blob_file, blobs, entry, file, index};
use super::{app, lines, text};
use crate::blobs::process::Process;
use crate::facts::backup::{run, said};
use crate::support::image;
use crate::support::mirror::files_below;
use crate::support::upstream::*;

const OFFLINE: &str = "[upstreams.\"docker.io\"]\nurl = \"http://127.0.0.1:9\"\noffline = true\n";
/// Memory of the server in an import, at most. docs/air-gapped.md states it.
const MOST_MEMORY: u64 = 400 << 20;

/// A mirror that runs, and asks nobody.
struct Target {
    folder: tempfile::TempDir,
    process: Process,
    most_memory: u64,
}

impl Target {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let process = Process::start_on(folder.path(), &folder.path().join("data"), OFFLINE).await;
        Self { folder, process, most_memory: MOST_MEMORY }
    }

    fn archive(&self) -> PathBuf {
        self.folder.path().join("archive")
    }

    async fn import(&self, bytes: &[u8]) -> std::process::Output {
        std::fs::write(self.archive(), bytes).unwrap();
        let done = run(&self.folder.path().join("roadstead.toml"), &["import", "--json", text(&self.archive())]).await;
        let (peak, _) = self.process.peak_and_resident_bytes();
        assert!(
            peak < self.most_memory,
            "{} MiB of memory: {}",
            peak >> 20,
            said(&done).chars().take(500).collect::<String>()
        );
        done
    }

    /// It fails, says why, and leaves nothing.
    async fn refuses(&self, bytes: &[u8], why: &str) {
        let done = self.import(bytes).await;
        assert_eq!(done.status.code(), Some(1), "{why}: {}", said(&done));
        assert!(said(&done).contains(why), "{why}: {}", said(&done));
        assert_eq!(files_below(&self.storage().join("blobs")).len(), 0, "{why}");
    }

    fn storage(&self) -> PathBuf {
        self.folder.path().join("data")
    }
}

/// Sizes in a header that say more than is there.
fn claims(mut header: Vec<u8>, size: &[u8; 12]) -> Vec<u8> {
    header[124..136].copy_from_slice(size);
    header[148..156].copy_from_slice(b"        ");
    let sum: u32 = header[..512].iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header
}

/// 10 GiB as GNU writes what octal digits do not hold.
const TEN_GIB: &[u8; 12] = b"\x80\0\0\0\0\0\0\x02\x80\0\0\0";
const EIGHT_GIB: &[u8; 12] = b"77777777777\0";

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    gzip.write_all(bytes).unwrap();
    gzip.finish().unwrap()
}

fn text_index(manifests: &str) -> Vec<u8> {
    archive(&[file("index.json", format!("{{\"schemaVersion\":2,\"manifests\":[{manifests}]}}").as_bytes())])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t78_bombs_are_refused_within_bounded_memory() {
    let target = Target::start().await;
    // A gzip may have many members: 1.5 GiB of zeros are one of 16 MiB, many times.
    let zeros = gzip(&vec![0; 16 << 20]);
    let mut bomb = gzip(&claims(file("zeros", b""), EIGHT_GIB));
    (0..96).for_each(|_| bomb.extend(&zeros));
    target.refuses(&bomb, "a hundred times").await;

    let empty: Vec<u8> = file("a", b"").repeat(10_000);
    target.refuses(&gzip(&empty).repeat(100), "more than 500000 entries").await;

    for size in [TEN_GIB, EIGHT_GIB] {
        target.refuses(&claims(file("index.json", b""), size), "are read").await;
    }
    let pax = entry("pax", b'x', "", b"20 size=10737418240\n");
    target.refuses(&[pax, file("index.json", b"")].concat(), "has 10737418240 bytes; 67108864 are read").await;
    // A name without an end, as GNU writes long ones.
    target.refuses(&claims(entry("././@LongLink", b'L', "", b""), EIGHT_GIB), "extended header").await;
    for other in [&b"not a tar"[..], b"", &vec![7; 5000]] {
        target.refuses(other, "").await;
    }
}

/// The largest texts that are read, full of what costs the most.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t78_lists_of_the_largest_size_are_refused_within_bounded_memory() {
    let target = Target::start().await;
    let many = |one: &str| one.repeat(((64 << 20) - 100) / one.len());
    target.refuses(&text_index(many("{\"digest\":\"\"},").trim_end_matches(',')), "more than 100000 images").await;
    let annotations = many("\"a\":\"\",");
    let one = format!("{{\"digest\":\"sha256:x\",\"annotations\":{{{}}}}}", annotations.trim_end_matches(','));
    let done = target.import(&text_index(&one)).await;
    assert_eq!(lines(&done).1["items"], 0, "{}", said(&done));
    let layers = many("\"\",");
    let saved = format!("[{{\"Config\":\"c\",\"Layers\":[{}]}}]", layers.trim_end_matches(','));
    target.refuses(&archive(&[file("manifest.json", saved.as_bytes())]), "more than 100000 images").await;
    let nested = many("[");
    target.refuses(&text_index(&nested), "no JSON object").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bundle_of_100_000_images_is_read_within_bounded_memory_and_what_is_right_in_it_comes_in() {
    let (target, good) = (Target::start().await, app(1));
    let digest = |n: usize| format!("sha256:{n:064x}");
    let mut names: Vec<String> = (1..100_000)
        .map(|n| {
            format!(
                "{{\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\",\"digest\":\"{}\",\"size\":500,\
                 \"annotations\":{{\"org.opencontainers.image.ref.name\":\"elsewhere.example/team/application-{n}:1.2.{n}\"}}}}",
                digest(n)
            )
        })
        .collect();
    let mut last = good.descriptor();
    last["annotations"] = serde_json::json!({ "org.opencontainers.image.ref.name": "docker.io/org/app:1" });
    names.push(last.to_string());
    let listed = format!("{{\"manifests\":[{}]}}", names.join(","));
    let mut files = vec![file("index.json", listed.as_bytes())];
    files.extend(blobs(&good));
    let done = target.import(&archive(&files)).await;
    let (items, result) = lines(&done);
    assert_eq!((done.status.code(), &result["items"], &result["failed"]), (Some(1), &100_000.into(), &99_999.into()));
    let told = |item: &Value| (item["item"].clone(), item["outcome"].clone());
    assert_eq!(told(&items[99_999]), ("docker.io/org/app:1".into(), "done".into()));
    assert_eq!(told(&items[0]), ("elsewhere.example/team/application-1:1.2.1".into(), "refused".into()));
    let manifest = target.process.client().get("/v2/org/app/manifests/1").await;
    assert_eq!((manifest.status, sha256(&manifest.body)), (200, good.digest.clone()));
}

/// No content has its own digest in it: what says so has other bytes, or leads down without an end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_that_lists_itself_or_leads_down_without_an_end_is_refused() {
    let target = Target::start().await;
    let listing = |digest: &str| {
        let manifest = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [{ "mediaType": "application/vnd.oci.image.index.v1+json", "digest": digest, "size": 200 }],
        });
        manifest.to_string().into_bytes()
    };
    let own = format!("sha256:{}", "ab".repeat(32));
    let image = image::Image { digest: own.clone(), manifest: listing(&own).into(), ..app(1) };
    let files = [index(&[(&image, "docker.io/org/app:1")]), blob_file(&own, &listing(&own))];
    target.refuses(&archive(&files), "has other bytes").await;

    let mut bottom = app(1);
    let mut files = blobs(&bottom);
    for _depth in 0..8 {
        let bytes = listing(&bottom.digest);
        let digest = sha256(&bytes);
        files.push(blob_file(&digest, &bytes));
        bottom = image::Image { digest, manifest: bytes.into(), ..bottom };
    }
    files.push(index(&[(&bottom, "docker.io/org/app:1")]));
    target.refuses(&archive(&files), "too deep in one another").await;
    assert!(!Path::new(&target.storage().join("STAGED")).exists());
}
