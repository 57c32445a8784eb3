//! Images are warmed here, carried to an island without a network, and pulled there; bundles of others come in, and ours are
//! read by others.

use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::clients::{Buildah, Client, Containerd, Docker, Podman, Skopeo, reference};
use crate::support::image::Image;
use crate::support::mirror::{Mirror, Transport};
use crate::support::registry::REPOSITORY;
use crate::support::upstreams::{HUB, SECURE, Upstreams};
use crate::support::{process, work_folder};

/// Nobody is there, and nobody is asked.
const ISLAND: &str = "[upstreams.\"docker.io\"]\nurl = \"http://127.0.0.1:9\"\noffline = true\n\n\
    [upstreams.\"secure.test\"]\nurl = \"http://127.0.0.1:9\"\noffline = true\n";

struct Story {
    folder: TempDir,
    upstreams: Upstreams,
    here: Mirror,
    island: Mirror,
}

impl Story {
    /// Everything is warmed here, and the network is gone.
    fn begin() -> Self {
        let folder = work_folder();
        let mut upstreams = Upstreams::start(folder.path());
        let here = Mirror::start(folder.path(), Transport::Plain, &upstreams.configuration());
        let away = folder.path().join("island");
        fs::create_dir(&away).expect("a work folder is writable");
        let island = Mirror::start(&away, Transport::Plain, ISLAND);
        let names: Vec<String> = upstreams
            .all()
            .iter()
            .flat_map(|upstream| upstream.images.iter().map(|image| reference(upstream.authority, image)))
            .collect();
        let mut arguments = vec!["warm"];
        arguments.extend(names.iter().map(String::as_str));
        let told = here.run(&arguments);
        assert_eq!(told.lines().filter(|line| line.starts_with("done")).count(), names.len(), "{told}");
        upstreams.stop();
        Self { folder, upstreams, here, island }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().expect("a plain name").to_owned()
    }

    fn images(&self) -> impl Iterator<Item = (&'static str, &Image)> {
        self.upstreams
            .all()
            .into_iter()
            .flat_map(|upstream| upstream.images.iter().map(|image| (upstream.authority, image)))
    }
}

fn pulls<C: Client>(story: &Story, machine: &str) {
    let client = C::set_up(story.folder.path(), machine, &story.island);
    for (authority, image) in story.images() {
        let digest = client.pull(authority, image);
        let native = &image.native().manifest.digest;
        assert!(digest == image.digest() || digest == *native, "{machine}: {authority} {}: {digest}", image.tag);
    }
}

#[test]
fn what_was_warmed_and_carried_is_pulled_on_an_island_by_every_client() {
    let story = Story::begin();
    let bundle = story.path("bundle.tar");
    story.here.run(&["export", "--all", "--platform", "all", "--output", &bundle]);
    let told = story.island.run(&["import", &bundle]);
    assert_eq!(told.lines().filter(|line| line.starts_with("done")).count(), 4, "{told}");
    pulls::<Containerd>(&story, "containerd");
    pulls::<Podman>(&story, "podman");
    pulls::<Docker>(&story, "docker");
    pulls::<Skopeo>(&story, "skopeo");
}

#[test]
fn bundles_are_read_by_skopeo_containerd_and_podman() {
    let story = Story::begin();
    let (bundle, layout) = (story.path("bundle.tar"), story.path("layout"));
    let single = format!("{SECURE}/{REPOSITORY}:1");
    story.here.run(&["export", "--output", &bundle, &single]);
    story.here.run(&["export", "--output", &layout, &single, &format!("{SECURE}/{REPOSITORY}:multi")]);
    let image = &story.upstreams.secure.images[0];

    let skopeo = Skopeo::set_up(story.folder.path(), "skopeo", &story.here);
    let told = skopeo.run(&["inspect", &format!("oci:{layout}:{single}")]);
    assert!(told.contains(image.digest()), "{told}");
    skopeo.run(&[
        "copy",
        "--all",
        &format!("oci:{layout}:{SECURE}/{REPOSITORY}:multi"),
        &format!("dir:{}", story.path("copy")),
    ]);
    let told = skopeo.run(&["inspect", &format!("oci-archive:{bundle}:{single}")]);
    assert!(told.contains(image.digest()), "{told}");

    let containerd = Containerd::set_up(story.folder.path(), "containerd", &story.here);
    process::run(
        "ctr",
        containerd.folder(),
        containerd.ctr().args(["images", "import", "--snapshotter", "native", &bundle]),
    );
    let told =
        process::run("ctr", containerd.folder(), containerd.ctr().args(["images", "ls", &format!("name=={single}")]));
    assert!(told.contains(image.digest()), "{told}");

    let podman = Podman::set_up(story.folder.path(), "podman", &story.here);
    process::run("podman", podman.folder(), podman.podman().args(["load", "--input", &bundle]));
    process::run("podman", podman.folder(), podman.podman().args(["image", "exists", &single]));
}

#[test]
fn bundles_of_skopeo_and_podman_come_in() {
    let story = Story::begin();
    let skopeo = Skopeo::set_up(story.folder.path(), "skopeo", &story.here);
    let source = format!("docker://{SECURE}/{REPOSITORY}:1");
    let image = &story.upstreams.secure.images[0];
    let podman = Podman::set_up(story.folder.path(), "podman", &story.here);
    podman.pull(SECURE, image);
    let name = format!("{SECURE}/{REPOSITORY}:1");
    let mut made = vec![];
    for (kind, tag) in [("oci", "1"), ("oci-archive", "1"), ("docker-archive", "made"), ("dir", "")] {
        let file = story.path(kind);
        let target = match tag {
            "" => format!("{kind}:{file}"),
            "made" => format!("{kind}:{file}:{HUB}/made/by:skopeo"),
            tag => format!("{kind}:{file}:{tag}"),
        };
        skopeo.run(&["copy", &source, &target]);
        made.push((kind, file));
    }
    let saved = story.path("saved");
    process::run(
        "podman",
        podman.folder(),
        podman.podman().args(["save", "--format", "docker-archive", "--output", &saved, &name]),
    );
    made.push(("podman-save", saved));
    for (kind, file) in &made {
        let to = format!("{HUB}/foreign/{kind}:x");
        let told = story.island.run(&["import", file, "--as", &to]);
        assert!(told.starts_with("done"), "{kind}: {told}");
        let told = Skopeo::set_up(story.folder.path(), &format!("skopeo-{kind}"), &story.island).run(&[
            "inspect",
            "--no-tags",
            &format!("docker://{to}"),
        ]);
        // Archives of `docker save` have other layers than registries: unpacked ones.
        let is_same = matches!(*kind, "oci" | "oci-archive" | "dir");
        assert_eq!(told.contains(image.digest()), is_same, "{kind}: {told}");
        let machine = Podman::set_up(story.folder.path(), &format!("podman-{kind}"), &story.island);
        process::run("podman", machine.folder(), machine.podman().args(["pull", &to]));
    }
    gzipped(&story, &made[2].1);
}

#[test]
fn docker_loads_a_bundle_and_what_it_saves_comes_in() {
    let story = Story::begin();
    let (bundle, saved) = (story.path("bundle.tar"), story.path("saved.tar"));
    let image = &story.upstreams.hub.images[0];
    let name = reference(HUB, image);
    story.here.run(&["export", "--output", &bundle, &name]);
    let docker = Docker::set_up(story.folder.path(), "docker", &story.here);
    let told = process::run("docker", docker.folder(), docker.docker().args(["load", "--input", &bundle]));
    assert!(told.contains("Loaded image"), "{told}");
    let id = |machine: &Docker, of: &str| {
        let mut inspect = machine.docker();
        inspect.args(["image", "inspect", "--format", "{{.Id}}", of]);
        process::run("docker", machine.folder(), &mut inspect).trim().to_owned()
    };
    let loaded = id(&docker, &name);
    process::run("docker", docker.folder(), docker.docker().args(["save", "--output", &saved, &name]));
    let to = format!("{HUB}/saved/by-docker:x");
    let told = story.island.run(&["import", &saved, "--as", &to]);
    assert!(told.starts_with("done"), "{told}");
    let there = Docker::set_up(story.folder.path(), "docker-there", &story.island);
    process::run("docker", there.folder(), there.docker().args(["pull", &to]));
    assert_eq!(id(&there, &to), loaded, "it is the same image");
    let podman = Podman::set_up(story.folder.path(), "podman", &story.island);
    process::run("podman", podman.folder(), podman.podman().args(["pull", &to]));
}

#[test]
fn what_buildah_pushes_into_an_archive_comes_in() {
    let story = Story::begin();
    let image = &story.upstreams.secure.images[0];
    let buildah = Buildah::set_up(story.folder.path(), "buildah", &story.here);
    buildah.pull(SECURE, image);
    let name = reference(SECURE, image);
    let (named, unnamed) = (story.path("named.tar"), story.path("unnamed.tar"));
    for (archive, target) in [(&named, format!("{named}:{HUB}/made/by-buildah:1")), (&unnamed, unnamed.clone())] {
        let mut push = buildah.buildah();
        push.args(["push", &name, &format!("oci-archive:{target}")]);
        process::run("buildah", buildah.folder(), &mut push);
        assert!(Path::new(archive).exists());
    }
    let told = story.island.run(&["import", &named]);
    assert!(told.starts_with(&format!("done     {HUB}/made/by-buildah:1")), "{told}");
    let to = format!("{SECURE}/made/by-buildah:2");
    let told = story.island.run(&["import", &unnamed, "--as", &to]);
    assert!(told.starts_with(&format!("done     {to}")), "{told}");
    let podman = Podman::set_up(story.folder.path(), "podman", &story.island);
    for name in [&format!("{HUB}/made/by-buildah:1"), &to] {
        process::run("podman", podman.folder(), podman.podman().args(["pull", name]));
    }
}

/// The archive of `docker save` in gzip, on standard input, under the name it brings.
fn gzipped(story: &Story, archive: &str) {
    let mut import = story.island.command(&["import", "-"]);
    let program = import.get_program().to_owned();
    let arguments: Vec<_> = import.get_args().map(ToOwned::to_owned).collect();
    import = Command::new("sh");
    import
        .args(["-c", "archive=$1; shift; gzip --stdout \"$archive\" | \"$@\"", "sh", archive])
        .arg(program)
        .args(arguments);
    let told = process::run("import", Path::new(&story.path("")), &mut import);
    assert!(told.contains(&format!("{HUB}/made/by:skopeo")), "{told}");
}
