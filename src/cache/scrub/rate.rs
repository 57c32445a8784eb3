use std::fmt;
use std::str::FromStr;

/// How fast to read: bytes a second, or as fast as the disk gives them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate(Option<u64>);

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be a size per second, as in \"50MiB/s\", or \"unlimited\"")]
pub struct InvalidRate;

impl Rate {
    /// `None`: as fast as the disk gives them.
    pub const fn bytes_per_second(self) -> Option<u64> {
        self.0
    }
}

impl FromStr for Rate {
    type Err = InvalidRate;

    fn from_str(text: &str) -> Result<Self, InvalidRate> {
        if text == "unlimited" {
            return Ok(Self(None));
        }
        let rate: bytesize::ByteSize =
            text.strip_suffix("/s").unwrap_or(text).parse().map_err(|_no_size| InvalidRate)?;
        if rate.as_u64() == 0 { Err(InvalidRate) } else { Ok(Self(Some(rate.as_u64()))) }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(bytes) => write!(f, "{bytes}B/s"),
            None => f.write_str("unlimited"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_a_size_per_second_or_unlimited() {
        let read = |text: &str| text.parse::<Rate>().map(Rate::bytes_per_second);
        assert_eq!(read("50MiB/s"), Ok(Some(50 * 1024 * 1024)));
        assert_eq!(read("1KB"), Ok(Some(1000)));
        assert_eq!(read("unlimited"), Ok(None));
        for wrong in ["", "0", "0B/s", "fast", "/s", "-1"] {
            assert_eq!(read(wrong), Err(InvalidRate), "{wrong}");
        }
        for text in ["77B/s", "unlimited"] {
            assert_eq!(text.parse::<Rate>().unwrap().to_string(), text);
        }
    }
}
