# `just` is in Debian from 13 on (`apt-get install just`), and `cargo install --locked just` builds it anywhere.
# Nothing depends on it: each recipe is one command that also works by itself.

# The recipes
[private]
default:
    @just --list --unsorted

# Format, lints, licenses of what is used, pages of the source
check:
    .ci/check

# Unit, scripted and fuzz tests: without root, in less than two minutes once compiled
test *ARGS:
    tests/run.sh quick {{ARGS}}

# A disk that fails on demand, and what else only root may do (root, /dev/fuse)
test-disk *ARGS:
    tests/run.sh disk {{ARGS}}

# Real registries and real clients (root; installs Debian packages)
test-clients *ARGS:
    tests/run.sh clients {{ARGS}}

# All tests (root)
test-all *ARGS:
    tests/run.sh all {{ARGS}}

# A benchmark: hit, small, cold, herd, tls, many, compare, scale, … (benches/README.md)
bench NAME *ARGS:
    cargo bench --locked --bench pull -- {{NAME}} {{ARGS}}
