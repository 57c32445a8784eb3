use serde::de::DeserializeOwned;

/// Reads a body that has to be a JSON object. Serde would take an array for a struct too, field by field.
///
/// `None` says nothing of the reason: a parser's message may quote what is secret.
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
