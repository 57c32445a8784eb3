//! A registry that does as the test says.
//!
//! `Upstream` is a real HTTP server on a loopback port. By itself it is an honest read-only registry of the
//! distribution spec; a script makes it slow, rude or dishonest, for the requests that a `Matcher` picks:
//!
//! ```ignore
//! let up = Upstream::start().await;
//! let digest = up.blob("library/app", blob(1 << 20, 1));
//! up.script(blobs().get().reference(&digest).once().cut_after(70_000));
//! let gate = Gate::closed();
//! up.script(blobs().ranged().always().stall_before_headers(&gate));
//! ```
//!
//! - A step for some requests (`once`, `times`) fails the test on `Drop` if they never come. `up_to` and `always` do
//!   not.
//! - All matching `always` steps apply together; of the limited ones, one at a time, oldest first.
//! - Steps meet requests that authentication lets in, unless they say `unauthorized_too`.
//! - Tests put things in order by `Gate`, `wait_for` and `Step::then`, never by sleeps.
#![allow(dead_code, unused_imports, reason = "each test binary uses a part of the fake")]
#![allow(clippy::panic, clippy::indexing_slicing, reason = "a fake that cannot go on fails the test")]

mod content;
mod observe;
mod script;
mod server;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_rustls::TlsAcceptor;

pub(crate) use self::content::bytes::{Content, blob, sha256, sha512};
pub(crate) use self::content::contents::Contents;
pub(crate) use self::content::guard::BasicAuth;
pub(crate) use self::content::token::{Issued, TokenAuth, TokenField};
pub(crate) use self::observe::canary::{BlackHole, Canary};
pub(crate) use self::observe::record::Recorded;
pub(crate) use self::script::gate::{Gate, PATIENCE};
pub(crate) use self::script::matcher::{
    Matcher, blobs, every_request, files, manifests, pings, referrers, tag_lists, tokens,
};
pub(crate) use self::script::step::Step;
pub(crate) use self::server::builder::Builder;
pub(crate) use self::server::ca::{ClientCertificates, Identity, TestCa, certificate, private_key};
pub(crate) use self::server::port::Port;
pub(crate) use self::server::route::Kind;

use self::server::listen::Listening;
use self::server::shared::Shared;

/// Shut down when dropped; fails the test then if a step was left unused or something in here has panicked.
pub(crate) struct Upstream {
    port: Port,
    tls: Option<TlsAcceptor>,
    shared: Arc<Shared>,
    listening: Mutex<Option<Listening>>,
}

impl Upstream {
    /// Plain HTTP on 127.0.0.1.
    pub(crate) async fn start() -> Self {
        Self::builder().start().await
    }

    /// HTTPS on 127.0.0.1, with a certificate that `ca` signed.
    pub(crate) async fn tls(ca: &TestCa) -> Self {
        Self::builder().tls(ca).start().await
    }

    /// For other addresses, names and client certificates.
    pub(crate) fn builder<'a>() -> Builder<'a> {
        Builder::new()
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// `127.0.0.1:1234` or `[::1]:1234`.
    pub(crate) fn host(&self) -> String {
        self.address().to_string()
    }

    /// `http://127.0.0.1:1234`, without a slash at the end.
    pub(crate) fn url(&self) -> String {
        format!("{}://{}", self.shared.scheme, self.address())
    }

    /// The same under another host name, for certificates and resolvers that know it.
    pub(crate) fn url_as(&self, name: &str) -> String {
        format!("{}://{name}:{}", self.shared.scheme, self.address().port())
    }

    /// The machine is down: connections end, new ones are refused. Its content and its script stay.
    pub(crate) async fn stop(&self) {
        let listening = self.listening().take();
        if let Some(listening) = listening {
            listening.end().await;
        }
    }

    /// Up again, at the same port.
    pub(crate) async fn restart(&self) {
        self.stop().await;
        let listener = self.port.listen().expect("the port is reserved for us");
        *self.listening() = Some(Listening::begin(listener, self.tls.clone(), Arc::clone(&self.shared)));
    }

    fn listening(&self) -> MutexGuard<'_, Option<Listening>> {
        self.listening.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a step in force. The handle is for those who want to end it or to know its uses.
    pub(crate) fn script(&self, step: Step) -> InForce {
        let id = self.shared.lock().script.add(step);
        InForce { shared: Arc::clone(&self.shared), id }
    }

    /// Ends all steps, used or not.
    pub(crate) fn clear_script(&self) {
        self.shared.lock().script.clear();
    }
}

/// A step that was scripted. It stays in force when this goes.
pub(crate) struct InForce {
    shared: Arc<Shared>,
    id: usize,
}

impl InForce {
    pub(crate) fn used(&self) -> usize {
        self.shared.lock().script.used(self.id)
    }

    pub(crate) fn revoke(&self) {
        self.shared.lock().script.revoke(self.id);
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        drop(self.listening().take());
        if std::thread::panicking() {
            return;
        }
        let panics = self.shared.panicked().join("\n");
        assert!(panics.is_empty(), "the fake upstream panicked: {panics}");
        let unused = self.shared.lock().script.unused();
        assert!(unused.is_empty(), "the script has steps left: {}", unused.join("; "));
    }
}
