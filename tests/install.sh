#!/bin/sh
# Installs the programs that tests/real/ runs: Debian packages, and two that go builds. Does nothing when all are there.
set -eu

packages="apache2-utils buildah containerd curl docker.io docker-registry nginx podman prometheus runc skopeo"

missing=""
for package in $packages; do
    case "$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null || true)" in
        installed) ;;
        *) missing="$missing $package" ;;
    esac
done
# What Debian does not have, built by go: helm, and what knows the types of Kubernetes, OpenShift and k3s.
build_with_go() {
    if ! command -v go >/dev/null; then
        echo "tests/install.sh: go is missing, which builds helm and tests/schemas" >&2
        exit 1
    fi
    command -v helm >/dev/null || GOBIN=/usr/local/bin go install helm.sh/helm/v3/cmd/helm@v3.18.4
    (cd tests/schemas && go build -o /usr/local/bin/roadstead-schemas .)
}

[ -n "$missing" ] || { build_with_go; exit 0; }

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
