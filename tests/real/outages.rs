//! What clients get of an image that the mirror holds in part, or got in an unusual way, while its registry is away.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::clients::{Buildah, Client, Containerd, Docker, Podman, Skopeo};
use crate::support::image::{Dialect, Image};
use crate::support::mirror::{Mirror, Transport};
use crate::support::registry::{REPOSITORY, Registry};
use crate::support::upstreams::{HUB, SECURE};
use crate::support::{curl, wait, work_folder};

const LIMIT: Duration = Duration::from_secs(30);

#[test]
fn containerd_gets_a_layer_in_an_outage_that_nobody_asked_for_in_that_repository() {
    a_layer_that_the_first_machine_had_is_there_for_the_second::<Containerd>();
}

#[test]
fn dockerd_gets_a_layer_in_an_outage_that_nobody_asked_for_in_that_repository() {
    a_layer_that_the_first_machine_had_is_there_for_the_second::<Docker>();
}

#[test]
fn podman_gets_a_layer_in_an_outage_that_nobody_asked_for_in_that_repository() {
    a_layer_that_the_first_machine_had_is_there_for_the_second::<Podman>();
}

/// The first machine has the base layer from another registry's image, so that it does not ask for it.
fn a_layer_that_the_first_machine_had_is_there_for_the_second<C: Client>() {
    let folder = work_folder();
    let folder = folder.path();
    let (mut hub, mut secure) = (open(folder, "hub"), open(folder, "secure"));
    let base = Image::single(folder, Dialect::Docker, "1", "base");
    let app = Image::above(folder, Dialect::Docker, "1", "app", "base");
    let first_layer = |image: &Image| image.native().blobs.get(1).map(|layer| layer.digest.clone());
    let shared = first_layer(&app).expect("an image has layers");
    assert_eq!(first_layer(&base).as_ref(), Some(&shared));
    hub.push(&base);
    secure.push(&app);
    let upstreams = [(HUB, &hub), (SECURE, &secure)].map(|(name, registry)| upstream(name, registry)).concat();
    let mirror = Mirror::start(folder, Transport::Plain, &upstreams);
    let first = C::set_up(folder, "m1", &mirror);
    for (authority, image) in [(HUB, &base), (SECURE, &app)] {
        assert_eq!(first.pull(authority, image), image.digest());
    }
    wait::until("the layer to be proved in the second registry", LIMIT, || {
        secure.asked().iter().any(|asked| asked.path.contains(&shared)).then_some(())
    });
    wait::until("the image to be whole", LIMIT, || {
        let url = format!("http://{}/v2/{SECURE}/{REPOSITORY}/blobs/{shared}", mirror.address());
        let answer = curl::ask(folder, &["--head", &url])?;
        answer.header("cache-status").is_some_and(|status| status.contains("hit")).then_some(())
    });
    hub.stop();
    secure.stop();
    assert_eq!(C::set_up(folder, "m2", &mirror).pull(SECURE, &app), app.digest());
}

#[test]
fn podman_goes_to_the_registry_itself_for_an_image_that_the_mirror_cannot_give_whole() {
    what_is_not_whole_is_pulled_elsewhere::<Podman>();
}

#[test]
fn buildah_goes_to_the_registry_itself_for_an_image_that_the_mirror_cannot_give_whole() {
    what_is_not_whole_is_pulled_elsewhere::<Buildah>();
}

#[test]
fn skopeo_goes_to_the_registry_itself_for_an_image_that_the_mirror_cannot_give_whole() {
    what_is_not_whole_is_pulled_elsewhere::<Skopeo>();
}

/// These clients never leave a mirror that has given them a manifest. The mirror has lost its way to the registry; the
/// client has not.
fn what_is_not_whole_is_pulled_elsewhere<C: Client>() {
    let folder = work_folder();
    let folder = folder.path();
    let (mut behind, itself) = (open(folder, "behind"), open(folder, "itself"));
    let image = Image::index(folder, Dialect::Docker, "multi", "not whole");
    behind.push(&image);
    itself.push(&image);
    let authority = "itself.test";
    let upstream = upstream(authority, &behind) + "complete = \"off\"\n";
    let mirror = Mirror::start(folder, Transport::Plain, &upstream);
    let manifests = image.manifests().map(|manifest| manifest.digest.as_str()).chain([image.tag]);
    for reference in manifests {
        let url = format!("http://{}/v2/{authority}/{REPOSITORY}/manifests/{reference}", mirror.address());
        assert_eq!(curl::ask(folder, &[&url]).map(|answer| answer.status), Some(200), "{reference}");
    }
    behind.stop();

    let client = C::set_up(folder, "m1", &mirror);
    let itself_too = format!(
        "[[registry]]\nprefix = \"{authority}\"\nlocation = \"{}\"\ninsecure = true\n\
         [[registry.mirror]]\nlocation = \"{}/{authority}\"\ninsecure = true\n",
        itself.url().trim_start_matches("http://"),
        mirror.address()
    );
    fs::write(folder.join("m1/etc/containers/registries.conf.d/itself.conf"), itself_too).expect("it is there");
    assert_eq!(client.pull(authority, &image), image.digest());
    assert!(itself.asked().iter().any(|asked| asked.path.contains("/blobs/")), "the registry itself was not asked");
}

fn open(parent: &Path, name: &str) -> Registry {
    let folder = parent.join(name);
    fs::create_dir(&folder).expect("a work folder is writable");
    Registry::open(&folder)
}

fn upstream(name: &str, registry: &Registry) -> String {
    format!("[upstreams.\"{name}\"]\nurl = \"{}\"\n\n", registry.url())
}
