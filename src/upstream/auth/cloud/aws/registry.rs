//! What the name of a registry of AWS tells: its region, and the API that gives tokens for it.

use url::Url;

/// A registry of ECR.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(in crate::upstream) struct EcrRegistry {
    pub(super) region: String,
    /// The host of the API.
    api: String,
    /// The domain of the partition, as in `amazonaws.com`.
    suffix: &'static str,
    pub(super) is_public: bool,
}

/// Domains of the partitions (`amazon-ecr-credential-helper`, `ecr-login/api/client.go`).
const SUFFIXES: [&str; 7] = [
    "amazonaws.com",
    "amazonaws.com.cn",
    "amazonaws.eu",
    "c2s.ic.gov",
    "sc2s.sgov.gov",
    "cloud.adc-e.uk",
    "csp.hci.ic.gov",
];
/// Domains of registries that are at IPv6 addresses too, each with that of its API.
const DUAL_STACK: [(&str, &str, &str); 2] = [
    ("on.aws", "api.aws", "amazonaws.com"),
    ("on.amazonwebservices.com.cn", "api.amazonwebservices.com.cn", "amazonaws.com.cn"),
];

impl EcrRegistry {
    /// From its host, perhaps with a port; `None` if it is no registry of ECR.
    pub(in crate::upstream) fn of(host: &str) -> Option<Self> {
        let host = host.split(':').next().unwrap_or(host);
        if matches!(host, "public.ecr.aws" | "ecr-public.aws.com") {
            let region = "us-east-1".to_owned();
            let api = "api.ecr-public.us-east-1.amazonaws.com".to_owned();
            return Some(Self { region, api, suffix: "amazonaws.com", is_public: true });
        }
        let (account, rest) = host.split_once('.')?;
        // Both `.dkr.ecr.` and `.dkr-ecr.` are in use.
        let rest = rest.strip_prefix("dkr.ecr").or_else(|| rest.strip_prefix("dkr-ecr"))?;
        let (fips, rest) = match rest.strip_prefix("-fips.") {
            Some(rest) => (true, rest),
            None => (false, rest.strip_prefix('.')?),
        };
        let (region, domain) = rest.split_once('.')?;
        let is_word = |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        if !is_word(account) || !is_word(region) {
            return None;
        }
        let with = |api: String, suffix| Some(Self { region: region.to_owned(), api, suffix, is_public: false });
        if let Some((_, api, suffix)) = DUAL_STACK.iter().find(|(of, ..)| *of == domain) {
            return with(format!("ecr{}.{region}.{api}", if fips { "-fips" } else { "" }), suffix);
        }
        let suffix = SUFFIXES.into_iter().find(|suffix| *suffix == domain)?;
        let service = if fips { "ecr-fips" } else { "api.ecr" };
        with(format!("{service}.{region}.{suffix}"), suffix)
    }

    /// The service that a request to the API is signed for.
    pub(super) const fn service(&self) -> &'static str {
        if self.is_public { "ecr-public" } else { "ecr" }
    }

    pub(super) fn api(&self) -> Option<Url> {
        format!("https://{}/", self.api).parse().ok()
    }

    /// STS in a region of the registry's partition.
    pub(super) fn sts(&self, region: &str) -> Option<Url> {
        format!("https://sts.{region}.{}/", self.suffix).parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_region_and_the_api_are_read_from_the_registrys_name() {
        let api = |host: &str| EcrRegistry::of(host).map(|registry| format!("{} {}", registry.region, registry.api));
        let of = |text: &str| Some(text.to_owned());
        for (host, expected) in [
            ("1.dkr.ecr.eu-west-1.amazonaws.com", "eu-west-1 api.ecr.eu-west-1.amazonaws.com"),
            ("1.dkr.ecr.eu-west-1.amazonaws.com:443", "eu-west-1 api.ecr.eu-west-1.amazonaws.com"),
            ("1.dkr.ecr-fips.us-east-1.amazonaws.com", "us-east-1 ecr-fips.us-east-1.amazonaws.com"),
            ("1.dkr.ecr.cn-north-1.amazonaws.com.cn", "cn-north-1 api.ecr.cn-north-1.amazonaws.com.cn"),
            ("1.dkr-ecr.eu-west-1.on.aws", "eu-west-1 ecr.eu-west-1.api.aws"),
            ("1.dkr-ecr-fips.us-west-2.on.aws", "us-west-2 ecr-fips.us-west-2.api.aws"),
            ("1.dkr.ecr.us-iso-east-1.c2s.ic.gov", "us-iso-east-1 api.ecr.us-iso-east-1.c2s.ic.gov"),
            ("public.ecr.aws", "us-east-1 api.ecr-public.us-east-1.amazonaws.com"),
        ] {
            assert_eq!(api(host), of(expected), "{host}");
        }
    }

    #[test]
    fn t150_a_name_that_only_looks_like_a_registry_of_the_cloud_is_none() {
        for host in [
            "1.dkr.ecr.eu-west-1.amazonaws.com.evil.test",
            "1.dkr.ecr.evil.test",
            "1.dkr.ecr.a/b.amazonaws.com",
            "dkr.ecr.eu-west-1.amazonaws.com",
            "1.dkr.ecrx.eu-west-1.amazonaws.com",
            ".dkr.ecr.eu-west-1.amazonaws.com",
            "0.amazonaws.com",
            "docker.io",
            "127.0.0.1:5000",
        ] {
            assert_eq!(EcrRegistry::of(host), None, "{host}");
        }
    }
}
