#!/bin/sh
# Installs what the tests need, and runs all of them. Arguments go to `cargo test`.
set -eu
cd "$(dirname "$0")/.."

if [ "$(id -u)" -ne 0 ]; then
    echo "tests/run.sh: run this as root: the tests start containerd and dockerd, each in mounts of its own" >&2
    exit 1
fi
tests/install.sh
exec cargo test --locked "$@"
