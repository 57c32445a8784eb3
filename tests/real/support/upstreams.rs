//! The two registries of the stories: other people's names, one repository and one tag in both, different images.

use std::fs;
use std::path::{Path, PathBuf};

use super::image::{Dialect, Image};
use super::registry::{Asked, PASSWORD, Registry, USER};

/// Open to all, in Docker's media types, as Docker Hub is.
pub(crate) const HUB: &str = "docker.io";
/// TLS by a private authority and a password, in OCI media types, as a company's own registry is.
pub(crate) const SECURE: &str = "secure.test";

pub(crate) struct Upstreams {
    pub(crate) hub: Upstream,
    pub(crate) secure: Upstream,
    password_file: PathBuf,
}

/// A registry, the authority it stands for, and what it holds.
pub(crate) struct Upstream {
    pub(crate) authority: &'static str,
    pub(crate) registry: Registry,
    pub(crate) images: Vec<Image>,
}

impl Upstreams {
    pub(crate) fn start(parent: &Path) -> Self {
        let password_file = parent.join("password");
        fs::write(&password_file, PASSWORD).expect("a work folder is writable");
        let hub = Upstream::start(parent, HUB, Registry::open(parent), Dialect::Docker);
        let secure = Upstream::start(parent, SECURE, Registry::guarded(parent), Dialect::Oci);
        for (one, other) in hub.images.iter().zip(&secure.images) {
            assert_eq!(one.tag, other.tag);
            assert_ne!(one.digest(), other.digest(), "the stories tell nothing if both hold the same image");
        }
        Self { hub, secure, password_file }
    }

    pub(crate) fn all(&self) -> [&Upstream; 2] {
        [&self.hub, &self.secure]
    }

    pub(crate) fn stop(&mut self) {
        self.hub.registry.stop();
        self.secure.registry.stop();
    }

    /// Roadstead's configuration for them.
    pub(crate) fn configuration(&self) -> String {
        let certificate = self.secure.registry.certificate.as_ref().expect("this one speaks TLS");
        format!(
            "[upstreams.\"{HUB}\"]\n\
             url = \"{}\"\n\n\
             [upstreams.\"{SECURE}\"]\n\
             url = \"{}\"\n\
             ca = \"{}\"\n\
             username = \"{USER}\"\n\
             password_file = \"{}\"\n",
            self.hub.registry.url(),
            self.secure.registry.url(),
            certificate.authority.display(),
            self.password_file.display(),
        )
    }
}

impl Upstream {
    fn start(folder: &Path, authority: &'static str, registry: Registry, dialect: Dialect) -> Self {
        let images = vec![
            Image::single(folder, dialect, "1", &format!("{authority} single")),
            Image::index(folder, dialect, "multi", &format!("{authority} multi")),
        ];
        for image in &images {
            registry.push(image);
        }
        Self { authority, registry, images }
    }

    /// Every request that asked for content.
    pub(crate) fn fetched(&self) -> Vec<Asked> {
        self.registry.asked().into_iter().filter(Asked::fetched).collect()
    }

    /// How often it was asked whether a tag is still current.
    pub(crate) fn tag_checks(&self) -> usize {
        self.registry.asked().iter().filter(|asked| asked.checked_a_tag()).count()
    }
}
