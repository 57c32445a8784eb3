//! Presets for well-known public registries.

/// Values of an upstream for keys that its table leaves out. Its lists are added to those of the table.
pub(super) struct Preset {
    pub(super) name: &'static str,
    pub(super) url: &'static str,
    pub(super) aliases: &'static [&'static str],
    pub(super) token_hosts: &'static [&'static str],
    /// Largest page of tags, in entries.
    pub(super) max_page: u32,
    /// Whether it counts GETs of manifests as pulls, and not HEADs.
    pub(super) counts_pulls: bool,
}

/// Largest page of tags, in entries, for a registry without a preset: distribution's own limit.
pub(super) const DEFAULT_MAX_PAGE: u32 = 1000;

const fn preset(name: &'static str, url: &'static str) -> Preset {
    Preset { name, url, aliases: &[], token_hosts: &[], max_page: DEFAULT_MAX_PAGE, counts_pulls: false }
}

pub(super) const PRESETS: [Preset; 10] = [
    Preset {
        aliases: &["index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"],
        token_hosts: &["auth.docker.io"],
        counts_pulls: true,
        ..preset("docker.io", "https://registry-1.docker.io")
    },
    Preset { max_page: 100, ..preset("quay.io", "https://quay.io") },
    // lscr.io sends its clients on to the same names of ghcr.io.
    Preset { aliases: &["lscr.io"], ..preset("ghcr.io", "https://ghcr.io") },
    preset("gcr.io", "https://gcr.io"),
    Preset { aliases: &["k8s.gcr.io"], ..preset("registry.k8s.io", "https://registry.k8s.io") },
    Preset { token_hosts: &["mcrprod.azurecr.io"], ..preset("mcr.microsoft.com", "https://mcr.microsoft.com") },
    preset("public.ecr.aws", "https://public.ecr.aws"),
    Preset { token_hosts: &["authn.nvidia.com"], ..preset("nvcr.io", "https://nvcr.io") },
    Preset { token_hosts: &["gitlab.com"], ..preset("registry.gitlab.com", "https://registry.gitlab.com") },
    preset("registry.access.redhat.com", "https://registry.access.redhat.com"),
];
