//! Roadstead between real programs: registries in front of which it stands, and the clients that pull through it.
//!
//! Each test has machines of its own: folders under `/tmp`, ports from the system, a private `/etc`. So they may run
//! side by side. They need root (private mounts, unpacking layers) and the Debian packages in `tests/install.sh`;
//! a missing program fails a test, since a skipped promise looks like a kept one.

#![expect(clippy::panic, clippy::print_stderr, reason = "the harness fails tests and shows what programs wrote")]

mod access;
mod api;
mod carry;
mod charts;
mod client_config;
mod clients;
mod crash;
mod debian;
mod kept_connections;
mod outages;
mod page;
mod partial_pulls;
mod prometheus;
mod pulls;
mod static_image;
mod support;
mod versions;
