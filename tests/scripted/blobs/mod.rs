//! Fills, readers, ranges, resume, grants: what is promised about a blob.

mod coalescing;
