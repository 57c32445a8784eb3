//! Every client pulls images of one name and one tag from two registries, again for nothing, and again from nobody.

use std::path::Path;
use std::time::Duration;

use crate::clients::{Buildah, Client, Containerd, Docker, Podman, Skopeo};
use crate::support::image::Image;
use crate::support::mirror::{Mirror, Transport};
use crate::support::upstreams::{Upstream, Upstreams};
use crate::support::{wait, work_folder};

#[test]
fn containerd_pulls_from_two_registries_by_ns_and_again_while_both_are_down() {
    three_machines_pull::<Containerd>(Transport::Plain);
}

#[test]
fn containerd_does_so_over_the_mirrors_own_tls() {
    three_machines_pull::<Containerd>(Transport::Tls);
}

#[test]
fn dockerd_pulls_by_registry_mirror_and_by_path_and_again_while_both_are_down() {
    three_machines_pull::<Docker>(Transport::Plain);
}

#[test]
fn dockerd_does_so_over_the_mirrors_own_tls() {
    three_machines_pull::<Docker>(Transport::Tls);
}

#[test]
fn podman_pulls_from_two_registries_by_path_and_again_while_both_are_down() {
    three_machines_pull::<Podman>(Transport::Plain);
}

#[test]
fn podman_does_so_over_the_mirrors_own_tls() {
    three_machines_pull::<Podman>(Transport::Tls);
}

#[test]
fn buildah_pulls_from_two_registries_by_path_and_again_while_both_are_down() {
    three_machines_pull::<Buildah>(Transport::Plain);
}

#[test]
fn buildah_does_so_over_the_mirrors_own_tls() {
    three_machines_pull::<Buildah>(Transport::Tls);
}

#[test]
fn skopeo_copies_every_platform_and_every_bit_and_again_while_both_are_down() {
    three_machines_pull::<Skopeo>(Transport::Plain);
}

#[test]
fn skopeo_does_so_over_the_mirrors_own_tls() {
    three_machines_pull::<Skopeo>(Transport::Tls);
}

/// The first machine fills the mirror, the second costs the registries no content, the third comes while they are down.
fn three_machines_pull<C: Client>(transport: Transport) {
    let folder = work_folder();
    let folder = folder.path();
    let mut upstreams = Upstreams::start(folder);
    let mirror = Mirror::start(folder, transport, &upstreams.configuration());

    a_new_machine_pulls_everything::<C>(folder, "m1", &mirror, &upstreams);
    let before = upstreams.all().map(|upstream| {
        wait_for_all_blobs::<C>(upstream);
        (upstream.fetched(), upstream.tag_checks())
    });

    a_new_machine_pulls_everything::<C>(folder, "m2", &mirror, &upstreams);
    upstreams.stop();
    for (upstream, (fetched, tag_checks)) in upstreams.all().into_iter().zip(before) {
        let authority = upstream.authority;
        assert_eq!(upstream.fetched(), fetched, "the second pull fetched from {authority} again");
        assert!(upstream.tag_checks() > tag_checks, "nobody asked {authority} whether its tags are still current");
    }

    a_new_machine_pulls_everything::<C>(folder, "m3", &mirror, &upstreams);
}

fn a_new_machine_pulls_everything<C: Client>(folder: &Path, name: &str, mirror: &Mirror, upstreams: &Upstreams) {
    let client = C::set_up(folder, name, mirror);
    for upstream in upstreams.all() {
        for image in &upstream.images {
            let digest = client.pull(upstream.authority, image);
            assert_eq!(digest, image.digest(), "machine {name}: {} {}", upstream.authority, image.tag);
        }
    }
}

/// A registry logs a request after answering it, so its log may lag behind the pull that has just ended. The blobs are
/// what a pull asks for last.
fn wait_for_all_blobs<C: Client>(upstream: &Upstream) {
    let wanted = |image: &Image| -> Vec<String> {
        let variants = if C::EVERY_PLATFORM { image.variants.as_slice() } else { std::slice::from_ref(image.native()) };
        variants.iter().flat_map(|variant| &variant.blobs).map(|blob| blob.digest.clone()).collect()
    };
    let wanted: Vec<String> = upstream.images.iter().flat_map(wanted).collect();
    wait::until(&format!("{} to have served every blob", upstream.authority), Duration::from_secs(30), || {
        let fetched = upstream.fetched();
        wanted.iter().all(|digest| fetched.iter().any(|asked| asked.path.contains(digest))).then_some(())
    });
}
