//! What the command line asks for, checked before any of it gets into a file: no text of it can end a line or a string there
//! (T86).

use std::path::Path;
use std::process::ExitCode;

use roadstead::oci::Authority;
use url::Url;

use super::super::output::failed;
use super::super::reach::server::authority;
use super::{ContainerdForm, Options};

/// Largest certificate, key or header file, in bytes.
const MAX_PEM_BYTES: u64 = 1024 * 1024;

pub(super) struct Wanted {
    pub(super) mirror: MirrorUrl,
    /// The registries to send through the mirror: not empty, sorted, each once.
    pub(super) authorities: Vec<Authority>,
    /// The command line names them; others are not to be touched.
    pub(super) named: bool,
    pub(super) strict: bool,
    pub(super) ca: Option<String>,
    /// Certificate and key.
    pub(super) identity: Option<(String, String)>,
    pub(super) headers: Vec<(String, String)>,
    pub(super) containerd: ContainerdForm,
}

/// `http` or `https`, a host, maybe a port and a path.
pub(super) struct MirrorUrl {
    pub(super) is_tls: bool,
    /// Host, and the port if it is not that of the scheme.
    pub(super) address: String,
    /// Empty, or `/` and more.
    pub(super) path: String,
}

impl MirrorUrl {
    /// Without a slash at the end.
    pub(super) fn url(&self) -> String {
        format!("{}://{}{}", if self.is_tls { "https" } else { "http" }, self.address, self.path)
    }

    /// The address, for clients that cannot have a path in front of `/v2/`.
    pub(super) fn bare(&self, client: &str) -> Result<&str, String> {
        if self.path.is_empty() { Ok(&self.address) } else { Err(format!("{client} takes no path in --mirror")) }
    }
}

impl Wanted {
    pub(super) fn of(
        options: &Options,
        served: impl FnOnce() -> Result<Vec<String>, ExitCode>,
    ) -> Result<Self, ExitCode> {
        let named = !options.authority.is_empty();
        let authorities = if named { options.authority.clone() } else { served()? };
        Self::checked(options, &authorities, named).map_err(|why| failed(&why))
    }

    fn checked(options: &Options, authorities: &[String], named: bool) -> Result<Self, String> {
        let parse = |name: &String| name.parse::<Authority>().map_err(|err| format!("--authority {name}: {err}"));
        let mut authorities = authorities.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
        authorities.sort_unstable();
        authorities.dedup();
        let identity = match (&options.client_cert, &options.client_key) {
            (Some(certificate), Some(key)) => Some((pem(certificate, "CERTIFICATE")?, pem(key, "PRIVATE KEY")?)),
            _ => None,
        };
        let mirror = mirror(options.mirror.as_deref().unwrap_or_default())?;
        let ca = options.ca.as_deref().map(|file| pem(file, "CERTIFICATE")).transpose()?;
        if !mirror.is_tls && (ca.is_some() || identity.is_some()) {
            return Err("--ca and --client-cert are for a mirror at https://".to_owned());
        }
        Ok(Self {
            mirror,
            authorities,
            named,
            strict: options.strict,
            ca,
            identity,
            headers: options.header.iter().map(|text| header(text)).collect::<Result<_, _>>()?,
            containerd: options.containerd,
        })
    }

    /// Refuses what `client` has no setting for, rather than leaving it out.
    pub(super) fn refuse_headers(&self, client: &str) -> Result<(), String> {
        if self.headers.is_empty() {
            Ok(())
        } else {
            Err(format!("{client} has no setting for headers: leave --header out"))
        }
    }

    pub(super) fn refuse_strict(&self, client: &str, instead: &str) -> Result<(), String> {
        if self.strict {
            Err(format!("{client} always goes to the registry itself when its mirror fails: {instead}"))
        } else {
            Ok(())
        }
    }

    pub(super) fn refuse_identity(&self, client: &str) -> Result<(), String> {
        if self.identity.is_none() { Ok(()) } else { Err(format!("{client} has no setting for --client-cert")) }
    }
}

fn mirror(text: &str) -> Result<MirrorUrl, String> {
    let wrong = |why: &str| format!("--mirror {text:?}: {why}");
    let url: Url = text.parse().map_err(|err| wrong(&format!("{err}; it is as in http://mirror.corp:5000")))?;
    if !["http", "https"].contains(&url.scheme()) {
        return Err(wrong("begins with neither http:// nor https://"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        // Neither is quoted.
        return Err("--mirror has a user or a password: Roadstead's clients are not asked for them".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(wrong("has a query or a fragment"));
    }
    if !url.has_host() {
        return Err(wrong("names no host"));
    }
    let address = authority(&url);
    address.parse::<Authority>().map_err(|err| wrong(&err.to_string()))?;
    let path = url.path().trim_end_matches('/').to_owned();
    if !path.chars().all(|c| c.is_ascii_alphanumeric() || "/-._~".contains(c)) || path.ends_with("/v2") {
        return Err(wrong("has a path that is no mount: clients add /v2/ themselves"));
    }
    Ok(MirrorUrl { is_tls: url.scheme() == "https", address, path })
}

fn header(text: &str) -> Result<(String, String), String> {
    // The value may be a secret: messages do not quote it.
    let (name, value) = text.split_once(':').ok_or("--header is as in 'X-Team: build'")?;
    let name = http::HeaderName::try_from(name.trim())
        .map_err(|_invalid| "--header has no name of a header before its colon")?;
    let value = match value.trim().strip_prefix('@') {
        Some(file) => read(Path::new(file))?.trim().to_owned(),
        None => value.trim().to_owned(),
    };
    let text = http::HeaderValue::try_from(&value).ok().and_then(|value| value.to_str().map(str::to_owned).ok());
    let value = text.ok_or_else(|| format!("--header {name}: its value has characters that are not allowed"))?;
    Ok((name.to_string(), value))
}

fn read(file: &Path) -> Result<String, String> {
    use std::io::Read as _;
    let failure = |err: std::io::Error| format!("{}: {err}", file.display());
    let mut text = String::new();
    let read = std::fs::File::open(file).and_then(|file| file.take(MAX_PEM_BYTES + 1).read_to_string(&mut text));
    let length = read.map_err(failure)?;
    if length as u64 > MAX_PEM_BYTES { Err(format!("{} is larger than 1 MiB", file.display())) } else { Ok(text) }
}

fn pem(file: &Path, what: &str) -> Result<String, String> {
    let text = read(file)?;
    let is_there = text.contains("-----BEGIN ") && text.contains(&format!("{what}-----"));
    if is_there {
        Ok(text.trim_end().to_owned() + "\n")
    } else {
        Err(format!("{} has no {what} as PEM", file.display()))
    }
}
