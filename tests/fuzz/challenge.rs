//! `WWW-Authenticate`.

use roadstead::upstream::Challenge;

use crate::fuzz;
use crate::text::text;

const PIECES: &[&str] = &[
    "Bearer",
    "bearer ",
    "Basic",
    "Negotiate",
    " ",
    ",",
    "=",
    "\"",
    "\\",
    "realm",
    "realm=",
    "realm=\"https://a/t\"",
    "service=\"s\"",
    "scope=\"repository:x:pull\"",
    "error=\"invalid_token\"",
    "\t",
    ";",
    "https://a/token",
    "\u{e9}",
];

#[test]
fn any_challenge_is_read_to_its_end_and_one_with_a_realm_is_found() {
    fuzz(|u| {
        let header = text(u, PIECES, 30)?;
        let parsed = Challenge::parse(&header);
        let lower = header.to_ascii_lowercase();
        match parsed {
            Some(Challenge::Bearer { .. }) => {
                assert!(lower.contains("bearer") && lower.contains("realm"), "{header:?}");
            }
            Some(Challenge::Basic) => assert!(lower.contains("basic"), "{header:?}"),
            None => {}
        }
        // Whatever else was said before, behind a comma.
        let behind = Challenge::parse(&format!("Negotiate, Bearer realm=\"https://a/t\", {header}"));
        assert!(
            matches!(behind, Some(Challenge::Bearer { realm, .. }) if realm == "https://a/t" || lower.contains("realm"))
        );
        Ok(())
    });
}

#[test]
fn quoted_values_are_read_as_they_were_meant() {
    fuzz(|u| {
        let (realm, name) = (text(u, PIECES, 6)?, text(u, PIECES, 6)?);
        let quoted = |value: &str| value.replace('\\', "\\\\").replace('"', "\\\"");
        let header = format!("Bearer realm=\"{}\",service=\"{}\",scope=\"x\"", quoted(&realm), quoted(&name));
        assert_eq!(Challenge::parse(&header), Some(Challenge::Bearer { realm, service: Some(name) }), "{header:?}");
        Ok(())
    });
}
