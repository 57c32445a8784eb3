use serde::de::DeserializeOwned;

/// Parses a body that must be a JSON object. Serde alone would read an array as a struct, field by field.
///
/// `None` if it is invalid, without a reason: a parser's message may quote a secret.
pub fn read_object<T: DeserializeOwned>(body: &[u8]) -> Option<T> {
    if !body.trim_ascii_start().starts_with(b"{") {
        return None;
    }
    serde_json::from_slice(body).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, serde::Deserialize)]
    struct Named {
        name: String,
    }

    #[test]
    fn an_array_is_no_object() {
        let read = |body: &str| read_object::<Named>(body.as_bytes());
        assert_eq!(read(" \n{\"name\":\"a\"}"), Some(Named { name: "a".to_owned() }));
        assert_eq!(read("[\"a\"]"), None);
        assert_eq!(read(""), None);
    }
}
