use super::*;

fn authority(text: &str) -> Authority {
    text.parse().unwrap()
}

fn world(wildcards: &[&str]) -> Namespaces {
    let mut world = Namespaces::default();
    for name in ["docker.io", "quay.io", "registry.corp:5000", "plain"] {
        assert!(world.add(&authority(name)));
    }
    for alias in ["index.docker.io", "registry-1.docker.io"] {
        assert!(world.add_alias(authority(alias), &authority("docker.io")));
    }
    assert!(world.add_prefix("hub".to_owned(), &authority("docker.io")));
    assert!(world.add_prefix("corp".to_owned(), &authority("registry.corp:5000")));
    for wildcard in wildcards {
        world.add_wildcard(Wildcard::parse(wildcard).unwrap());
    }
    world
}

/// `ns|oci-ref-name|host|name`, empty where absent; values of one kind are separated by spaces. A segment in front of
/// `/v2/` stands before the name.
fn resolve(world: &Namespaces, request: &str) -> String {
    let [ns, reference, host, name]: [&str; 4] = request.split('|').collect::<Vec<_>>().try_into().unwrap();
    let (segment, name) = name.split_once("/v2/").map_or((None, name), |(segment, name)| (Some(segment), name));
    let claims = Claims {
        ns: ns.split(' ').filter(|v| !v.is_empty()).map(|v| if v == "-" { "" } else { v }).collect(),
        oci_ref_name: reference.split(' ').filter(|v| !v.is_empty()).collect(),
        host: Some(host).filter(|host| !host.is_empty()),
        segment,
        name,
    };
    match world.resolve(&claims, &authority("docker.io")) {
        Ok(target) => format!("{} {}", target.authority, target.repository),
        Err(NamespaceError::Invalid(_)) => "400".to_owned(),
        Err(NamespaceError::Unknown(_)) => "404".to_owned(),
    }
}

#[test]
fn each_form_of_a_request_leads_to_one_authority_and_repository() {
    let world = world(&[]);
    for (request, expected) in [
        // ns
        ("quay.io|||org/app", "quay.io org/app"),
        ("QUAY.io:443|||org/app", "quay.io org/app"),
        ("registry-1.docker.io|||nginx", "docker.io library/nginx"),
        ("registry.corp:5000|||a/b/c/d", "registry.corp:5000 a/b/c/d"),
        ("quay.io|||app", "quay.io app"),
        ("quay.io|||quay.io/org/app", "quay.io org/app"),
        ("docker.io|||index.docker.io/nginx", "docker.io library/nginx"),
        ("quay.io|||other.test/org/app", "quay.io other.test/org/app"),
        ("quay.io|||hub/app", "quay.io hub/app"),
        ("docker.io|||hub/library/nginx", "docker.io library/nginx"),
        ("docker.io|||hub/nginx", "docker.io library/nginx"),
        ("index.docker.io|||hub/hub/x", "docker.io hub/x"),
        ("docker.io|||hub", "docker.io library/hub"),
        ("docker.io|||corp/app", "docker.io corp/app"),
        ("registry.corp:5000|||corp/a/b", "registry.corp:5000 a/b"),
        ("|docker.io/org/app:1||hub/org/app", "docker.io org/app"),
        ("|docker.io/hub/app:1||hub/app", "docker.io hub/app"),
        ("|docker.io/hub/app:1||hub/hub/app", "docker.io hub/app"),
        ("||docker.io|hub/org/app", "docker.io org/app"),
        ("||quay.io|hub/org/app", "quay.io hub/org/app"),
        ("quay.io|||docker.io/org/app", "400"),
        ("quay.io|||plain/app", "400"),
        ("quay.io|||quay.io", "400"),
        ("quay.io quay.io|||org/app", "400"),
        ("-|||org/app", "400"),
        ("https://quay.io|||org/app", "400"),
        ("quay.io.|||org/app", "400"),
        ("evil.test|||org/app", "404"),
        ("hub|||org/app", "404"),
        // oci-ref-name
        ("|quay.io/org/app:1||org/app", "quay.io org/app"),
        ("|docker.io/nginx@sha256:0||nginx", "docker.io library/nginx"),
        ("|docker.io/nginx||library/nginx", "docker.io library/nginx"),
        ("|registry.corp:5000/a/b:1||a/b", "registry.corp:5000 a/b"),
        ("|plain/app||app", "plain app"),
        ("|bitnami/redis:7||bitnami/redis", "docker.io bitnami/redis"),
        ("|nginx:1||library/nginx", "docker.io library/nginx"),
        ("|quay.io||any/thing", "quay.io any/thing"),
        ("|quay.io/org/app||quay.io/org/app", "quay.io org/app"),
        ("|quay.io/org/app||org/other", "400"),
        ("|quay.io/org/app quay.io/org/app||org/app", "400"),
        ("|evil.test/org/app||org/app", "404"),
        ("quay.io|quay.io/org/app||org/app", "quay.io org/app"),
        ("docker.io|index.docker.io/org/app||org/app", "docker.io org/app"),
        ("quay.io|docker.io/org/app||org/app", "400"),
        // Host
        ("||quay.io|org/app", "quay.io org/app"),
        ("||Registry-1.docker.io|nginx", "docker.io library/nginx"),
        ("||quay.io|docker.io/nginx", "400"),
        ("||mirror.corp|org/app", "docker.io org/app"),
        ("docker.io||quay.io|org/app", "docker.io org/app"),
        // path prefix
        ("|||quay.io/org/app", "quay.io org/app"),
        ("|||docker.io/nginx", "docker.io library/nginx"),
        ("|||index.docker.io/a/b", "docker.io a/b"),
        ("|||hub/nginx", "docker.io library/nginx"),
        ("|||corp/a/b", "registry.corp:5000 a/b"),
        ("|||quay.io", "400"),
        ("|||hub", "400"),
        ("|||quay.io/", "400"),
        // A registry in front of /v2/
        ("|||quay.io/v2/org/app", "quay.io org/app"),
        ("|||INDEX.docker.io:443/v2/nginx", "docker.io library/nginx"),
        ("|||hub/v2/nginx", "docker.io library/nginx"),
        ("|||registry.corp:5000/v2/a/b", "registry.corp:5000 a/b"),
        ("|||plain/v2/app", "plain app"),
        ("|||hub/v2/hub/nginx", "docker.io library/nginx"),
        ("|||quay.io/v2/quay.io/org/app", "quay.io org/app"),
        ("|||quay.io/v2/hub/app", "quay.io hub/app"),
        ("docker.io|||hub/v2/nginx", "docker.io library/nginx"),
        ("quay.io|||quay.io/v2/org/app", "quay.io org/app"),
        ("quay.io|||hub/v2/nginx", "400"),
        ("quay.io|||docker.io/v2/org/app", "400"),
        ("|quay.io/org/app||docker.io/v2/org/app", "400"),
        ("||quay.io|docker.io/v2/org/app", "400"),
        ("||mirror.corp|quay.io/v2/org/app", "quay.io org/app"),
        ("|||quay.io/v2/docker.io/org/app", "400"),
        ("|||evil.test/v2/org/app", "404"),
        ("|||other/v2/org/app", "404"),
        ("evil.test|||quay.io/v2/org/app", "404"),
        // default
        ("|||nginx", "docker.io library/nginx"),
        ("|||org/app", "docker.io org/app"),
        ("|||evil.test/org/app", "404"),
        ("|||localhost/app", "404"),
        ("|||1.2.3/x", "400"),
        ("|||dotted.name", "docker.io library/dotted.name"),
        ("|||a//b", "400"),
        ("|||Upper/case", "400"),
    ] {
        assert_eq!(resolve(&world, request), expected, "{request}");
    }
}

#[test]
fn t1_a_wildcard_admits_public_names_where_they_are_unmistakable() {
    let any = world(&["*"]);
    let some = world(&["*.example.com"]);
    for (world, request, expected) in [
        (&any, "new.test|||org/app", "new.test org/app"),
        (&any, "new.test|||new.test/org/app", "new.test org/app"),
        (&any, "|||new.test/org/app", "new.test org/app"),
        (&any, "|new.test/org/app||org/app", "new.test org/app"),
        (&any, "|||new.test/v2/org/app", "new.test org/app"),
        (&any, "|||127.0.0.1/v2/org/app", "404"),
        (&any, "|||intranet/v2/org/app", "404"),
        (&some, "|||other.test/v2/org/app", "404"),
        (&any, "||new.test|org/app", "docker.io org/app"),
        (&any, "8.8.8.8|||org/app", "8.8.8.8 org/app"),
        (&any, "127.0.0.1|||org/app", "404"),
        (&any, "169.254.169.254|||org/app", "404"),
        (&any, "[::1]|||org/app", "404"),
        (&any, "[::ffff:10.0.0.1]:80|||org/app", "404"),
        (&any, "localhost:5000|||org/app", "404"),
        (&any, "intranet|||org/app", "404"),
        (&any, "metadata.google.internal|||org/app", "404"),
        (&some, "a.example.com|||org/app", "a.example.com org/app"),
        (&some, "example.com|||org/app", "404"),
        (&some, "evilexample.com|||org/app", "404"),
        (&some, "other.test|||org/app", "404"),
    ] {
        assert_eq!(resolve(world, request), expected, "{request}");
    }
}

#[test]
fn t8_only_an_admitted_ns_is_echoed() {
    let world = world(&[]);
    let echo = |ns, name| {
        let claims = Claims { ns: vec![ns], name, ..Claims::default() };
        world.admitted_ns(&claims).ok().flatten()
    };
    assert_eq!(echo("Registry-1.docker.io", "nginx"), Some(authority("registry-1.docker.io")));
    assert_eq!(echo("quay.io", "BAD"), Some(authority("quay.io")), "errors included");
    assert_eq!(echo("evil.test", "nginx"), None);
    assert_eq!(echo("a\r\nb: c", "nginx"), None);
}

#[test]
fn t6_every_form_of_one_name_is_one_key_and_no_two_names_share_one() {
    let world = world(&[]);
    let authorities = ["docker.io", "quay.io", "registry.corp:5000", "plain"];
    let repositories = ["app", "org/app", "org", "a/b/c", "library/app", "x/quay", "docker/io", "org-app", "org/app/x"];
    let mut keys = HashMap::new();
    for authority in authorities {
        for repository in repositories {
            let upper = authority.to_ascii_uppercase();
            let forms = [
                format!("{authority}|||{repository}"),
                format!("{upper}|||{repository}"),
                format!("{authority}|||{authority}/{repository}"),
                format!("|{authority}/{repository}:tag||{repository}"),
                format!("|{upper}/{repository}@sha256:0||{authority}/{repository}"),
                format!("|{authority}||{repository}"),
                format!("||{authority}|{repository}"),
                format!("|||{authority}/{repository}"),
                format!("|||{authority}/v2/{repository}"),
                format!("{authority}|{authority}/{repository}|quay.io|{repository}"),
            ];
            let found: std::collections::HashSet<_> = forms.iter().map(|form| resolve(&world, form)).collect();
            assert_eq!(found.len(), 1, "{authority}/{repository}: {found:?}");
            let key = found.into_iter().next().unwrap();
            let is_hub = authority == "docker.io" && !repository.contains('/');
            let filed = if is_hub { format!("library/{repository}") } else { repository.to_owned() };
            let owner = format!("{authority}/{filed}");
            assert_eq!(keys.entry(key).or_insert_with(|| owner.clone()), &owner);
        }
    }
}
