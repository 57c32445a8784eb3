//! `WWW-Authenticate` (RFC 9110 section 11.6.1), as registries send it.

/// The kind of login that a 401 demands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Challenge {
    Basic,
    Bearer {
        /// Unchecked: the upstream may name any URL.
        realm: String,
        service: Option<String>,
    },
}

impl Challenge {
    /// The first supported challenge of `header`, Bearer before Basic. Its scope is ignored, because some registries send a
    /// placeholder; ours is built from the requested repository.
    pub fn parse(header: &str) -> Option<Self> {
        let mut basic = None;
        for (scheme, parameters) in challenges(header) {
            let find = |name: &str| {
                parameters.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.clone())
            };
            if scheme.eq_ignore_ascii_case("bearer")
                && let Some(realm) = find("realm")
            {
                return Some(Self::Bearer { realm, service: find("service") });
            }
            if scheme.eq_ignore_ascii_case("basic") {
                basic = Some(Self::Basic);
            }
        }
        basic
    }

    /// Bytes that it takes in memory.
    pub(in crate::upstream) fn size_bytes(&self) -> usize {
        let text = match self {
            Self::Basic => 0,
            Self::Bearer { realm, service } => realm.len() + service.as_ref().map_or(0, String::len),
        };
        size_of::<Self>() + text
    }
}

type Parameters = Vec<(String, String)>;

/// Splits `Scheme key=value, key="quoted", Other key=value`. Skips what it cannot parse.
fn challenges(header: &str) -> Vec<(String, Parameters)> {
    let mut found: Vec<(String, Parameters)> = Vec::new();
    let mut rest = header.trim_start();
    while !rest.is_empty() {
        let word_end = rest.find(|c: char| !is_token(c)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(word_end);
        let after = after.trim_start();
        if let Some(value) = after.strip_prefix('=') {
            let (value, next) = value_of(value.trim_start());
            if let Some((_, parameters)) = found.last_mut() {
                parameters.push((word.to_owned(), value));
            }
            rest = next;
        } else {
            if !word.is_empty() {
                found.push((word.to_owned(), Vec::new()));
            }
            rest = after;
        }
        let mut skipped = rest.chars();
        if word.is_empty() && rest.len() == after.len() {
            // Neither a token nor a value: skip one character, so that every iteration advances.
            skipped.next();
        }
        rest = skipped.as_str().trim_start_matches([',', ' ', '\t']);
    }
    found
}

fn value_of(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        let (value, rest) = text.split_at(end);
        return (value.to_owned(), rest);
    };
    let mut value = String::new();
    let mut characters = quoted.chars();
    while let Some(c) = characters.next() {
        match c {
            '"' => break,
            '\\' => value.extend(characters.next()),
            c => value.push(c),
        }
    }
    (value, characters.as_str())
}

const fn is_token(c: char) -> bool {
    c.is_ascii_alphanumeric()
        || matches!(c, '-' | '_' | '.' | '~' | '+' | '/' | '!' | '#' | '$' | '%' | '&' | '\'' | '*' | '^' | '`' | '|')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(realm: &str, service: Option<&str>) -> Challenge {
        Challenge::Bearer { realm: realm.to_owned(), service: service.map(str::to_owned) }
    }

    #[test]
    fn challenges_of_real_registries_are_read() {
        assert_eq!(
            Challenge::parse(r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="x""#),
            Some(bearer("https://auth.docker.io/token", Some("registry.docker.io")))
        );
        assert_eq!(Challenge::parse(r#"bearer realm="https://a/t" , error="e""#), Some(bearer("https://a/t", None)));
        assert_eq!(Challenge::parse("Bearer realm=https://a/t,service=s"), Some(bearer("https://a/t", Some("s"))));
        assert_eq!(Challenge::parse(r#"Bearer realm="a\"b""#), Some(bearer("a\"b", None)));
        assert_eq!(Challenge::parse(r#"Basic realm="Registry""#), Some(Challenge::Basic));
        assert_eq!(
            Challenge::parse(r#"Basic realm="x", Bearer realm="https://a/t""#),
            Some(bearer("https://a/t", None))
        );
    }

    #[test]
    fn nonsense_is_no_challenge() {
        for header in ["", "Bearer", "Negotiate", "Bearer scope=\"x\"", "=,\"", "\"", "===", "Bearer realm"] {
            assert_eq!(Challenge::parse(header), None, "{header}");
        }
    }
}
