//! JSON that strangers wrote, read straight into types: what nobody asks for is read past and never built.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Parses a body that must be a JSON object. Serde alone would read an array as a struct, field by field.
///
/// `None` if it is invalid, without a reason: a parser's message may quote a secret.
pub fn read_object<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Option<T> {
    if !body.trim_ascii_start().starts_with(b"{") {
        return None;
    }
    serde_json::from_slice(body).ok()
}

/// A value of any kind, as far as it is of use. The rest costs no memory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Scalar<'a> {
    Text(Cow<'a, str>),
    /// A whole number that is not negative.
    Number(u64),
    /// An array with so many texts among its values.
    Texts(usize),
    /// `null`, a flag, another number, an object.
    #[default]
    Other,
}

impl Scalar<'_> {
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Number(_) | Self::Texts(_) | Self::Other => None,
        }
    }

    pub const fn number(&self) -> Option<u64> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Text(_) | Self::Texts(_) | Self::Other => None,
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Scalar<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;

        impl<'de> Visitor<'de> for Any {
            type Value = Scalar<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("any value")
            }

            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Scalar<'de>, E> {
                Ok(Scalar::Text(Cow::Borrowed(text)))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Scalar<'de>, E> {
                Ok(Scalar::Text(Cow::Owned(text.to_owned())))
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Scalar<'de>, E> {
                Ok(Scalar::Number(number))
            }

            fn visit_i64<E: Error>(self, _: i64) -> Result<Scalar<'de>, E> {
                Ok(Scalar::Other)
            }

            fn visit_f64<E: Error>(self, _: f64) -> Result<Scalar<'de>, E> {
                Ok(Scalar::Other)
            }

            fn visit_bool<E: Error>(self, _: bool) -> Result<Scalar<'de>, E> {
                Ok(Scalar::Other)
            }

            fn visit_unit<E: Error>(self) -> Result<Scalar<'de>, E> {
                Ok(Scalar::Other)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<Scalar<'de>, A::Error> {
                let mut texts = 0;
                while let Some(value) = values.next_element::<Scalar<'_>>()? {
                    texts += usize::from(value.text().is_some());
                }
                Ok(Scalar::Texts(texts))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Scalar<'de>, A::Error> {
                while fields.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Scalar::Other)
            }
        }

        deserializer.deserialize_any(Any)
    }
}

/// A field that may be left out. Go writes `null` for a list without entries, which is less than a list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Field<T> {
    #[default]
    Absent,
    Null,
    Given(T),
}

impl<T> Field<T> {
    pub fn given(self) -> Option<T> {
        match self {
            Self::Given(value) => Some(value),
            Self::Absent | Self::Null => None,
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Field<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Option::deserialize(deserializer)?.map_or(Self::Null, Self::Given))
    }
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

    #[test]
    fn a_value_of_the_wrong_kind_is_none() {
        let read = |json: &'static str| serde_json::from_str::<Scalar<'_>>(json).unwrap();
        assert_eq!(read(r#""a\"b""#).text(), Some("a\"b"));
        assert_eq!(read("7").number(), Some(7));
        assert_eq!(read(r#"["a",[1],"b",null]"#), Scalar::Texts(2));
        for other in ["null", "true", "-1", "1.5", "1e99", r#"{"a":{"b":[]}}"#] {
            assert_eq!(read(other), Scalar::Other, "{other}");
        }
    }
}
