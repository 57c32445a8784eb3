//! Keys in a header that a client sends with every request, as hosts.toml can.

use std::collections::HashMap;
use std::sync::Arc;

use http::{HeaderMap, HeaderName};
use ring::hmac;

use super::client::{BrokenLine, Client, Clients, lines, name_problem};
use super::keyed_hash::{KeyedHash, keyed_hash};
use crate::secret::Secret;

/// `access.header`: the header, and whose key is which.
#[derive(Debug, Clone)]
pub struct HeaderKeys {
    pub header: HeaderName,
    /// Names and keys. One name may have several.
    pub keys: Vec<(String, Secret)>,
}

impl HeaderKeys {
    /// Reads a file of `NAME KEY` lines. The error lists every line that cannot be read.
    pub fn parse(header: HeaderName, text: &str) -> Result<Self, Vec<BrokenLine>> {
        let (mut keys, mut broken) = (Vec::<(String, Secret)>::new(), Vec::new());
        for (line, entry) in lines(text) {
            match read(entry) {
                Ok((_, key)) if keys.iter().any(|(_, known)| known.expose() == key) => {
                    broken.push(BrokenLine { line, why: "has the key of an earlier line" });
                }
                Ok((name, key)) => keys.push((name.to_owned(), Secret::new(key))),
                Err(why) => broken.push(BrokenLine { line, why }),
            }
        }
        if broken.is_empty() { Ok(Self { header, keys }) } else { Err(broken) }
    }
}

fn read(entry: &str) -> Result<(&str, &str), &'static str> {
    let (name, key) = entry.split_once([' ', '\t']).ok_or("has no space between a name and a key")?;
    let key = key.trim_start();
    if let Some(why) = name_problem(name) {
        return Err(why);
    }
    if !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("has a key with other characters than visible ASCII");
    }
    Ok((name, key))
}

/// Looks keys up by a keyed hash, so that the time it takes tells nothing of them.
pub(super) struct KnownKeys {
    pub(super) header: HeaderName,
    secret: hmac::Key,
    clients: HashMap<KeyedHash, Arc<Client>>,
}

/// The header is there, and its value is nobody's key.
pub(super) struct WrongKey;

impl KnownKeys {
    pub(super) fn new(keys: &HeaderKeys, secret: &hmac::Key, clients: &mut Clients<'_>) -> Self {
        let mut by_name = HashMap::<&str, Arc<Client>>::new();
        let mut by_key = HashMap::new();
        for (name, key) in &keys.keys {
            let client = by_name.entry(name).or_insert_with(|| clients.user(name));
            by_key.insert(keyed_hash(secret, key.expose().as_bytes()), Arc::clone(client));
        }
        Self { header: keys.header.clone(), secret: secret.clone(), clients: by_key }
    }

    pub(super) fn find(&self, headers: &HeaderMap) -> Result<Option<Arc<Client>>, WrongKey> {
        let mut values = headers.get_all(&self.header).iter();
        match (values.next(), values.next()) {
            (None, _) => Ok(None),
            (Some(value), None) => {
                let known = self.clients.get(&keyed_hash(&self.secret, value.as_bytes()));
                known.map(|client| Some(Arc::clone(client))).ok_or(WrongKey)
            }
            (Some(_), Some(_)) => Err(WrongKey),
        }
    }

    pub(super) fn clients(&self) -> impl Iterator<Item = &Arc<Client>> {
        self.clients.values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t84_a_broken_line_of_keys_is_named_and_not_shown() {
        let text =
            "# nodes\nnode-1 hunter2-marker\nhunter2-marker-2\n  node-2\tk2 \nnode-3 hunter2-marker\nnode-4 a b\n";
        let broken = HeaderKeys::parse(HeaderName::from_static("x-key"), text).unwrap_err();
        assert_eq!(broken.iter().map(|broken| broken.line).collect::<Vec<_>>(), [3, 5, 6]);
        assert!(broken.iter().all(|broken| !broken.to_string().contains("hunter2")));
    }
}
