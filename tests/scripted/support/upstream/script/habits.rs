//! How an upstream behaves whatever is asked of it. All of it may change at any time.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::matcher::{every_request, manifests};
use crate::support::upstream::Upstream;
use crate::support::upstream::content::guard::{BasicAuth, Guard};
use crate::support::upstream::content::token::TokenAuth;
use crate::support::upstream::server::route::Kind;

impl Upstream {
    /// No page of tags or referrers is longer.
    pub(crate) fn page_size(&self, n: usize) {
        self.shared.lock().contents.lists.page = Some(n);
    }

    /// `n` above this is answered with 400.
    pub(crate) fn highest_n(&self, n: usize) {
        self.shared.lock().contents.lists.highest_n = Some(n);
    }

    /// Tag pages continue at `next_page=<opaque>`, and `last` is ignored.
    pub(crate) fn opaque_cursor(&self) {
        self.shared.lock().contents.lists.opaque_cursor = true;
    }

    pub(crate) fn without_referrers_api(&self) {
        self.shared.lock().contents.lists.no_referrers_api = true;
    }

    /// `artifactType` is ignored, and no `OCI-Filters-Applied` is sent.
    pub(crate) fn without_referrers_filter(&self) {
        self.shared.lock().contents.lists.no_referrers_filter = true;
    }

    /// Requires tokens from now on, and hands them out.
    pub(crate) fn token_auth(&self, auth: &TokenAuth) {
        self.hand_out_tokens(auth);
        self.shared.lock().guard = Guard::Token(auth.clone());
    }

    /// Hands out tokens, for itself or for another upstream, and requires none.
    pub(crate) fn hand_out_tokens(&self, auth: &TokenAuth) {
        self.shared.lock().tokens = Some(auth.clone());
    }

    /// Requires tokens that another upstream hands out; see `TokenAuth::realm`.
    pub(crate) fn require_tokens(&self, auth: &TokenAuth) {
        self.shared.lock().guard = Guard::Token(auth.clone());
    }

    pub(crate) fn basic_auth(&self, auth: BasicAuth) {
        self.shared.lock().guard = Guard::Basic(auth);
    }

    pub(crate) fn no_auth(&self) {
        self.shared.lock().guard = Guard::Open;
    }

    /// A pause before the headers of every answer. For measurements.
    pub(crate) fn latency(&self, delay: Duration) {
        self.shared.lock().latency = delay;
    }

    /// HEAD of this kind is answered with `status`.
    pub(crate) fn refuse_head(&self, kind: Kind, status: u16) {
        self.script(every_request().kind(kind).head().always().status(status));
    }

    /// The tag moves when it was asked for by HEAD for the `n`th time, before the answer (the old digest) goes out.
    pub(crate) fn move_tag_after_heads(&self, repository: &str, tag: &str, n: usize, digest: &str) {
        let (to_repository, to_tag, to_digest) = (repository.to_owned(), tag.to_owned(), digest.to_owned());
        let nth_head = manifests().head().repository(repository).reference(tag).nth(n).once();
        self.script(nth_head.then(move |contents| contents.tag(&to_repository, &to_tag, &to_digest)));
    }
}

/// The network under it.
impl Upstream {
    /// Whoever connects from now on is hung up on; those connected stay.
    pub(crate) fn close_on_accept(&self) {
        self.shared.closes_on_accept.store(true, Ordering::Relaxed);
    }

    pub(crate) fn accept_again(&self) {
        self.shared.closes_on_accept.store(false, Ordering::Relaxed);
    }

    /// Ends all connections that are open; new ones are welcome.
    pub(crate) fn cut_connections(&self) {
        self.shared.cut_all.send_replace(());
    }

    /// Bytes per second of each connection, those open included; 0 for no limit. For measurements.
    pub(crate) fn throttle(&self, bytes_per_second: u64) {
        self.shared.rate.store(bytes_per_second, Ordering::Relaxed);
    }
}
