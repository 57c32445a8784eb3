//! T50: what strangers' JSON costs in memory, however it is made.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use bytes::Bytes;
use roadstead::oci::Inspected;
use roadstead::upstream::{ReferrerList, TagList, TokenAnswer};

use crate::fuzz;
use crate::text::json_bytes;

/// Counts what the current thread has.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

thread_local! {
    static NOW: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

fn count(change: isize) {
    // A thread that ends frees memory behind its own counters.
    let _ended = NOW.try_with(|now| {
        now.set(now.get() + change);
        PEAK.try_with(|peak| peak.set(peak.get().max(now.get())))
    });
}

#[expect(unsafe_code, reason = "an allocator is unsafe; this one hands everything on to the system's")]
#[expect(clippy::cast_possible_wrap, reason = "no allocation is that large")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as isize - layout.size() as isize);
        unsafe { System.realloc(block, layout, size) }
    }
}

/// The most that the work had in memory at one time, in bytes.
fn peak_of<T>(work: impl FnOnce() -> T) -> usize {
    let before = NOW.get();
    PEAK.set(before);
    let _held_until_here = work();
    usize::try_from(PEAK.get() - before).unwrap()
}

/// All that may be made of one body at one time, its own bytes included.
fn costs(body: &[u8]) -> Vec<(&'static str, usize)> {
    vec![
        ("a manifest", peak_of(|| Inspected::read(body, None)) + body.len()),
        ("a token", peak_of(|| TokenAnswer::read(body)) + body.len()),
        ("a page of referrers", peak_of(|| ReferrerList::read(body, false)) + body.len()),
        ("referrers, filtered", {
            let list = ReferrerList::read(body, false).unwrap_or_default();
            peak_of(|| list.of_types(&["a/b".to_owned()])) + list.json().len()
        }),
        ("a list of tags", peak_of(|| TagList::read(&Bytes::copy_from_slice(body)))),
        ("a page of tags", {
            let list = TagList::read(&Bytes::copy_from_slice(body)).unwrap_or_default();
            peak_of(|| list.page(Some("a"), usize::MAX)) + list.json().len()
        }),
    ]
}

/// Bodies of about so many bytes in which each byte makes as many values as it can.
fn dense(size: usize) -> Vec<Vec<u8>> {
    let mut bodies = Vec::new();
    let repeated = |piece: &str| vec![piece; size / (piece.len() + 1)].join(",");
    let mut nth = 0_u64;
    let mut numbered = |make: &dyn Fn(u64) -> String| {
        let (mut all, first) = (String::with_capacity(size), nth);
        while all.len() < size - 200 {
            if nth > first {
                all.push(',');
            }
            all.push_str(&make(nth));
            nth += 1;
        }
        all
    };
    let digest = |nth: u64| format!("sha256:{nth:064x}");
    let descriptors = numbered(&|nth| format!(r#"{{"mediaType":"a/b","digest":"{}","size":1}}"#, digest(nth)));
    let typed =
        numbered(&|nth| format!(r#"{{"mediaType":"a/b","digest":"{}","size":1,"artifactType":"a/b"}}"#, digest(nth)));
    let names = numbered(&|nth| format!("\"{nth:x}\""));
    let annotations = numbered(&|nth| format!("\"{nth:x}\":\"\""));
    for piece in [r#"{"":0}"#, "[]", "{}", "0", "null", r#""""#, r#""a","b""#, r#""\u0000""#, r#"{"digest":""}"#] {
        for key in ["manifests", "layers", "blobs", "schemaVersion", "config", "expires_in", "tags", "token", "x"] {
            bodies.push(format!(r#"{{"{key}":[{}]}}"#, repeated(piece)));
        }
    }
    for list in [descriptors, typed] {
        for key in ["manifests", "layers"] {
            bodies.push(format!(r#"{{"{key}":[{list}]}}"#));
        }
    }
    bodies.push(format!(r#"{{"tags":[{names}]}}"#));
    bodies.push(format!(r#"{{"layers":[],"annotations":{{{annotations}}}}}"#));
    bodies.push(format!(r#"{{"layers":[{{"annotations":{{{annotations}}}}}]}}"#));
    bodies.push(format!(r#"{{"expires_in":{{{annotations}}},"token":"t"}}"#));
    let (open, close) = ("[".repeat(size / 2), "]".repeat(size / 2));
    for key in ["manifests", "schemaVersion", "expires_in", "x"] {
        bodies.push(format!(r#"{{"{key}":{open}{close}}}"#));
    }
    for key in ["mediaType", "artifactType", "token", "x"] {
        bodies.push(format!(r#"{{"layers":[],"{key}":"{}"}}"#, "\\u00e9".repeat(size / 6)));
    }
    bodies.into_iter().map(String::into_bytes).collect()
}

#[test]
fn t50_an_answer_costs_at_most_four_times_its_size() {
    const SIZE: usize = 1024 * 1024;
    for body in dense(SIZE) {
        let begins = Bytes::copy_from_slice(&body[..60]);
        for (what, bytes) in costs(&body) {
            assert!(bytes <= 4 * SIZE, "{what} of {begins:?}…: {} KiB", bytes / 1024);
        }
    }
}

#[test]
fn t50_no_body_costs_much_more_than_its_size() {
    const BESIDES: usize = 64 * 1024;
    fuzz(|u| {
        let body = json_bytes(u, &["manifests", "layers", "tags", "digest", "annotations", "token", "expires_in"])?;
        for (what, bytes) in costs(&body) {
            assert!(bytes <= 4 * body.len() + BESIDES, "{what}: {bytes} of {}", body.len());
        }
        Ok(())
    });
}
