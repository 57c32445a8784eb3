//! Where the programs under test are, and which Debian package has them when they are not.

use std::env;
use std::path::PathBuf;

const PACKAGES: &[(&str, &str)] = &[
    ("buildah", "buildah"),
    ("chromium", "chromium"),
    ("containerd", "containerd"),
    ("ctr", "containerd"),
    ("curl", "curl"),
    ("docker", "docker.io"),
    ("docker-registry", "docker-registry"),
    ("dockerd", "docker.io"),
    ("dpkg", "dpkg"),
    ("gzip", "gzip"),
    ("helm", "none: go builds it"),
    ("htpasswd", "apache2-utils"),
    ("nginx", "nginx"),
    ("podman", "podman"),
    ("prometheus", "prometheus"),
    ("promtool", "prometheus"),
    ("qemu-aarch64", "qemu-user"),
    ("roadstead-schemas", "none: go builds it"),
    ("schemathesis", "python3-venv"),
    ("setpriv", "util-linux"),
    ("sh", "dash"),
    ("skopeo", "skopeo"),
    ("systemd-analyze", "systemd"),
    ("tar", "tar"),
    ("unshare", "util-linux"),
];

/// Where tests/install.sh puts what Debian does not have.
const FROM_PYPI: &str = "/opt/roadstead-tests/schemathesis/bin";

/// The full path of a program of `PACKAGES`.
pub(crate) fn find(name: &str) -> PathBuf {
    let (_, package) =
        PACKAGES.iter().find(|(program, _)| *program == name).expect("every program used is in PACKAGES");
    let path = env::var_os("PATH").unwrap_or_default();
    // Debian's own come first, so that all machines test the same ones.
    [PathBuf::from("/usr/sbin"), PathBuf::from("/usr/bin"), PathBuf::from(FROM_PYPI)]
        .into_iter()
        .chain(env::split_paths(&path))
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
        .unwrap_or_else(|| panic!("{name} is missing: install the Debian package {package} (tests/install.sh does)"))
}
