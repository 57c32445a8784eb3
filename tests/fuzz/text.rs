//! Text that comes close to a grammar: its own words, mixed with anything.

use arbtest::arbitrary::{Result, Unstructured};

/// Up to `max` pieces: mostly of these, now and then a character of any kind.
pub(crate) fn text(u: &mut Unstructured<'_>, pieces: &[&str], max: usize) -> Result<String> {
    let mut text = String::new();
    for _ in 0..u.int_in_range(0..=max)? {
        match u.int_in_range(0..=9)? {
            0 => text.push(u.arbitrary()?),
            1 => text.push(char::from(u.int_in_range(0..=127_u8)?)),
            _ => text.push_str(u.choose(pieces)?),
        }
    }
    Ok(text)
}

/// One of these.
pub(crate) fn one<'a>(u: &mut Unstructured<'_>, of: &[&'a str]) -> Result<&'a str> {
    u.choose(of).copied()
}

/// A digest that is valid, or as good as.
pub(crate) fn digest(u: &mut Unstructured<'_>) -> Result<String> {
    let (algorithm, length) = *u.choose(&[("sha256", 64), ("sha512", 128), ("sha256", 128), ("md5", 32), ("", 64)])?;
    let mut hex = String::new();
    for _ in 0..length {
        hex.push(char::from(*u.choose(b"0123456789abcdef")?));
    }
    if u.ratio(1, 8)? {
        hex.push_str(&text(u, &["A", "g", "../", "/", "%2f", "0"], 3)?);
    }
    Ok(format!("{algorithm}:{hex}"))
}

/// JSON of any shape, whose keys and strings are often these.
pub(crate) fn json(u: &mut Unstructured<'_>, words: &[&str], depth: usize) -> Result<serde_json::Value> {
    use serde_json::Value;
    Ok(match u.int_in_range(0..=if depth == 0 { 4 } else { 7 })? {
        0 => Value::Null,
        1 => Value::Bool(u.arbitrary()?),
        2 => u.arbitrary::<u64>()?.into(),
        3 => u.arbitrary::<f64>()?.into(),
        4 => {
            if u.arbitrary()? {
                one(u, words)?.into()
            } else {
                text(u, words, 4)?.into()
            }
        }
        5 => {
            let mut values = Vec::new();
            for _ in 0..u.int_in_range(0..=4)? {
                values.push(json(u, words, depth - 1)?);
            }
            values.into()
        }
        _ => {
            let mut object = serde_json::Map::new();
            for _ in 0..u.int_in_range(0..=6)? {
                object.insert(one(u, words)?.to_owned(), json(u, words, depth - 1)?);
            }
            object.into()
        }
    })
}

/// Bytes that are JSON, or nearly.
pub(crate) fn json_bytes(u: &mut Unstructured<'_>, words: &[&str]) -> Result<Vec<u8>> {
    let mut bytes = json(u, words, 4)?.to_string().into_bytes();
    for _ in 0..u.int_in_range(0..=2)? {
        let at = u.choose_index(bytes.len() + 1)?;
        match u.int_in_range(0..=3)? {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, u.arbitrary()?),
            2 if at < bytes.len() => bytes[at] = u.arbitrary()?,
            _ => {}
        }
    }
    Ok(bytes)
}
