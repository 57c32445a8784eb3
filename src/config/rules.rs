//! Rules that several sections of the configuration share.

use std::path::Path;

use regex_lite::Regex;

use super::section::Section;
use crate::oci::RepositoryPattern;
use crate::server::CertificateError;

/// A file in a message. It is named only where that is sure to be a path: someone may have put a key or a password where a
/// file name belongs.
pub(super) fn its_file(file: &Path) -> String {
    let above = file.parent().filter(|above| file.is_absolute() && above.parent().is_some());
    let is_path = above.is_some_and(Path::is_dir) || file.is_file();
    if is_path { format!("its file {}", file.display()) } else { "its file".to_owned() }
}

/// What is wrong with a certificate or its key.
pub(super) fn certificate_problem(err: &CertificateError) -> String {
    match err {
        CertificateError::Unreadable { file, err } => format!("{} cannot be read: {err}", its_file(file)),
        CertificateError::Empty(file) => format!("{} holds no certificate", its_file(file)),
        CertificateError::NoAuthority { file, err } => {
            format!("{} holds what cannot be an authority of clients: {err}", its_file(file))
        }
        CertificateError::Unusable { certificate, key, err } => {
            format!("{} and the key ({}) do not belong together: {err}", its_file(certificate), its_file(key))
        }
    }
}

/// Opens a file that a server needs. Commands leave it alone.
pub(super) fn require_file(section: &Section<'_>, key: &str, file: &Path) {
    if section.reads_secrets()
        && let Err(err) = std::fs::File::open(file)
    {
        section.problem(key, format!("{} cannot be read: {err}", its_file(file)));
    }
}

pub(super) fn pattern(section: &Section<'_>, key: &str, text: &str) -> Option<RepositoryPattern> {
    RepositoryPattern::parse(text).map_err(|err| section.problem(key, err.to_string())).ok()
}

/// The key `tag` of a rule: a regular expression over whole tags.
pub(super) fn tags(rule: &Section<'_>) -> Option<Regex> {
    let anchored = Regex::new(&format!("^(?:{})$", rule.text("tag")?));
    anchored.map_err(|err| rule.problem("tag", format!("is no regular expression: {err}"))).ok()
}
