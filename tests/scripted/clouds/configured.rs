//! `auth` in the configuration.

use roadstead::config::Config;

const ECR: &str = "1.dkr.ecr.eu-west-1.amazonaws.com";

fn read(name: &str, lines: &str, variables: &[(&str, &str)]) -> Vec<String> {
    let toml = format!("[upstreams.\"{name}\"]\n{lines}\n");
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    match Config::read(Some(&toml), variables) {
        Ok(_) => Vec::new(),
        Err(problems) => problems.0.iter().map(|problem| format!("{}: {}", problem.key, problem.message)).collect(),
    }
}

fn at(name: &str, auth: &str) -> Vec<String> {
    read(name, &format!("url = \"https://{}\"\nauth = \"{auth}\"", name.replace('*', "x")), &[])
}

#[test]
fn auth_is_for_registries_of_its_own_cloud() {
    for (name, auth) in [
        (ECR, "ecr"),
        ("public.ecr.aws", "ecr"),
        ("europe-docker.pkg.dev", "gar"),
        ("gcr.io", "gar"),
        ("mine.azurecr.io", "acr"),
    ] {
        assert_eq!(at(name, auth), Vec::<String>::new(), "{name}");
    }
    for (name, auth) in [("docker.io", "ecr"), (ECR, "acr"), ("mine.azurecr.io", "gar"), ("quay.io", "gar")] {
        let problems = at(name, auth);
        assert!(problems.len() == 1 && problems[0].contains("is for registries of this cloud"), "{name}: {problems:?}");
    }
    let wild = |name: &str, auth: &str| read(name, &format!("auth = \"{auth}\""), &[]);
    assert_eq!(wild("*.dkr.ecr.eu-west-1.amazonaws.com", "ecr"), Vec::<String>::new());
    assert_eq!(wild("*.azurecr.io", "acr"), Vec::<String>::new());
    for name in ["*", "*.amazonaws.com", "*.io"] {
        assert_eq!(wild(name, "ecr").len(), 1, "{name}");
    }
    // Under another name, if all its endpoints are the cloud's.
    let named = |endpoints: &str| read("ecr.corp", &format!("auth = \"ecr\"\nendpoints = [{endpoints}]"), &[]);
    assert_eq!(named(&format!("\"https://{ECR}\"")), Vec::<String>::new());
    assert_eq!(named(&format!("\"https://{ECR}\", \"https://other.corp\"")).len(), 1);
}

#[test]
fn every_problem_with_auth_is_told_with_its_key() {
    let problems = |lines: &str| read(ECR, lines, &[]);
    let unknown = problems(&format!("url = \"https://{ECR}\"\nauth = \"aws\""));
    assert!(unknown[0].contains(".auth: must be \"ecr\""), "{unknown:?}");
    let plain = problems("url = \"http://registry.corp\"\nauth = \"ecr\"");
    assert!(plain[0].contains("without TLS"), "{plain:?}");
    let two = problems(&format!("url = \"https://{ECR}\"\nauth = \"ecr\"\ncredential_helper = \"ecr-login\""));
    assert!(two[0].contains("give one of"), "{two:?}");
    let variables = [("AWS_ACCESS_KEY_ID", "AKIA"), ("AWS_ENDPOINT_URL_STS", "http://MARKER.test")];
    let named = read(ECR, &format!("url = \"https://{ECR}\"\nauth = \"ecr\""), &variables);
    assert_eq!(named.len(), 2, "{named:?}");
    assert!(named[0].starts_with("AWS_ACCESS_KEY_ID: ") && named[1].starts_with("AWS_ENDPOINT_URL_STS: "), "{named:?}");
    assert!(!named.concat().contains("MARKER"));
    // Nobody who does not use them is told of them.
    assert_eq!(read("quay.io", "", &variables), Vec::<String>::new());
    let missing = [("GOOGLE_APPLICATION_CREDENTIALS", "/nowhere/key.json")];
    let missing = read("gcr.io", "auth = \"gar\"", &missing);
    assert!(missing.len() == 1 && missing[0].contains("cannot be read"), "{missing:?}");
}
