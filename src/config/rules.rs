//! Rules that several sections of the configuration share.

use std::path::Path;

use super::section::Section;
use crate::oci::RepositoryPattern;
use crate::server::CertificateError;

/// The error without file names: someone may have put a key or a password where a file name belongs.
pub(super) fn without_paths(err: &CertificateError) -> String {
    match err {
        CertificateError::Unreadable { err, .. } => format!("it or its key cannot be read: {err}"),
        CertificateError::Empty(_) => "its file holds no certificate".to_owned(),
        CertificateError::Unusable { err, .. } => format!("it and its key do not belong together: {err}"),
    }
}

pub(super) fn require_file(section: &Section<'_>, key: &str, file: &Path) {
    if let Err(err) = std::fs::File::open(file) {
        section.problem(key, format!("its file cannot be read: {err}"));
    }
}

pub(super) fn pattern(section: &Section<'_>, key: &str, text: &str) -> Option<RepositoryPattern> {
    RepositoryPattern::parse(text).map_err(|err| section.problem(key, err.to_string())).ok()
}
