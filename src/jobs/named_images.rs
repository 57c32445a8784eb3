//! Images that a file names: a list, or manifests of Kubernetes, rendered charts, and compose files, in YAML or JSON.
//!
//! No YAML is parsed: every value of a key `image` counts, wherever it stands. What a template has not filled in does not.

use std::io::{self, Read};
use std::path::PathBuf;

/// Longest line that is looked at, in bytes.
const MAX_LINE: usize = 16 * 1024;
/// Largest text with names, in bytes.
const MAX_BYTES: u64 = 16 * 1024 * 1024;

/// The names in a text that is read to its end, as [`named_images`] finds them. Blocking.
///
/// # Errors
///
/// It cannot be read, is longer than 16 MiB, or is not UTF-8.
pub fn read_images(from: impl Read) -> io::Result<Vec<String>> {
    let mut text = String::new();
    let read = from.take(MAX_BYTES + 1).read_to_string(&mut text)?;
    if read as u64 > MAX_BYTES {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it has more than {MAX_BYTES} bytes")));
    }
    Ok(named_images(&text))
}

/// As [`read_images`], from a file of the configuration.
pub(super) async fn images_in_file(file: PathBuf) -> io::Result<Vec<String>> {
    let read = tokio::task::spawn_blocking(move || read_images(std::fs::File::open(file)?));
    read.await.map_err(io::Error::other)?
}

/// The names in a text, each once, in their order. A text with a key `image` is a manifest, any other is a list with one
/// name on each line, where `#` begins a remark.
pub fn named_images(text: &str) -> Vec<String> {
    let mut names = values_of_image(text);
    if names.is_empty() {
        let lines = text.lines().map(|line| {
            let line = line.trim();
            // A selector may hold a `#`; a remark follows a space, or is the line.
            let remark = if line.starts_with('#') { Some(0) } else { line.find(" #") };
            line.get(..remark.unwrap_or(line.len())).unwrap_or_default().trim()
        });
        names = lines.filter(|line| !line.is_empty()).map(str::to_owned).collect();
    }
    let mut seen = std::collections::HashSet::new();
    names.retain(|name| seen.insert(name.clone()));
    names
}

fn values_of_image(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    for line in text.lines().filter(|line| line.len() <= MAX_LINE) {
        // JSON, and flow style of YAML, may have several on a line.
        for (at, _) in line.match_indices("image") {
            let (before, after) = (line.get(..at).unwrap_or_default(), line.get(at + 5..).unwrap_or_default());
            if let Some(name) = value_behind(before, after) {
                names.push(name);
            }
        }
    }
    names
}

/// The value of `image` between these, if it is a key there.
fn value_behind(before: &str, after: &str) -> Option<String> {
    let (before, after) = match (before.strip_suffix('"'), before.strip_suffix('\'')) {
        (Some(before), _) => (before, after.strip_prefix('"')?),
        (None, Some(before)) => (before, after.strip_prefix('\'')?),
        (None, None) => (before, after),
    };
    let before = before.trim_end();
    let is_key = before.trim_start_matches(['-', ' ', '\t']).is_empty() || before.ends_with(['{', ',', '[']);
    if !is_key || before.trim_start().starts_with('#') {
        return None;
    }
    let value = after.trim_start().strip_prefix(':')?;
    // `image:tag` in a text is no key: a value stands behind a space.
    let value = value.strip_prefix([' ', '\t']).or_else(|| value.strip_prefix('"').map(|_| value))?.trim_start();
    let value = match value.chars().next()? {
        quote @ ('"' | '\'') => value.strip_prefix(quote)?.split(quote).next()?,
        _ => value.split([' ', '\t', ',', '}', '#']).next()?,
    };
    let value = value.trim();
    let is_filled_in = !value.is_empty() && !value.contains(['{', '}', '$', '<', '>', '\\', '|']);
    is_filled_in.then(|| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_found_in_manifests_charts_compose_files_and_json() {
        let text = r#"
apiVersion: v1
kind: Pod
spec:
  initContainers:
    - image: "quay.io/org/init:1"   # first
      imagePullPolicy: Always
  containers:
    - name: app
      image: docker.io/library/app@sha256:aa
    - {name: side, image: 'registry.corp:5000/side:2', args: []}
#    - image: commented/out:1
---
services:
  web:
    image: nginx
  templated:
    image: {{ .Values.image }}
  variable:
    image: ${REGISTRY}/app
  text: an image: of words
"#;
        assert_eq!(
            named_images(text),
            ["quay.io/org/init:1", "docker.io/library/app@sha256:aa", "registry.corp:5000/side:2", "nginx"]
        );
        let json = r#"{"containers":[{"image":"a/b:1","name":"x"},{"name":"y","image": "c/d:2"}]}"#;
        assert_eq!(named_images(json), ["a/b:1", "c/d:2"]);
    }

    #[test]
    fn a_list_has_one_name_on_each_line() {
        let text = "# base images\ndocker.io/library/app:1\n\n quay.io/a/b:2 # two\nquay.io/a/b:2\nx/y{regex=#$}\n";
        assert_eq!(named_images(text), ["docker.io/library/app:1", "quay.io/a/b:2", "x/y{regex=#$}"]);
    }
}
