//! Whether more fits, and what has to go before it does.
//!
//! What an upstream claims or sends is not proven before its end. It pushes no more out of other upstreams' content than a
//! share of the room.

use super::Space;
use super::counts::Counts;
use crate::file_blocks::in_blocks;

/// What an upstream's unproven bytes may push out of other upstreams' content ends at this part of the room.
const SHARE: u64 = 2;
/// Beyond their share, unproven bytes leave this part of the disk free.
const KEPT_FREE: u64 = 8;

/// What has to go before something fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shortage {
    pub bytes: u64,
    /// Only of the registry itself.
    pub own_only: bool,
}

/// The disk at one moment. Bytes.
pub(super) struct Disk {
    /// `None` for one that cannot be asked: it is left to fail by itself.
    free: Option<u64>,
    /// Short of what it must keep free once more is on it.
    pub(super) lack: u64,
}

impl Space {
    /// Counts so many more bytes, if they fit.
    pub(super) fn take(&self, authority: &str, upstream: &str, more: u64) -> bool {
        let disk = self.disk(more);
        let mut counts = self.counts();
        let used = counts.used().saturating_add(more);
        let fits = self.shortage_of(&counts, &disk, (authority, upstream), more).bytes == 0;
        if fits {
            counts.add_partial(authority, more);
            *counts.unproven_by.entry(upstream.into()).or_default() += more;
        }
        drop(counts);
        if !fits || self.limits.high_mark.is_some_and(|high| used > high) {
            self.pressure.notify_one();
        }
        fits
    }

    /// What has to go before so many more bytes of this registry fit.
    pub(in crate::store) fn shortage(&self, (authority, upstream): (&str, &str), more: u64) -> Shortage {
        let more = in_blocks(more);
        let disk = self.disk(more);
        self.shortage_of(&self.counts(), &disk, (authority, upstream), more)
    }

    /// Bytes that have to go before so many more fit, whoever brings them.
    pub(in crate::store) fn lack(&self, more: u64) -> u64 {
        let more = in_blocks(more);
        let used = self.counts().used().saturating_add(more);
        self.limits().max_size.map_or(0, |max| used.saturating_sub(max)).max(self.disk(more).lack)
    }

    pub(super) fn shortage_of(
        &self,
        counts: &Counts,
        disk: &Disk,
        (authority, upstream): (&str, &str),
        more: u64,
    ) -> Shortage {
        let used = counts.used().saturating_add(more);
        let over = self.limits.max_size.map_or(0, |max| used.saturating_sub(max));
        let all = Shortage { bytes: over.max(disk.lack), own_only: false };
        // What is not proven yet may push others out up to a share. Beyond that there has to be room, or own content goes.
        let unproven = counts.unproven_by.get(upstream).copied().unwrap_or(0).saturating_add(more);
        let on_disk =
            disk.free.map_or(u64::MAX, |free| counts.used().saturating_add(free).saturating_sub(self.limits.min_free));
        let room = self.limits.max_size.unwrap_or(u64::MAX).min(on_disk);
        if unproven <= room / SHARE || counts.recorded_of_others(authority) == 0 {
            return all;
        }
        let over_mark = self.limits.high_mark.map_or(0, |high| used.saturating_sub(high));
        let keeps_free = self.limits.min_free.saturating_add(self.limits.min_free / 20).max(on_disk / KEPT_FREE);
        let lack = disk.free.map_or(0, |free| keeps_free.saturating_add(more).saturating_sub(free));
        Shortage { bytes: over_mark.max(lack).max(all.bytes), own_only: true }
    }

    /// Whether all running downloads together and this one take no more than half of what would be free without them.
    pub(in crate::store) fn has_plenty(&self, size_bytes: u64) -> bool {
        let disk = self.disk(0);
        let counts = self.counts();
        let within = self.limits.high_mark.or(self.limits.max_size);
        let free = within.map_or(u64::MAX, |limit| limit.saturating_sub(counts.used()));
        let free = free.min(disk.free.map_or(u64::MAX, |free| free.saturating_sub(self.limits.min_free)));
        in_blocks(size_bytes).saturating_mul(2).saturating_add(counts.unproven()) <= free
    }

    /// Whether so many more bytes make nothing go, not even in the background.
    pub(in crate::store) fn has_room_to_spare(&self, more: u64) -> bool {
        let more = in_blocks(more);
        let used = self.counts().used().saturating_add(more);
        let within = self.limits.high_mark.or(self.limits.max_size);
        within.is_none_or(|limit| used <= limit) && self.disk(more).lack == 0
    }

    /// Whether the disk itself has so many bytes free.
    pub(in crate::store) fn has_on_disk(&self, size_bytes: u64) -> bool {
        self.free().is_none_or(|free| size_bytes <= free)
    }

    /// What a claim alone may have evicted where the disk is full. Bytes.
    pub(in crate::store) fn share(&self) -> u64 {
        self.counts().used().saturating_add(self.free().unwrap_or(0)) / SHARE
    }

    /// The disk, for so many more bytes.
    pub(super) fn disk(&self, more: u64) -> Disk {
        let free = self.free();
        let lack = if self.limits.min_free == 0 {
            0
        } else {
            free.map_or(0, |free| self.limits.min_free.saturating_add(more).saturating_sub(free))
        };
        Disk { free, lack }
    }

    /// Bytes free on the disk. One that cannot be asked is left to fail by itself.
    pub(super) fn free(&self) -> Option<u64> {
        let disk = rustix::fs::statvfs(&self.root).ok()?;
        Some(disk.f_bavail.saturating_mul(disk.f_frsize))
    }
}
