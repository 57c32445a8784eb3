//! A private certificate authority, as sites have them.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

/// Certificates and keys of a server and of a node, and the authority that signed them, as PEM files.
pub(crate) struct Certificate {
    pub(crate) authority: PathBuf,
    pub(crate) chain: PathBuf,
    pub(crate) key: PathBuf,
    pub(crate) node_chain: PathBuf,
    pub(crate) node_key: PathBuf,
}

impl Certificate {
    /// Makes an authority and a certificate for `names` (host names or addresses) in `folder`.
    pub(crate) fn new(folder: &Path, names: &[&str]) -> Self {
        let authority_key = KeyPair::generate().expect("ring makes keys");
        let mut authority = named("Roadstead tests' authority", &[]);
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority_certificate = authority.self_signed(&authority_key).expect("the parameters are complete");
        let issuer = Issuer::new(authority, authority_key);
        let key = KeyPair::generate().expect("ring makes keys");
        let certificate =
            named("Roadstead tests' server", names).signed_by(&key, &issuer).expect("the parameters are complete");
        let node_key = KeyPair::generate().expect("ring makes keys");
        let node = named("node-1", &["node-1.nodes.test"]).signed_by(&node_key, &issuer);
        let node = node.expect("the parameters are complete");
        let write = |name: &str, pem: String| {
            let path = folder.join(name);
            fs::write(&path, pem).expect("a work folder is writable");
            path
        };
        Self {
            authority: write("ca.pem", authority_certificate.pem()),
            chain: write("server.pem", certificate.pem()),
            key: write("server.key", key.serialize_pem()),
            node_chain: write("node.pem", node.pem()),
            node_key: write("node.key", node_key.serialize_pem()),
        }
    }
}

fn named(common_name: &str, names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let mut params = CertificateParams::new(names).expect("the names are host names or addresses");
    params.distinguished_name.push(DnType::CommonName, common_name);
    params
}
