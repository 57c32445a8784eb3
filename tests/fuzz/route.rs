//! T1, T6, T8: path and query, as far as the authority and the repository.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use roadstead::mirror::{Claims, Namespaces, Target, Wildcard};
use roadstead::oci::{Authority, Repository};
use roadstead::server::{Endpoint, Route};
use roadstead::upstream::is_public;

use crate::fuzz;
use crate::text::{digest, one, text};

const SEGMENTS: &[&str] = &[
    "v2",
    "library",
    "app",
    "docker.io",
    "quay.io",
    "index.docker.io",
    "registry.corp:5000",
    "hub",
    "evil.test",
    "127.0.0.1",
    "localhost",
    "manifests",
    "blobs",
    "tags",
    "list",
    "referrers",
    "uploads",
    "_catalog",
    "latest",
    "..",
    ".",
    "",
    "%2f",
    "%2F",
    "%2e%2e",
    "%252f",
    "%00",
    "%0d%0a",
    "%ff",
    "A",
    "%3A",
    "[::1]:5000",
    "%5B::1%5D",
];
const QUERIES: &[&str] = &[
    "ns=",
    "oci-ref-name=",
    "n=",
    "last=",
    "&",
    "=",
    "docker.io",
    "quay.io",
    "QUAY.IO",
    "evil.test",
    "%2f",
    "/",
    "library/app:v1",
    "@",
    "%40",
    ":443",
    "%0d%0a",
    "127.0.0.1",
    "169.254.169.254",
    "localhost",
    "+",
    "%",
    "docker.io.",
];

fn world(wildcard: bool) -> Namespaces {
    let mut world = Namespaces::default();
    for name in ["docker.io", "quay.io", "registry.corp:5000"] {
        assert!(world.add(&authority(name)));
    }
    assert!(world.add_alias(authority("index.docker.io"), &authority("docker.io")));
    assert!(world.add_prefix("hub".to_owned(), &authority("docker.io")));
    if wildcard {
        world.add_wildcard(Wildcard::parse("*").unwrap());
    }
    world
}

fn authority(name: &str) -> Authority {
    name.parse().unwrap()
}

fn resolve(world: &Namespaces, route: &Route, host: Option<&str>) -> Option<Target> {
    let claims = Claims {
        ns: route.all("ns").collect(),
        oci_ref_name: route.all("oci-ref-name").collect(),
        host,
        segment: route.segment.as_deref(),
        name: &route.name,
    };
    world.resolve(&claims, &authority("docker.io")).ok()
}

#[test]
fn t1_t6_a_request_leads_to_a_listed_authority_and_a_proper_repository_or_nowhere() {
    fuzz(|u| {
        let mut path = String::new();
        for _ in 0..u.int_in_range(1..=7)? {
            path.push('/');
            path.push_str(one(u, SEGMENTS)?);
        }
        if u.arbitrary()? {
            let segment = if u.arbitrary()? { format!("/{}", one(u, SEGMENTS)?) } else { String::new() };
            path = format!(
                "{segment}/v2{path}/manifests/{}",
                if u.arbitrary()? { digest(u)? } else { "latest".to_owned() }
            );
        }
        let query = text(u, QUERIES, 8)?;
        let Ok(route) = Route::parse(&[""], &path, Some(&query)) else { return Ok(()) };
        assert!(!path.to_ascii_lowercase().contains("%2f"), "{path:?}: an encoded slash");
        let wildcard = u.arbitrary()?;
        let world = world(wildcard);
        let host = if u.arbitrary()? { Some(one(u, SEGMENTS)?) } else { None };
        let Some(place) = resolve(&world, &route, host) else { return Ok(()) };
        let Target { authority, repository, .. } = &place;
        assert!(!repository.as_str().contains(".."));
        assert_eq!(repository.as_str().parse::<Repository>().as_ref(), Ok(repository));
        if world.configured(authority) != Some(authority) {
            assert!(wildcard && authority.host().contains('.') | authority.host().contains(':'), "{authority}");
            if let Ok(address) = authority.host().trim_matches(['[', ']']).parse() {
                assert!(is_public(address), "{authority}");
            }
        }
        let claims = Claims { ns: route.all("ns").collect(), ..Claims::default() };
        if let Ok(Some(ns)) = &world.admitted_ns(&claims) {
            assert_eq!(ns.to_string().parse::<Authority>().as_ref(), Ok(ns));
            assert!(http::HeaderValue::from_str(ns.as_str()).is_ok());
        }
        // Its plain form leads to the same place: there is one name for it.
        let kind = match &route.endpoint {
            Endpoint::Ping => return Ok(()),
            Endpoint::Manifest(reference) => format!("manifests/{reference}"),
            Endpoint::Blob(digest) => format!("blobs/{digest}"),
            Endpoint::Tags => "tags/list".to_owned(),
            Endpoint::Referrers(digest) => format!("referrers/{digest}"),
        };
        // The name of the authority in front, because a repository may begin with one.
        let plain = format!("/v2/{authority}/{repository}/{kind}");
        let again = Route::parse(&[""], &plain, Some(&format!("ns={authority}"))).unwrap();
        assert_eq!(again.endpoint, route.endpoint, "{plain}");
        let found = resolve(&world, &again, None).unwrap_or_else(|| panic!("{plain} leads nowhere"));
        assert_eq!((&found.authority, &found.repository), (authority, repository), "{path:?}?{query:?} {plain}");
        Ok(())
    });
}

#[test]
fn t6_two_requests_that_name_different_registries_never_lead_to_one() {
    fuzz(|u| {
        let world = world(false);
        let names = ["docker.io", "quay.io", "registry.corp:5000"];
        let (one_name, other) = (one(u, &names)?, one(u, &names)?);
        let repository = one(u, &["app", "library/app", "a/b/c", "quay.io.x/app"])?;
        let forms = |name: &str| {
            let encoded = utf8_percent_encode(name, NON_ALPHANUMERIC);
            let path = format!("/v2/{repository}/tags/list");
            [
                (path.clone(), format!("ns={encoded}"), None),
                (path.clone(), format!("oci-ref-name={encoded}%2F{repository}"), None),
                (path, String::new(), Some(name.to_owned())),
                (format!("/v2/{name}/{repository}/tags/list"), String::new(), None),
                (format!("/{name}/v2/{repository}/tags/list"), String::new(), None),
                (format!("/v2/{name}/{repository}/tags/list"), format!("ns={encoded}"), None),
            ]
        };
        let place = |(path, query, host): &(String, String, Option<String>)| {
            let route = Route::parse(&[""], path, Some(query)).unwrap();
            resolve(&world, &route, host.as_deref()).unwrap_or_else(|| panic!("{path}?{query} leads nowhere"))
        };
        let (first, second) = (u.choose_index(6)?, u.choose_index(6)?);
        let (first, second) = (place(&forms(one_name)[first]), place(&forms(other)[second]));
        let same = (&first.authority, &first.repository) == (&second.authority, &second.repository);
        assert_eq!(same, one_name == other, "{first:?} {second:?}");
        Ok(())
    });
}
