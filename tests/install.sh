#!/bin/sh
# Installs the Debian packages whose programs tests/real/ runs. Does nothing when all are there.
set -eu

packages="apache2-utils buildah containerd curl docker.io docker-registry nginx podman runc skopeo"

missing=""
for package in $packages; do
    case "$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null || true)" in
        installed) ;;
        *) missing="$missing $package" ;;
    esac
done
[ -n "$missing" ] || exit 0

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
