//! The systemd unit and the Debian package, by systemd's and Debian's own programs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{process, program, work_folder};

fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// By `systemd-analyze security`: from 0, which is safe, to 10.
fn exposure(folder: &Path, unit: &Path) -> f64 {
    let mut command = process::command(program::find("systemd-analyze"));
    command.args(["security", "--offline=true", "--no-pager"]).arg(unit);
    let (_, told) = process::told("systemd-analyze", folder, &mut command);
    assert!(!told.contains("Unknown") && !told.contains("Failed"), "{told}");
    let figure = told.lines().find_map(|line| line.split_once("Overall exposure level for roadstead.service: "));
    let figure = figure.and_then(|(_, rest)| rest.split(' ').next()?.parse().ok());
    figure.unwrap_or_else(|| panic!("no figure in {told}"))
}

#[test]
fn the_unit_is_no_more_exposed_than_the_page_says() {
    let page = fs::read_to_string(shipped("deploy/README.md")).expect("the page is shipped");
    let (_, rest) = page.split_once("`systemd-analyze security` calls its exposure ").expect("the page has a figure");
    let promised: f64 = rest.split(' ').next().and_then(|figure| figure.parse().ok()).expect("the figure is a number");
    let folder = work_folder();
    let measured = exposure(folder.path(), &shipped("deploy/systemd/roadstead.service"));
    assert!(measured <= promised, "{measured} is more than {promised}");
}

/// dpkg below a folder: nothing of this machine is changed.
struct Root {
    folder: tempfile::TempDir,
}

impl Root {
    fn new() -> Self {
        let folder = work_folder();
        let database = folder.path().join("root/var/lib/dpkg");
        for name in ["info", "updates"] {
            fs::create_dir_all(database.join(name)).expect("a work folder is writable");
        }
        fs::write(database.join("status"), "").expect("a work folder is writable");
        Self { folder }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join("root").join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.file(name)).unwrap_or_else(|err| panic!("{name}: {err}"))
    }

    fn dpkg(&self, arguments: &[&str]) {
        let mut command = process::command(program::find("dpkg"));
        command.arg(format!("--root={}", self.folder.path().join("root").display()));
        command.args(["--force-depends", "--force-script-chrootless", "--force-confold"]);
        process::run("dpkg", self.folder.path(), command.args(arguments));
    }
}

#[test]
fn the_package_brings_unit_user_and_configuration_and_keeps_what_an_operator_changed() {
    let root = Root::new();
    let package = root.folder.path().join("roadstead.deb").display().to_string();
    let mut build = process::command(shipped("deploy/debian/build"));
    build.args([env!("CARGO_BIN_EXE_roadstead"), &package]).env("TMPDIR", root.folder.path());
    // xz takes a minute for it.
    build.env("DPKG_DEB_COMPRESSOR_TYPE", "gzip").env("DPKG_DEB_COMPRESSOR_LEVEL", "1");
    process::run("build", root.folder.path(), &mut build);

    root.dpkg(&["--install", &package]);
    assert!(root.read("etc/passwd").lines().any(|line| line.starts_with("roadstead:")));
    let unit = root.read("usr/lib/systemd/system/roadstead.service");
    let start = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).expect("the unit starts something");
    let mut words = start.split(' ').map(|word| word.trim_start_matches('/'));
    let (binary, config) = (words.next().expect("it names a program"), words.next_back().expect("and a file"));
    let mut check = Command::new(root.file(binary));
    check.args(["check-config", "--config"]).arg(root.file(config));
    process::run("check-config", root.folder.path(), &mut check);
    let installed = root.file("usr/lib/systemd/system/roadstead.service");
    let shipped_unit = shipped("deploy/systemd/roadstead.service");
    let folder = root.folder.path();
    assert!(exposure(folder, &installed) <= exposure(folder, &shipped_unit), "the package's unit is weaker");
    assert!(root.file("usr/share/man/man1/roadstead-doctor.1.gz").is_file());
    assert!(root.read("usr/share/bash-completion/completions/roadstead").contains("client-config"));

    fs::write(root.file(config), "# ours\n").expect("the operator changes it");
    root.dpkg(&["--install", &package]);
    assert_eq!(root.read(config), "# ours\n");
    let storage = root.file("var/lib/roadstead");
    fs::create_dir_all(&storage).expect("the unit makes it");
    root.dpkg(&["--remove", "roadstead"]);
    assert!(!root.file(binary).exists() && root.file(config).exists());
    root.dpkg(&["--purge", "roadstead"]);
    assert!(!root.file(config).exists() && storage.exists());
}
