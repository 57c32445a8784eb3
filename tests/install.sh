#!/bin/sh
# Installs the programs that tests/real/ runs: Debian packages, and two that go builds (1.24 or later, as in Debian 13).
set -eu

packages="apache2-utils buildah containerd curl docker.io docker-registry nginx podman prometheus runc skopeo"

missing=""
for package in $packages; do
    case "$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null || true)" in
        installed) ;;
        *) missing="$missing $package" ;;
    esac
done
command -v go >/dev/null || missing="$missing golang-go"

# What Debian does not have, built by go in a few minutes: helm, and what knows the types of Kubernetes, OpenShift and k3s.
build_with_go() {
    command -v helm >/dev/null || GOBIN=/usr/local/bin go install helm.sh/helm/v3/cmd/helm@v3.18.4
    (cd tests/schemas && go build -o /usr/local/bin/roadstead-schemas .)
}

if [ -z "$missing" ]; then
    build_with_go
    exit 0
fi

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
build_with_go
