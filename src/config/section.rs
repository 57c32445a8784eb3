//! A table of unchecked values. Reading it collects problems.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use figment::value::{Dict, Value};

use super::problems::Collected;
use crate::upstream::CloudVariables;

/// A smaller number without a unit is hardly meant as bytes.
const SMALLEST_MEANT: u64 = 1024 * 1024;

/// A table that is being read. Each access marks its key as known; [`Section::finish`] reports all others as unknown.
pub(super) struct Section<'a> {
    path: String,
    values: &'a Dict,
    known: RefCell<BTreeSet<&'static str>>,
    problems: &'a Collected,
    finished: Cell<bool>,
}

static EMPTY: Dict = Dict::new();

impl<'a> Section<'a> {
    pub(super) fn root(values: &'a Dict, problems: &'a Collected) -> Self {
        Self { path: String::new(), values, known: RefCell::default(), problems, finished: Cell::new(false) }
    }

    fn at(&self, path: String, values: &'a Dict) -> Self {
        Self { path, values, known: RefCell::default(), problems: self.problems, finished: Cell::new(false) }
    }

    /// The full name of a key.
    pub(super) fn key(&self, key: &str) -> String {
        let plain = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
        let key = if plain { key.to_owned() } else { format!("\"{key}\"") };
        if self.path.is_empty() { key } else { format!("{}.{key}", self.path) }
    }

    pub(super) fn problem(&self, key: &str, message: impl Into<String>) {
        self.problems.add(self.key(key), message);
    }

    /// Tells of a value that is allowed, and hardly meant.
    pub(super) fn doubt(&self, key: &str, message: impl Into<String>) {
        self.problems.doubt(self.key(key), message);
    }

    /// The same of an entry of a list, as in `who[1]`.
    pub(super) fn problem_at(&self, entry: &str, message: &str) {
        self.problems.add(format!("{}.{entry}", self.path), message);
    }

    pub(super) fn doubt_at(&self, entry: &str, message: &str) {
        self.problems.doubt(format!("{}.{entry}", self.path), message);
    }

    /// Whether secrets, certificates and keys are to be read.
    pub(super) const fn reads_secrets(&self) -> bool {
        self.problems.reads_secrets
    }

    /// What the environment says of clouds.
    pub(super) const fn cloud_variables(&self) -> &'a CloudVariables {
        &self.problems.cloud
    }

    /// A problem with a variable of the environment.
    pub(super) fn variable_problem(&self, name: &str, message: String) {
        self.problems.add(name.to_owned(), message);
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.values.contains_key(key)
    }

    fn take(&self, key: &'static str) -> Option<&'a Value> {
        self.known.borrow_mut().insert(key);
        self.values.get(key)
    }

    pub(super) fn text(&self, key: &'static str) -> Option<String> {
        let value = self.take(key)?;
        let text = as_text(value);
        if text.is_none() {
            self.problem(key, "must be a string");
        }
        text
    }

    /// A string, or a list of strings.
    pub(super) fn texts(&self, key: &'static str) -> Option<Vec<String>> {
        let value = self.take(key)?;
        let texts = match value.as_array() {
            Some(values) => values.iter().map(as_text).collect(),
            None => as_text(value).map(|text| text.split(',').map(|part| part.trim().to_owned()).collect()),
        };
        if texts.is_none() {
            self.problem(key, "must be a string or a list of strings");
        }
        texts
    }

    pub(super) fn flag(&self, key: &'static str) -> Option<bool> {
        let value = self.take(key)?;
        let flag = value.to_bool().or_else(|| as_text(value)?.parse().ok());
        if flag.is_none() {
            self.problem(key, "must be true or false");
        }
        flag
    }

    /// A whole number of at least `min`.
    pub(super) fn number(&self, key: &'static str, min: u32) -> Option<u32> {
        let value = self.take(key)?;
        let number = as_text(value).and_then(|text| text.parse().ok()).filter(|number| *number >= min);
        if number.is_none() {
            self.problem(key, format!("must be a whole number of at least {min}"));
        }
        number
    }

    pub(super) fn duration(&self, key: &'static str) -> Option<Duration> {
        let text = self.text(key)?;
        let duration = humantime::parse_duration(&text).ok();
        if duration.is_none() {
            self.problem(key, "must be a duration with its unit, as in \"30s\", \"5m\", \"1h\", \"7days\"");
        }
        duration
    }

    /// A size in bytes.
    pub(super) fn size(&self, key: &'static str) -> Option<u64> {
        let text = self.text(key)?;
        let size = text.parse::<bytesize::ByteSize>().ok().map(|size| size.as_u64());
        if size.is_none() {
            self.problem(key, "must be a size, as in \"500MiB\" or \"100GiB\"");
        }
        let has_unit = text.bytes().any(|byte| byte.is_ascii_alphabetic());
        if !has_unit && size.is_some_and(|size| (1..SMALLEST_MEANT).contains(&size)) {
            self.doubt(key, "is a number of bytes, because it has no unit: write it as in \"5GiB\"");
        }
        size
    }

    pub(super) fn parsed<T: FromStr<Err: fmt::Display>>(&self, key: &'static str) -> Option<T> {
        self.parse(key, &self.text(key)?)
    }

    pub(super) fn parsed_list<T: FromStr<Err: fmt::Display>>(&self, key: &'static str) -> Option<Vec<T>> {
        self.each(key, str::parse)
    }

    /// The parsed entries of a list. A problem names the entry's position.
    pub(super) fn each<T, E: fmt::Display>(
        &self,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Option<Vec<T>> {
        let texts = self.texts(key)?;
        let entry = |(at, text): (usize, &String)| {
            let wrong = |err: E| self.problems.add(format!("{}[{at}]", self.key(key)), err.to_string());
            parse(text).map_err(wrong).ok()
        };
        Some(texts.iter().enumerate().filter_map(entry).collect())
    }

    fn parse<T: FromStr<Err: fmt::Display>>(&self, key: &str, text: &str) -> Option<T> {
        text.parse().map_err(|err: T::Err| self.problem(key, err.to_string())).ok()
    }

    /// A table; empty if it is missing.
    pub(super) fn section(&self, key: &'static str) -> Self {
        let values = match self.take(key) {
            None => &EMPTY,
            Some(value) => value.as_dict().unwrap_or_else(|| {
                self.problem(key, "must be a table");
                &EMPTY
            }),
        };
        self.at(self.key(key), values)
    }

    /// The tables of `[[key]]`, in order.
    pub(super) fn sections(&self, key: &'static str) -> Vec<Self> {
        let Some(value) = self.take(key) else { return Vec::new() };
        let tables: Option<Vec<&Dict>> =
            value.as_array().and_then(|values| values.iter().map(Value::as_dict).collect());
        let Some(tables) = tables else {
            self.problem(key, "must be a list of tables");
            return Vec::new();
        };
        tables.into_iter().enumerate().map(|(at, values)| self.at(format!("{}[{at}]", self.key(key)), values)).collect()
    }

    /// A list whose entries are strings or tables.
    pub(super) fn texts_or_sections(&self, key: &'static str) -> Vec<Result<String, Self>> {
        let Some(value) = self.take(key) else { return Vec::new() };
        let Some(entries) = value.as_array() else {
            return self.texts(key).unwrap_or_default().into_iter().map(Ok).collect();
        };
        let mut found = Vec::new();
        for (at, entry) in entries.iter().enumerate() {
            match (entry.as_dict(), as_text(entry)) {
                (Some(values), _) => found.push(Err(self.at(format!("{}[{at}]", self.key(key)), values))),
                (None, Some(text)) => found.push(Ok(text)),
                (None, None) => self.problem(key, "must be a list of strings or tables"),
            }
        }
        found
    }

    /// All tables in this one with their names, which the operator chooses.
    pub(super) fn children(&self) -> Vec<(&'a str, Self)> {
        self.finished.set(true);
        let mut children = Vec::new();
        for (name, value) in self.values {
            match value.as_dict() {
                Some(values) => children.push((name.as_str(), self.at(self.key(name), values))),
                None => self.problem(name, "must be a table"),
            }
        }
        children
    }

    /// All keys of this table, which the operator chooses, with their lists of strings.
    pub(super) fn named_texts(&self) -> Vec<(&'a str, Vec<String>)> {
        self.finished.set(true);
        let mut named = Vec::new();
        for (name, value) in self.values {
            match value.as_array().and_then(|values| values.iter().map(as_text).collect()) {
                Some(texts) => named.push((name.as_str(), texts)),
                None => self.problem(name, "must be a list of strings"),
            }
        }
        named
    }

    /// Names that dots without quotes have made of one: `docker.io` is a table `io` in a table `docker`. Empty if this table
    /// holds anything but tables.
    pub(super) fn nested_names(&self) -> Vec<String> {
        fn collect(values: &Dict, above: &str, names: &mut Vec<String>) {
            for (name, value) in values {
                let path = if above.is_empty() { name.clone() } else { format!("{above}.{name}") };
                match value.as_dict() {
                    Some(inner) if is_of_tables(inner) => collect(inner, &path, names),
                    _ => names.push(path),
                }
            }
        }
        let mut names = Vec::new();
        if is_of_tables(self.values) {
            collect(self.values, "", &mut names);
        }
        names
    }

    /// Its keys are not looked at.
    pub(super) fn ignore(self) {
        self.finished.set(true);
    }

    /// Reports keys that were not accessed.
    pub(super) fn finish(self) {
        let known = self.known.borrow();
        for key in self.values.keys().filter(|key| !known.contains(key.as_str())) {
            let advice = advice(key).map(str::to_owned).or_else(|| {
                let near = known.iter().find(|known| is_near(known, key));
                near.map(|near| format!("did you mean `{near}`?"))
            });
            let advice = advice.map(|advice| format!("; {advice}")).unwrap_or_default();
            self.problems.add(self.key(key), format!("unknown key{advice}"));
        }
        self.finished.set(true);
    }
}

fn is_of_tables(values: &Dict) -> bool {
    !values.is_empty() && values.values().all(|value| value.as_dict().is_some())
}

impl Drop for Section<'_> {
    fn drop(&mut self) {
        debug_assert!(
            self.finished.get() || self.values.is_empty() || std::thread::panicking(),
            "{} was not finished",
            self.path
        );
    }
}

/// Keys that people expect, each with the right one.
fn advice(key: &str) -> Option<&'static str> {
    match key {
        "password" | "token" | "secret" => Some("secrets come from files: use `password_file`"),
        "insecure" | "skip_verify" | "tls_verify" => Some("use `insecure_skip_verify`, or better `ca`"),
        "mirror" | "remoteurl" | "endpoint" => Some("use `url` or `endpoints`"),
        _ => None,
    }
}

/// A value as text. Numbers count too, so that `"30"` and 30 are equal.
fn as_text(value: &Value) -> Option<String> {
    match value {
        Value::String(_, text) => Some(text.clone()),
        Value::Num(_, number) => {
            number.to_u128().map(|n| n.to_string()).or_else(|| number.to_i128().map(|n| n.to_string()))
        }
        Value::Bool(_, flag) => Some(flag.to_string()),
        Value::Char(_, c) => Some(c.to_string()),
        Value::Empty(..) | Value::Dict(..) | Value::Array(..) => None,
    }
}

/// Whether two keys are one edit apart, or one contains the other.
fn is_near(known: &str, key: &str) -> bool {
    let (known, key) = (known.replace('_', ""), key.replace(['_', '-'], "").to_ascii_lowercase());
    let common = known.chars().zip(key.chars()).take_while(|(a, b)| a == b).count();
    let tail = known.chars().rev().zip(key.chars().rev()).take_while(|(a, b)| a == b).count();
    common + tail + 1 >= known.len().max(key.len())
}
