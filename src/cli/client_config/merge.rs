//! Puts a client's settings into a file that is there, and leaves everything else in it as it is.

use serde_json::Value;
use toml_edit::{Array, DocumentMut, Item, Table};

/// How what is wanted and what is there become one.
#[derive(Clone)]
pub(super) enum Merge {
    /// The file is Roadstead's own.
    Replace,
    /// Docker's `daemon.json`: lists get ours in front, and the rest stays.
    DaemonJson,
    /// containerd's `config.toml`: `config_path` of the registry plugin.
    Containerd,
    /// TOML tables of ours replace those of the same name under `registry`.
    Buildkit,
    /// Volumes for each runner that uses Docker.
    GitlabRunner(Vec<String>),
    /// Entries under top-level keys of a YAML mapping, as text.
    Yaml,
}

/// A file's new content; or why it stays as it is.
pub(super) enum Merged {
    Content(String),
    Leave(String),
}

impl Merge {
    /// `there` is what the file has now, if there is one.
    pub(super) fn apply(&self, wanted: &str, there: Option<&str>) -> Result<Merged, String> {
        let there = there.filter(|text| !text.trim().is_empty());
        let Some(there) = there else {
            return Ok(match self {
                Self::GitlabRunner(_) => Merged::Leave("no runner is registered yet".to_owned()),
                Self::Replace | Self::DaemonJson | Self::Containerd | Self::Buildkit | Self::Yaml => {
                    Merged::Content(wanted.to_owned())
                }
            });
        };
        match self {
            Self::Replace => Ok(Merged::Content(wanted.to_owned())),
            Self::DaemonJson => daemon_json(wanted, there).map(Merged::Content),
            Self::Containerd => containerd(there),
            Self::Buildkit => buildkit(wanted, there).map(Merged::Content),
            Self::GitlabRunner(volumes) => gitlab_runner(volumes, there),
            Self::Yaml => yaml(wanted, there).map(Merged::Content),
        }
    }
}

fn daemon_json(wanted: &str, there: &str) -> Result<String, String> {
    let parse = |text: &str| serde_json::from_str::<serde_json::Map<String, Value>>(text);
    let wanted = parse(wanted).map_err(|err| err.to_string())?;
    let mut settings = parse(there).map_err(|err| format!("is no JSON object: {err}"))?;
    for (key, ours) in wanted {
        let theirs = settings.get(&key).and_then(Value::as_array).cloned().unwrap_or_default();
        let mut both = ours.as_array().cloned().unwrap_or_default();
        both.extend(theirs.into_iter().filter(|value| !ours.as_array().is_some_and(|ours| ours.contains(value))));
        settings.insert(key, both.into());
    }
    serde_json::to_string_pretty(&settings).map(|text| text + "\n").map_err(|err| err.to_string())
}

fn toml(text: &str) -> Result<DocumentMut, String> {
    text.parse().map_err(|err: toml_edit::TomlError| format!("is no TOML: {}", err.message()))
}

/// The folder that `hosts.toml` files are laid in.
pub(super) const CONTAINERD_HOSTS: &str = "/etc/containerd/certs.d";

fn containerd(there: &str) -> Result<Merged, String> {
    let mut document = toml(there)?;
    let plugin = match document.get("version").and_then(Item::as_integer) {
        Some(2) => ["io.containerd.grpc.v1.cri", "registry"],
        Some(3) => ["io.containerd.cri.v1.images", "registry"],
        _ => {
            return Ok(Merged::Leave(format!(
                "has neither version = 2 nor 3: its registry plugin needs config_path = \"{CONTAINERD_HOSTS}\", if Kubernetes uses it"
            )));
        }
    };
    let mut table = document.as_table_mut();
    for key in std::iter::once("plugins").chain(plugin) {
        table = below(table, key)?;
    }
    if let Some(key) = ["mirrors", "configs"].into_iter().find(|key| table.contains_key(key)) {
        let name = plugin.join(".");
        return Err(format!(
            "has {name}.{key}, beside which containerd accepts no config_path: move it to {CONTAINERD_HOSTS} first"
        ));
    }
    match table.get("config_path").and_then(Item::as_str).unwrap_or_default() {
        "" => {}
        set if set.split(':').any(|path| path.trim_end_matches('/') == CONTAINERD_HOSTS) => {
            return Ok(Merged::Content(there.to_owned()));
        }
        other => return Err(format!("has config_path = {other:?}, where --write lays nothing out")),
    }
    table.insert("config_path", toml_edit::value(CONTAINERD_HOSTS));
    Ok(Merged::Content(document.to_string()))
}

/// A table in `table`, made if it is missing.
fn below<'a>(table: &'a mut Table, key: &str) -> Result<&'a mut Table, String> {
    let item = table.entry(key).or_insert_with(|| {
        let mut made = Table::new();
        made.set_implicit(true);
        Item::Table(made)
    });
    if item.is_inline_table() {
        let inline = std::mem::take(item);
        *item = inline.into_table().map_or(Item::None, Item::Table);
    }
    item.as_table_mut().ok_or_else(|| format!("has a {key} that is no table"))
}

fn buildkit(wanted: &str, there: &str) -> Result<String, String> {
    let wanted = toml(wanted)?;
    let mut document = toml(there)?;
    let registries = below(document.as_table_mut(), "registry")?;
    for (name, ours) in wanted.get("registry").and_then(Item::as_table).into_iter().flatten() {
        let theirs = below(registries, name)?;
        for (key, value) in ours.as_table().into_iter().flatten() {
            let old = theirs.get(key).and_then(Item::as_array).cloned();
            let merged = match (value.as_array(), old) {
                // Its own mirrors come behind.
                (Some(ours), Some(old)) => toml_edit::value(in_front(ours, &old)),
                _ => value.clone(),
            };
            theirs.insert(key, merged);
        }
    }
    Ok(document.to_string())
}

fn in_front(ours: &Array, theirs: &Array) -> Array {
    let is_ours = |text: Option<&str>| text.is_some_and(|text| ours.iter().any(|value| value.as_str() == Some(text)));
    let rest = theirs.iter().filter(|value| !is_ours(value.as_str()));
    ours.iter().chain(rest).map(|value| value.clone().decorated("", "")).collect()
}

fn gitlab_runner(volumes: &[String], there: &str) -> Result<Merged, String> {
    let mut document = toml(there)?;
    let mut runners = 0;
    for runner in
        document.get_mut("runners").and_then(Item::as_array_of_tables_mut).into_iter().flat_map(|all| all.iter_mut())
    {
        let Some(docker) = runner.get_mut("docker").and_then(Item::as_table_mut) else { continue };
        runners += 1;
        let list = docker.entry("volumes").or_insert_with(|| toml_edit::value(Array::new()));
        let list = list.as_array_mut().ok_or("has volumes that are no list")?;
        let missing = volumes.iter().filter(|volume| !list.iter().any(|there| there.as_str() == Some(volume)));
        let missing: Vec<_> = missing.cloned().collect();
        for volume in missing {
            list.push(volume);
        }
    }
    if runners == 0 {
        return Ok(Merged::Leave("has no runner with [runners.docker]".to_owned()));
    }
    Ok(Merged::Content(document.to_string()))
}

/// Puts each block under a top-level key of `wanted` right behind the same key of `there`. It takes block mappings only: what
/// it does not understand it refuses.
fn yaml(wanted: &str, there: &str) -> Result<String, String> {
    if there.contains('\t')
        || there.lines().any(|line| line.starts_with("---") || line.starts_with('{') || line.starts_with("..."))
    {
        return Err("is YAML of a kind that is not merged here: put Roadstead's lines in by hand".to_owned());
    }
    let mut lines: Vec<String> = there.lines().map(str::to_owned).collect();
    for (key, block) in blocks(wanted) {
        let head = |line: &&String| line.split('#').next().is_some_and(|line| line.trim_end() == key);
        let Some(at) = lines.iter().position(|line| head(&line)) else {
            if lines.iter().any(|line| line.starts_with(key.trim_end_matches(':'))) {
                return Err(format!("has {key} in a form that is not merged here: put Roadstead's lines in by hand"));
            }
            lines.push(key);
            lines.extend(block);
            continue;
        };
        let inside = lines.iter().skip(at + 1).take_while(|line| line.is_empty() || line.starts_with([' ', '#']));
        let inside: Vec<_> =
            inside.filter(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#')).cloned().collect();
        let indent = inside.first().map_or(2, |line| line.len() - line.trim_start().len());
        let is_entry = |line: &&String| line.len() - line.trim_start().len() == indent;
        let name = |line: &String| {
            let key = line.trim().split(": ").next().unwrap_or_default();
            key.trim_end_matches(':').trim_matches(['"', '\'']).to_owned()
        };
        let names: Vec<_> = inside.iter().filter(is_entry).map(name).collect();
        let shared = block.iter().filter(|line| line.starts_with("  ") && !line.starts_with("   ")).map(name);
        if let Some(shared) = shared.into_iter().find(|name| names.contains(name)) {
            return Err(format!("has {shared:?} under {key} already: put Roadstead's lines in by hand"));
        }
        let pad = |line: String| format!("{}{}", " ".repeat(indent.saturating_sub(2)), line);
        let behind = lines.split_off(at + 1);
        lines.extend(block.into_iter().map(pad));
        lines.extend(behind);
    }
    Ok(lines.join("\n") + "\n")
}

/// Top-level keys, with a colon, and the lines below each.
fn blocks(text: &str) -> Vec<(String, Vec<String>)> {
    let mut blocks: Vec<(String, Vec<String>)> = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        match blocks.last_mut() {
            Some((_, block)) if line.starts_with(' ') => block.push(line.to_owned()),
            _ => blocks.push((line.to_owned(), Vec::new())),
        }
    }
    blocks
}
