#!/bin/sh
# The lanes of the tests. Installs what a lane needs. What follows the lane goes to `cargo test`.
#
#   tests/run.sh             all of them, as root
#   tests/run.sh quick       what needs no root
#   tests/run.sh disk        a disk that fails on demand, and what else only root may do: root, /dev/fuse
#   tests/run.sh clients     real registries and real clients: root, Debian packages
set -eu
cd "$(dirname "$0")/.."

# The scripted tests wait for most of their time: two at a time on each core.
scripted_threads=${RUST_TEST_THREADS:-$(($(nproc) * 2))}

needs_root() {
    if [ "$(id -u)" -ne 0 ]; then
        echo "tests/run.sh: run this as root: $1. Without root: tests/run.sh quick" >&2
        exit 1
    fi
}

needs_disk() {
    needs_root "the tests mount file systems"
    if [ ! -c /dev/fuse ]; then
        echo "tests/run.sh: the tests mount file systems by /dev/fuse, which is not here (docker run --device /dev/fuse)" >&2
        exit 1
    fi
}

# What the tests make an image of. It has no debuginfo, and so a third of its size.
static_binaries() {
    for target in x86_64-unknown-linux-musl aarch64-unknown-linux-musl; do
        rustup target add "$target"
        CARGO_PROFILE_DEV_DEBUG=0 cargo build --locked --target "$target"
    done
}

needs_clients() {
    needs_root "the tests start containerd and dockerd, each in mounts of its own"
    tests/install.sh
    static_binaries
}

quick() {
    cargo test --locked --lib --bins --test fuzz "$@"
    cargo test --locked --doc "$@"
    RUST_TEST_THREADS=$scripted_threads cargo test --locked --test scripted "$@" -- --skip as_root::
}

disk() {
    RUST_TEST_THREADS=$scripted_threads cargo test --locked --test scripted "$@" -- as_root::
}

clients() {
    cargo test --locked --test real "$@"
}

lane=all
case "${1:-}" in
    quick | disk | clients | all)
        lane=$1
        shift
        ;;
esac
case $lane in
    quick)
        quick "$@"
        ;;
    disk)
        needs_disk
        disk "$@"
        ;;
    clients)
        needs_clients
        clients "$@"
        ;;
    all)
        needs_disk
        needs_clients
        quick "$@"
        disk "$@"
        clients "$@"
        ;;
esac
