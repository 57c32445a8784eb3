//! A certificate that all servers of a run have.

use std::fs;
use std::path::{Path, PathBuf};

use rustls::RootCertStore;

use crate::support::upstream::TestCa;

pub(crate) struct Secure {
    /// PEM files, for `127.0.0.1`.
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    /// Who trusts these trusts the certificate.
    pub(crate) roots: RootCertStore,
}

impl Secure {
    pub(crate) fn new(folder: &Path) -> Self {
        fs::create_dir(folder).expect("the certificate's folder is new");
        let ca = TestCa::new();
        let identity = ca.server(&["127.0.0.1"]);
        let (certificate, key) = (folder.join("tls.crt"), folder.join("tls.key"));
        fs::write(&certificate, identity.certificate).expect("the certificate's folder is writable");
        fs::write(&key, identity.key).expect("the certificate's folder is writable");
        Self { certificate, key, roots: ca.roots() }
    }
}
