//! Values as people read them. What is hostile in them is escaped where it is written, by `maud`.

use bytesize::ByteSize;
use maud::{Markup, html};

use crate::clock::Timestamp;
use crate::oci::Digest;

/// Longest text of a registry that is shown. Characters.
const MAX_SHOWN: usize = 1000;
/// Hex digits of a digest in a list.
const SHORT_DIGITS: usize = 12;

/// A size, as in `1.2 GiB`, that is not broken at the end of a line.
pub(super) fn size(bytes: u64) -> String {
    ByteSize(bytes).to_string().replace(' ', "\u{a0}")
}

/// A number with its thousands apart, as in `12 345`.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (nth, digit) in digits.chars().enumerate() {
        if nth > 0 && (digits.len() - nth).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

/// A number of things, as in `1 blob` or `12 blobs`.
pub(super) fn many(number: u64, thing: &str) -> String {
    let number = count(number);
    if number == "1" { format!("1 {thing}") } else { format!("{number} {thing}s") }
}

/// A part of one, as in `93.4 %`.
pub(super) fn percent(part: f64) -> String {
    format!("{:.1} %", part * 100.0)
}

/// How long something took, as in `850 ms`, `3.2 s` or `4 min 10 s`.
pub(super) fn lasted(ms: u64) -> String {
    match ms {
        0..1000 => format!("{ms} ms"),
        1000..60_000 => format!("{}.{} s", ms / 1000, ms % 1000 / 100),
        60_000..3_600_000 => format!("{} min {} s", ms / 60_000, ms % 60_000 / 1000),
        _ => format!("{} h {} min", ms / 3_600_000, ms % 3_600_000 / 60_000),
    }
}

/// A time as how long it is ago; the time itself is the title.
pub(super) fn ago(now: Timestamp, at: Timestamp) -> Markup {
    let text = match now.since(at).as_secs() {
        0..2 => "now".to_owned(),
        seconds @ 2..120 => format!("{seconds} s ago"),
        seconds @ 120..7200 => format!("{} min ago", seconds / 60),
        seconds @ 7200..172_800 => format!("{} h ago", seconds / 3600),
        seconds => format!("{} days ago", seconds / 86_400),
    };
    let exact = at.rfc3339();
    html! { time datetime=(exact) title=(exact) { (text) } }
}

/// A path of this page with a query. Whatever the values are, they lead nowhere else.
pub(super) fn link(path: &str, query: &[(&str, &str)]) -> String {
    let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(query).finish();
    format!("{path}?{query}")
}

/// The page of an image, or of any content.
pub(super) fn image_link(reference: &str) -> String {
    link("/image", &[("reference", reference)])
}

/// A digest, shortened, that leads to its page.
pub(super) fn digest_link(repository: Option<&str>, digest: &Digest) -> Markup {
    let whole = digest.to_string();
    html! { a href=(digest_page(repository, &whole)) title=(whole) { code { (short(&whole)) } } }
}

/// A digest that leads to its page.
pub(super) fn whole_digest_link(repository: Option<&str>, digest: &Digest) -> Markup {
    let whole = digest.to_string();
    html! { a href=(digest_page(repository, &whole)) { code { (whole) } } }
}

fn digest_page(repository: Option<&str>, digest: &str) -> String {
    repository.map_or_else(|| image_link(digest), |repository| image_link(&format!("{repository}@{digest}")))
}

/// The first hex digits of a digest.
pub(super) fn short(digest: &str) -> &str {
    let hex = digest.split_once(':').map_or(digest, |(_, hex)| hex);
    hex.get(..SHORT_DIGITS).unwrap_or(hex)
}

/// A text that a registry chose, in one line: it may be long, and may be anything.
pub(super) fn foreign(text: &str) -> String {
    visible(text, MAX_SHOWN).replace(['\n', '\t'], " ")
}

/// At most so many characters. What would not be seen, or turns the direction of what is, is written as its number.
pub(super) fn visible(text: &str, most: usize) -> String {
    let mut shown = String::new();
    for (nth, character) in text.chars().enumerate() {
        match character {
            _ if nth == most => {
                shown.push('…');
                break;
            }
            '\n' | '\t' => shown.push(character),
            character if is_hidden(character) => shown.extend(character.escape_unicode()),
            character => shown.push(character),
        }
    }
    shown
}

/// Controls, and the marks of <https://www.unicode.org/reports/tr9/> and others without a width.
fn is_hidden(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_told_for_people() {
        assert_eq!(
            (count(0), count(999), count(1_234_567)),
            ("0".into(), "999".into(), "1\u{202f}234\u{202f}567".into())
        );
        assert_eq!((lasted(12), lasted(3210), lasted(250_000)), ("12 ms".into(), "3.2 s".into(), "4 min 10 s".into()));
        assert_eq!((percent(0.9341), percent(1.0)), ("93.4 %".into(), "100.0 %".into()));
        assert_eq!((short("sha256:0123456789abcdef"), short("x")), ("0123456789ab", "x"));
        assert_eq!(
            (many(1, "blob"), many(0, "blob"), many(2, "blob")),
            ("1 blob".into(), "0 blobs".into(), "2 blobs".into())
        );
        assert_eq!(foreign(&"é".repeat(2000)).chars().count(), MAX_SHOWN + 1);
        assert_eq!(foreign("a\u{202e}live\nb\0"), "a\\u{202e}live b\\u{0}");
    }

    #[test]
    fn t130_a_link_leads_to_this_page_whatever_its_values_are() {
        let hostile = "\"><script>&next=//evil.test#\r\n";
        let link = link("/image", &[("reference", hostile)]);
        assert_eq!(link, "/image?reference=%22%3E%3Cscript%3E%26next%3D%2F%2Fevil.test%23%0D%0A");
    }
}
