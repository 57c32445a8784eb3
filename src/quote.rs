//! Text of strangers, cut to a length before it is quoted in a message: nobody writes at length into our answers and logs.

use std::fmt;

/// Most bytes of a stranger's text in a message.
pub const MAX_QUOTED_BYTES: usize = 256;

/// The text, with at most [`MAX_QUOTED_BYTES`]. An ellipsis stands for what is cut off.
pub fn quoted(text: impl fmt::Display) -> String {
    const ELLIPSIS: char = '…';
    let mut text = text.to_string();
    if text.len() > MAX_QUOTED_BYTES {
        text.truncate(text.floor_char_boundary(MAX_QUOTED_BYTES - ELLIPSIS.len_utf8()));
        text.push(ELLIPSIS);
        text.shrink_to_fit();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t44_a_long_text_is_cut_between_two_characters() {
        assert_eq!(quoted("short"), "short");
        assert_eq!(quoted("x".repeat(MAX_QUOTED_BYTES)), "x".repeat(MAX_QUOTED_BYTES));
        for long in ["x".repeat(300_000), "ä".repeat(300), "x".to_owned() + &"ä".repeat(300)] {
            let cut = quoted(&long);
            assert!(cut.len() <= MAX_QUOTED_BYTES && cut.len() > MAX_QUOTED_BYTES - 4 && cut.ends_with('…'), "{cut}");
        }
    }
}
