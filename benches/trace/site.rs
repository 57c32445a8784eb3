//! The repositories of a site, and how their images change.

use super::random::{Random, Zipf, whole};
use super::{AUTHORITIES, DAY, Shape};

const KIB: f64 = 1024.0;
const MIB: f64 = 1024.0 * KIB;
/// Parts of an image, from below.
const BASE: u8 = 0;
const DEPENDENCIES: u8 = 1;
const APPLICATION: u8 = 2;
/// Every base is rebuilt about so often.
const BASE_LIFE: f64 = 18.0 * DAY as f64;
/// Of the repositories, each week, so many become as popular as another one.
const SHIFTED: usize = 12;

/// What has a digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Object {
    pub(crate) id: u64,
    pub(crate) size_bytes: u64,
}

#[derive(Clone, Debug)]
pub(crate) struct Image {
    pub(crate) authority: usize,
    pub(crate) repository: usize,
    /// Counted from 0 in its repository. Builds of branches count too.
    pub(crate) version: u64,
    /// Milliseconds from the start.
    pub(crate) released: u64,
    pub(crate) manifest: Object,
    pub(crate) config: Object,
    /// Each with the part of the image that it belongs to: 0 the base, 1 dependencies, 2 the application.
    pub(crate) layers: Vec<(u8, Object)>,
}

struct Base {
    layers: Vec<Object>,
    next_build: u64,
}

struct Repository {
    authority: usize,
    base: usize,
    dependencies: Vec<Object>,
    /// Milliseconds from one release to the next, on average.
    release_every: f64,
    next_release: u64,
    versions: u64,
    /// Oldest first. Builds of branches are not among them.
    releases: Vec<usize>,
}

pub(super) struct Site {
    shape: Shape,
    bases: Vec<Base>,
    repositories: Vec<Repository>,
    /// Repositories, the most popular first.
    ranks: Vec<usize>,
    popularity: Zipf,
    next_shift: u64,
    objects: u64,
    pub(super) images: Vec<Image>,
}

impl Site {
    pub(super) fn new(shape: Shape, random: &mut Random) -> Self {
        let mut site = Self {
            shape,
            bases: Vec::new(),
            repositories: Vec::new(),
            ranks: (0..shape.repositories).collect(),
            popularity: Zipf::new(shape.repositories, shape.skew),
            next_shift: 7 * DAY,
            objects: 0,
            images: Vec::new(),
        };
        for _base in 0..shape.bases {
            let layers = site.base_layers(random);
            site.bases.push(Base { layers, next_build: whole(random.exponential(BASE_LIFE)) });
        }
        let of_bases = Zipf::new(shape.bases, 1.0);
        for _repository in 0..shape.repositories {
            // A few are built many times a day, most every few weeks.
            let release_every = random.log_normal(6.0 * DAY as f64, 1.3);
            let base = of_bases.draw(random);
            let dependencies = site.dependencies(random);
            let repository = Repository {
                authority: random.index(AUTHORITIES.len()),
                base,
                dependencies,
                release_every,
                next_release: whole(random.exponential(release_every)),
                versions: 0,
                releases: Vec::new(),
            };
            site.repositories.push(repository);
        }
        for repository in 0..shape.repositories {
            // Some history, so that the first scan finds older releases too.
            for _release in 0..shape.scan_depth {
                site.release(repository, 0, random);
            }
        }
        site
    }

    /// What is built and released up to this time.
    pub(super) fn go_on(&mut self, now: u64, random: &mut Random) {
        for base in 0..self.bases.len() {
            if self.bases[base].next_build <= now {
                let layers = self.base_layers(random);
                self.bases[base] = Base { layers, next_build: now + whole(random.exponential(BASE_LIFE)).max(1) };
            }
        }
        for repository in 0..self.repositories.len() {
            if self.repositories[repository].next_release <= now {
                self.release(repository, now, random);
                let pause = random.exponential(self.repositories[repository].release_every);
                self.repositories[repository].next_release = now + whole(pause).max(1);
            }
        }
        if self.next_shift <= now {
            self.next_shift += 7 * DAY;
            for _shifted in 0..SHIFTED {
                let (one, other) = (random.index(self.ranks.len()), random.index(self.ranks.len()));
                self.ranks.swap(one, other);
            }
        }
    }

    /// The image that somebody pulls: mostly the newest of its repository.
    pub(super) fn wanted(&self, random: &mut Random) -> usize {
        let releases = &self.repositories[self.popular(random)].releases;
        let newest = releases.len() - 1;
        // Pinned ones are rarely much older.
        let age = if random.chance(0.85) { 0 } else { whole(random.exponential(3.0)) };
        releases[newest.saturating_sub(usize::try_from(age).unwrap_or(newest))]
    }

    /// An image of which nobody will pull more than one.
    pub(super) fn branch_build(&mut self, now: u64, random: &mut Random) -> usize {
        let repository = self.popular(random);
        self.build(repository, now, random)
    }

    pub(super) fn last_releases(&self, depth: usize) -> Vec<usize> {
        let of_each = self.repositories.iter().flat_map(|repository| repository.releases.iter().rev().take(depth));
        of_each.copied().collect()
    }

    fn popular(&self, random: &mut Random) -> usize {
        self.ranks[self.popularity.draw(random)]
    }

    fn release(&mut self, repository: usize, now: u64, random: &mut Random) {
        if random.chance(0.2) {
            self.repositories[repository].dependencies = self.dependencies(random);
        }
        let image = self.build(repository, now, random);
        self.repositories[repository].releases.push(image);
    }

    fn build(&mut self, repository: usize, now: u64, random: &mut Random) -> usize {
        let application: Vec<_> = (0..=random.below(3)).map(|_| self.layer(random, 3.0 * MIB, 1.4)).collect();
        let manifest = self.object(random.log_normal(1.6 * KIB, 0.3));
        let config = self.object(random.log_normal(6.0 * KIB, 0.5));
        let Repository { authority, base, dependencies, versions, .. } = &mut self.repositories[repository];
        let parts = [(BASE, &self.bases[*base].layers), (DEPENDENCIES, dependencies), (APPLICATION, &application)];
        let layers = parts.into_iter().flat_map(|(part, layers)| layers.iter().map(move |layer| (part, *layer)));
        let image = Image {
            authority: *authority,
            repository,
            version: *versions,
            released: now,
            manifest,
            config,
            layers: layers.collect(),
        };
        *versions += 1;
        self.images.push(image);
        self.images.len() - 1
    }

    fn base_layers(&mut self, random: &mut Random) -> Vec<Object> {
        let lowest = self.layer(random, 30.0 * MIB, 0.5);
        let above = (0..random.below(4)).map(|_| self.layer(random, 12.0 * MIB, 1.2));
        std::iter::once(lowest).chain(above.collect::<Vec<_>>()).collect()
    }

    fn dependencies(&mut self, random: &mut Random) -> Vec<Object> {
        (0..=random.below(3)).map(|_| self.layer(random, 20.0 * MIB, 1.5)).collect()
    }

    fn layer(&mut self, random: &mut Random, median: f64, spread: f64) -> Object {
        let size = random.log_normal(median, spread).clamp(200.0, 2048.0 * MIB);
        self.object(size / self.shape.shrink as f64)
    }

    fn object(&mut self, size: f64) -> Object {
        self.objects += 1;
        Object { id: self.objects, size_bytes: whole(size).max(64) }
    }
}
