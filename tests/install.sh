#!/bin/sh
# Installs the programs that tests/real/ runs: Debian packages; two that go builds (1.24 or later, as in Debian 13);
# schemathesis, from PyPI; and axe-core, which tests/real/page.rs judges the page with. Does little when all are there.
set -eu

packages="apache2-utils buildah chromium containerd curl docker.io docker-registry gcc-aarch64-linux-gnu libc6-dev-arm64-cross nginx podman prometheus python3-venv qemu-user runc skopeo systemd"

missing=""
for package in $packages; do
    case "$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null || true)" in
        installed) ;;
        *) missing="$missing $package" ;;
    esac
done
command -v go >/dev/null || missing="$missing golang-go"

if [ -n "$missing" ]; then
    if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
        echo "tests/install.sh: these Debian packages are missing, and only root may install them:$missing" >&2
        exit 1
    fi
    # The tests start each daemon themselves: the packages must not.
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        trap 'rm -f "$policy"' EXIT
        trap 'exit 1' HUP INT TERM
        printf '#!/bin/sh\nexit 101\n' > "$policy"
        chmod 755 "$policy"
    fi

    export DEBIAN_FRONTEND=noninteractive
    apt-get update --quiet
    # Package names have no spaces: splitting is meant.
    # shellcheck disable=SC2086
    apt-get install --yes --quiet --no-install-recommends $missing
fi

# What Debian does not have, built by go in a few minutes: helm, and what knows the types of Kubernetes, OpenShift and k3s.
command -v helm >/dev/null || GOBIN=/usr/local/bin go install helm.sh/helm/v3/cmd/helm@v3.18.4
(cd tests/schemas && go build -o /usr/local/bin/roadstead-schemas .)

# In a place of its own, of this version: another one may find other things.
schemathesis=4.32.5
venv=/opt/roadstead-tests/schemathesis
has_schemathesis=$("$venv/bin/python3" -c "from importlib.metadata import version; print(version('schemathesis'))" 2>/dev/null || true)
if [ "$has_schemathesis" != "$schemathesis" ]; then
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check "schemathesis==$schemathesis"
fi

# The script of accessibility rules: one file of an npm package, which needs neither npm nor node.
axe=/usr/local/share/roadstead-tests/axe-4.14.1.min.js
axe_url=https://registry.npmjs.org/axe-core/-/axe-core-4.14.1.tgz
axe_sha256=e6b0ce02b84d892e2e33e403485e7f3d6c29e2be6df65daf44d89ba564139745
if [ ! -e "$axe" ]; then
    archive=$(mktemp)
    curl --silent --show-error --fail --location --retry 3 --output "$archive" "$axe_url"
    echo "$axe_sha256  $archive" | sha256sum --check --quiet
    mkdir -p "${axe%/*}"
    tar --extract --gzip --to-stdout --file "$archive" package/axe.min.js > "$axe.new"
    mv "$axe.new" "$axe"
    rm -f "$archive"
fi
