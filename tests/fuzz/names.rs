//! T1, T7: names and digests exist only when valid, and are written as they are read.

use std::net::IpAddr;

use roadstead::oci::{Authority, Digest, MediaType, Reference, Repository, RepositoryPattern, Tag};
use url::Url;

use crate::fuzz;
use crate::text::{digest, text};

const HOSTS: &[&str] = &[
    "docker.io",
    "quay.io",
    "localhost",
    "a",
    "b-c",
    "_",
    "-",
    ".",
    "..",
    ":",
    ":443",
    ":5000",
    ":0",
    ":65536",
    "[",
    "]",
    "::1",
    "[::1]",
    "[::ffff:127.0.0.1]",
    "127.0.0.1",
    "127.1",
    "0x7f",
    "0X7F.1",
    "2130706433",
    "@",
    "/",
    "#",
    "?",
    "%",
    "\r\n",
    " ",
    "\0",
    "\u{e9}",
    "\u{3002}",
    "\u{ff0e}",
    "xn--",
    "X",
];
const NAMES: &[&str] = &[
    "a", "library", "9", "A", "/", "//", ".", "..", "_", "__", "___", "-", "--", "%2f", ":", "@", "\\", "\0", "\n", "é",
];

#[test]
fn t1_an_authority_is_canonical_and_means_one_host_to_a_url() {
    fuzz(|u| {
        let given = text(u, HOSTS, 6)?;
        let Ok(authority) = given.parse::<Authority>() else { return Ok(()) };
        let written = authority.to_string();
        assert_eq!(written.parse::<Authority>().unwrap(), authority, "{given:?}");
        assert!(written.bytes().all(|b| b.is_ascii_graphic() && !b.is_ascii_uppercase()), "{given:?}");
        assert!(!written.contains(['/', '@', '#', '?', '%', '\\']) && !written.contains(".."), "{given:?}");
        // The name is the address that is dialled: the URL parser does not read it otherwise.
        if let Ok(url) = Url::parse(&format!("https://{written}/v2/")) {
            // Two ways to write one IPv6 address are one address.
            let host = |text: &str| text.trim_matches(['[', ']']).parse::<IpAddr>().map_err(|_a_name| text.to_owned());
            assert_eq!(host(url.host_str().unwrap()), host(authority.host()), "{given:?}");
            assert_eq!((url.path(), url.username(), url.query()), ("/v2/", "", None), "{given:?}");
            assert_ne!(url.port(), Some(443));
        }
        Ok(())
    });
}

#[test]
fn t6_a_repository_never_leaves_its_place() {
    fuzz(|u| {
        let given = text(u, NAMES, 12)?;
        let Ok(repository) = given.parse::<Repository>() else { return Ok(()) };
        assert_eq!(repository.as_str(), given);
        let library = repository.clone().with_library();
        for name in [repository.as_str(), library.as_str()] {
            assert_eq!(name.parse::<Repository>().unwrap().as_str(), name);
            assert!(!name.contains("..") && !name.contains("//") && !name.starts_with('/') && !name.ends_with('/'));
            let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"/._-".contains(&b);
            assert!(name.bytes().all(word), "{name:?}");
            // A URL keeps it as it is.
            let mut url = Url::parse("https://registry.test").unwrap();
            url.set_path(&format!("/v2/{name}/manifests/x"));
            assert_eq!(url.path(), format!("/v2/{name}/manifests/x"));
        }
        assert_eq!(library.clone().with_library(), library);
        Ok(())
    });
}

#[test]
fn t7_a_digest_is_a_file_name_of_its_own_length() {
    fuzz(|u| {
        let given = digest(u)?;
        let Ok(digest) = given.parse::<Digest>() else { return Ok(()) };
        assert_eq!(digest.to_string(), given);
        assert_eq!(digest.to_string().parse::<Digest>().unwrap(), digest);
        assert!(matches!(digest.hex().len(), 64 | 128));
        assert!(digest.hex().bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)));
        assert!(digest.referrers_tag().parse::<Tag>().is_ok());
        Ok(())
    });
}

#[test]
fn t7_a_reference_is_a_tag_or_a_digest_and_reads_as_it_is_written() {
    fuzz(|u| {
        let given = if u.arbitrary()? { digest(u)? } else { text(u, NAMES, 8)? };
        let Ok(reference) = given.parse::<Reference>() else { return Ok(()) };
        assert_eq!(reference.to_string(), given);
        assert!(!given.contains(['/', '%', '\\']) && given != "." && given != "..");
        assert_eq!(matches!(reference, Reference::Digest(_)), given.contains(':'));
        Ok(())
    });
}

#[test]
fn t8_a_media_type_fits_into_a_header() {
    fuzz(|u| {
        let given =
            text(u, &["application", "/", "vnd.oci", "+json", ";", " charset=x", "\r\n", "x: y", "\"", ","], 8)?;
        let Some(media_type) = MediaType::parse(&given) else { return Ok(()) };
        assert!(http::HeaderValue::from_str(media_type.as_str()).is_ok(), "{given:?}");
        assert_eq!(MediaType::parse(media_type.as_str()).as_ref(), Some(&media_type));
        Ok(())
    });
}

#[test]
fn a_pattern_without_wildcards_matches_itself_alone() {
    fuzz(|u| {
        let (pattern, name) = (text(u, &["a", "b", "/", "*", "**", "?", "[", "]", "!"], 8)?, text(u, NAMES, 6)?);
        let (Ok(parsed), Ok(repository)) = (RepositoryPattern::parse(&pattern), name.parse::<Repository>()) else {
            return Ok(());
        };
        let matches = parsed.matches(&repository);
        if !pattern.contains(['*', '?', '[']) {
            assert_eq!(matches, pattern == name);
        }
        assert!(RepositoryPattern::parse("**").unwrap().matches(&repository));
        Ok(())
    });
}
