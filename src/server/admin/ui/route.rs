//! The pages by path, and the methods that they take.

/// What a path leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::server::admin) enum Page {
    Shows(Shown),
    Does(Act),
    SignIn,
    SignOut,
    Style,
    Icon,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::server::admin) enum Shown {
    Overview,
    Repositories,
    Repository,
    Image,
    Pins,
    Jobs,
}

/// A change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::server::admin) enum Act {
    Pin,
    Unpin,
    Refresh,
    Verify,
}

const PAGES: [(&str, Page); 14] = [
    ("/", Page::Shows(Shown::Overview)),
    ("/repositories", Page::Shows(Shown::Repositories)),
    ("/repository", Page::Shows(Shown::Repository)),
    ("/image", Page::Shows(Shown::Image)),
    ("/pins", Page::Shows(Shown::Pins)),
    ("/jobs", Page::Shows(Shown::Jobs)),
    ("/pin", Page::Does(Act::Pin)),
    ("/unpin", Page::Does(Act::Unpin)),
    ("/refresh", Page::Does(Act::Refresh)),
    ("/verify", Page::Does(Act::Verify)),
    ("/sign-in", Page::SignIn),
    ("/sign-out", Page::SignOut),
    ("/page.css", Page::Style),
    ("/icon.svg", Page::Icon),
];

impl Page {
    pub(in crate::server::admin) fn find(path: &str) -> Option<Self> {
        PAGES.iter().find(|(known, _)| *known == path).map(|(_, page)| *page)
    }

    /// The methods that it takes.
    pub(super) const fn methods(self) -> &'static str {
        match self {
            Self::Shows(_) | Self::Style | Self::Icon => "GET, HEAD",
            Self::Does(_) | Self::SignOut => "POST",
            Self::SignIn => "GET, HEAD, POST",
        }
    }

    /// Whether a path with a query leads to what is shown here, so that a browser may be sent to it.
    pub(super) fn is_shown_at(target: &str) -> bool {
        let path = target.split('?').next().unwrap_or_default();
        let is_plain = target.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
        is_plain && matches!(Self::find(path), Some(Self::Shows(_)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t133_a_browser_is_sent_to_own_pages_only() {
        assert!(["/", "/image?reference=a%40b", "/pins"].into_iter().all(Page::is_shown_at));
        for other in ["", "//evil.test", "/\\evil.test", "https://evil.test/", "/refresh", "/\r\nx: y", "/image#?a b"] {
            assert!(!Page::is_shown_at(other), "{other:?}");
        }
    }
}
