//! A synthetic month of a site's pulls: what caches are measured with.
//!
//! The same seed gives the same events, in order of time. They look like the pulls of build machines:
//!
//! - Few repositories get most pulls (Zipf), and which ones shifts from week to week.
//! - Images of many repositories stand on the same base layers. A base is rebuilt every few weeks, and its images
//!   follow with their next release.
//! - A release replaces the upper layers of an image. Its dependencies change less often than its application.
//! - Most pulls want the newest release, some an older one. A machine that was there before lacks only what is new.
//! - Builds of branches are pulled once or twice, and never again.
//! - Every night a scanner pulls the last releases of every repository once.
#![allow(dead_code, unused_imports, reason = "each bench uses a part of it")]
#![allow(clippy::indexing_slicing, reason = "bases, repositories and images are never removed")]

mod random;
mod site;

use std::collections::VecDeque;

pub(crate) use self::random::Random;
pub(crate) use self::site::{Image, Object};

use self::site::Site;

pub(crate) const AUTHORITIES: [&str; 4] = ["docker.io", "ghcr.io", "quay.io", "registry.corp:5000"];
/// Milliseconds.
pub(crate) const HOUR: u64 = 60 * 60 * 1000;
pub(crate) const DAY: u64 = 24 * HOUR;
const SCAN_HOUR: u64 = 2;
/// Between two requests of one pull.
const REQUEST_EVERY: u64 = 20;

/// How large the site is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) seed: u64,
    pub(crate) days: u64,
    pub(crate) repositories: usize,
    pub(crate) bases: usize,
    pub(crate) pulls_per_day: u64,
    /// Releases of one repository that a scan pulls.
    pub(crate) scan_depth: usize,
    /// Blobs are so many times smaller than real ones.
    pub(crate) shrink: u64,
    /// The exponent of popularity: 0 for all alike, 1 for the classic Zipf.
    pub(crate) skew: f64,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            seed: 1,
            days: 30,
            repositories: 400,
            bases: 24,
            pulls_per_day: 4000,
            scan_depth: 3,
            shrink: 1,
            skew: 0.9,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Manifest,
    /// A config or a layer.
    Blob,
}

/// One request of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    /// Milliseconds from the start, which is midnight.
    pub(crate) at: u64,
    pub(crate) kind: Kind,
    /// An index of [`AUTHORITIES`].
    pub(crate) authority: usize,
    /// Counted over all authorities.
    pub(crate) repository: usize,
    /// What stands for its digest. Manifests and blobs are counted together.
    pub(crate) object: u64,
    pub(crate) size_bytes: u64,
    /// An index into [`Trace::images`].
    pub(crate) image: usize,
    pub(crate) is_scan: bool,
}

/// All requests, from the first day on. The images that it has told of can be looked up.
pub(crate) struct Trace {
    shape: Shape,
    site: Site,
    random: Random,
    next_pull: u64,
    next_scan: u64,
    /// Time of the last request so far.
    last: u64,
    /// Of the pull or the scan that is running.
    pending: VecDeque<Event>,
}

impl Trace {
    pub(crate) fn new(shape: Shape) -> Self {
        let mut random = Random::new(shape.seed);
        let site = Site::new(shape, &mut random);
        Self { shape, site, random, next_pull: 0, next_scan: SCAN_HOUR * HOUR, last: 0, pending: VecDeque::new() }
    }

    /// Every image that has been released so far, whether anyone pulled it or not.
    pub(crate) fn images(&self) -> &[Image] {
        &self.site.images
    }

    fn pull(&mut self) {
        let at = self.next_pull;
        self.next_pull += self.pause(at);
        self.site.go_on(at, &mut self.random);
        let image = if self.random.chance(0.08) {
            self.site.branch_build(at, &mut self.random)
        } else {
            self.site.wanted(&mut self.random)
        };
        // Half of the machines are new and have nothing. The others have the base, and one in three the dependencies.
        let has = match self.random.below(6) {
            0..3 => 0,
            3..5 => 1,
            _ => 2,
        };
        self.request(at, image, has, false);
    }

    fn scan(&mut self) {
        let mut at = self.next_scan.max(self.last);
        self.next_scan += DAY;
        self.site.go_on(at, &mut self.random);
        for image in self.site.last_releases(self.shape.scan_depth) {
            self.request(at, image, 0, true);
            at += 2 * REQUEST_EVERY;
        }
    }

    /// What a machine asks for that already has the layers of the lowest `has` parts of the image.
    fn request(&mut self, at: u64, image: usize, has: u8, is_scan: bool) {
        let Some(wanted) = self.site.images.get(image) else { return };
        let missing = wanted.layers.iter().filter(|(part, _)| *part >= has).map(|(_, layer)| (Kind::Blob, *layer));
        let objects = [(Kind::Manifest, wanted.manifest), (Kind::Blob, wanted.config)].into_iter().chain(missing);
        let events = objects.zip(0..).map(|((kind, object), nth)| Event {
            at: at + nth * REQUEST_EVERY,
            kind,
            authority: wanted.authority,
            repository: wanted.repository,
            object: object.id,
            size_bytes: object.size_bytes,
            image,
            is_scan,
        });
        self.pending.extend(events);
    }

    /// To the next pull: days are busier than nights.
    fn pause(&mut self, at: u64) -> u64 {
        let hour = (at % DAY) / HOUR;
        let busy = match hour {
            8..18 => 1.8,
            6..8 | 18..22 => 0.7,
            _ => 0.25,
        };
        let mean = DAY as f64 / (self.shape.pulls_per_day as f64 * busy);
        random::whole(self.random.exponential(mean)).max(1)
    }
}

impl Iterator for Trace {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        // One pull at a time, so that events are in order whatever overlaps on a real site.
        if self.pending.is_empty() {
            if self.next_pull.min(self.next_scan) >= self.shape.days * DAY {
                return None;
            }
            if self.next_scan <= self.next_pull {
                self.scan();
            } else {
                self.pull();
            }
            self.pending.make_contiguous().sort_by_key(|event| event.at);
            self.last = self.pending.back().map_or(self.last, |last| last.at);
            self.next_pull = self.next_pull.max(self.last);
        }
        self.pending.pop_front()
    }
}
