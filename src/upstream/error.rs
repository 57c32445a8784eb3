use std::sync::Arc;
use std::time::Duration;

use super::breaker::trouble::TroubleKind;
use crate::quote::quoted;

/// A failed request, with the endpoint that failed.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{endpoint}: {failure}")]
pub struct UpstreamError {
    /// Host and port as configured, without path or query.
    pub endpoint: Arc<str>,
    pub failure: Failure,
}

/// The reason why a request failed. The texts follow the endpoint's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    #[error("not found")]
    NotFound,
    #[error("refused the request without credentials: private or missing")]
    DeniedAnonymous,
    /// The answer to a login that is right: it may not read this.
    #[error("refused the request, though the configured credentials are right: private or missing")]
    DeniedCredentials,
    /// The login is wrong, whatever it was for. Proves nothing about the repository.
    #[error("refused the configured credentials")]
    LoginRefused,
    /// Not sent: the credentials were refused a moment ago. Proves nothing about the repository.
    #[error("is not signed in to for now, because it refused the configured credentials a moment ago")]
    LockedOut,
    /// `retry_after` as the upstream gave it (RFC 9110 section 10.2.3).
    #[error("has rationed this mirror (429)")]
    RateLimited { retry_after: Option<Duration> },
    #[error("cannot be reached ({0})")]
    Unreachable(String),
    #[error("did not answer in time ({0})")]
    Timeout(&'static str),
    /// A local limit, which proves nothing about the upstream.
    #[error("was not asked in time, because of a limit of this mirror: {0}")]
    Crowded(&'static str),
    #[error("failed with status {0}")]
    ServerError(u16),
    /// A 4xx without meaning for a pull, such as 400, 402 or 451. No other endpoint is tried.
    #[error("refused the request with status {0}")]
    UnexpectedStatus(u16),
    #[error("broke the connection ({0})")]
    Broken(String),
    /// An answer that breaks the protocol or a rule of ours. No other endpoint is tried.
    #[error("gave an answer that was refused: {0}")]
    Refused(String),
    /// `key` is the key of the configuration.
    #[error("sent a body over the limit of {limit_bytes} bytes; `{key}` raises it")]
    TooLarge { limit_bytes: u64, key: &'static str },
    #[error("the requested range is not there")]
    RangeNotThere,
    /// HEAD is refused, or answered with what is no answer; GET may work.
    #[error("refuses HEAD requests")]
    HeadRefused,
    #[error("sent bytes that do not match the digest asked for")]
    BadDigest,
    /// `retry_after` is the time until the endpoint is asked again.
    #[error("is not asked for now, because it failed a moment ago: {cause}")]
    BreakerOpen { cause: BreakerCause, retry_after: Duration },
    #[error("is offline by configuration")]
    Offline,
    /// A local failure, which proves nothing about the upstream.
    #[error("could not be asked: this process has no file descriptors left, raise its limit (`ulimit -n`)")]
    NoDescriptors,
}

/// Why a breaker opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BreakerCause {
    #[error("it could not be reached")]
    Unreachable,
    #[error("it did not answer in time")]
    Timeout,
    #[error("it has rationed this mirror (429)")]
    RateLimited,
}

impl Failure {
    /// What an operator can do; empty where nothing is wrong.
    pub const fn remedy(&self) -> &'static str {
        match self {
            Self::RateLimited { .. } | Self::BreakerOpen { cause: BreakerCause::RateLimited, .. } => {
                TroubleKind::Rationed.remedy()
            }
            Self::Unreachable(_)
            | Self::Timeout(_)
            | Self::BreakerOpen { cause: BreakerCause::Unreachable | BreakerCause::Timeout, .. } => {
                TroubleKind::Unreachable.remedy()
            }
            Self::ServerError(_) | Self::Broken(_) => TroubleKind::Failing.remedy(),
            Self::LoginRefused | Self::LockedOut => {
                "check the configured credentials; they are read again at each login"
            }
            Self::DeniedAnonymous => "configure credentials if it is private and should be served",
            Self::DeniedCredentials => "give the account of the configured credentials access if it should be served",
            Self::UnexpectedStatus(_) | Self::Refused(_) | Self::HeadRefused | Self::RangeNotThere => {
                "check that the upstream's `url` leads to a registry, and what stands in front of it"
            }
            Self::BadDigest => {
                "check what stands between this mirror and the registry: it changes what passes through it"
            }
            Self::TooLarge { .. } => "raise the limit if this content is meant to pass",
            Self::Crowded(_) => "raise `max_connections` of the upstream if its registry takes more",
            Self::NoDescriptors => "raise the limit of open files (`ulimit -n`, `LimitNOFILE`)",
            Self::NotFound | Self::Offline => "",
        }
    }

    /// Whether the next endpoint may have an answer.
    pub const fn tries_next_endpoint(&self) -> bool {
        match self {
            Self::RateLimited { .. }
            | Self::Unreachable(_)
            | Self::Timeout(_)
            | Self::Crowded(_)
            | Self::ServerError(_)
            | Self::Broken(_)
            | Self::BreakerOpen { .. }
            | Self::BadDigest => true,
            Self::NotFound
            | Self::DeniedAnonymous
            | Self::DeniedCredentials
            | Self::LoginRefused
            | Self::LockedOut
            | Self::UnexpectedStatus(_)
            | Self::Refused(_)
            | Self::TooLarge { .. }
            | Self::RangeNotThere
            | Self::HeadRefused
            | Self::Offline
            | Self::NoDescriptors => false,
        }
    }

    /// Whether the same question may be answered a moment later. No failure that opens a breaker is one of these.
    pub fn may_be_over_soon(&self) -> bool {
        self.is_of_the_server() && *self != Self::ServerError(501)
    }

    /// Whether a HEAD of a manifest that was answered so proves nothing: some proxies and front doors answer GET alone.
    pub const fn leaves_it_to_get(&self) -> bool {
        matches!(self, Self::HeadRefused | Self::NotFound | Self::ServerError(_) | Self::UnexpectedStatus(_))
    }

    /// The cause for which this failure opens a breaker; `None` if it does not.
    pub const fn opens_breaker(&self) -> Option<BreakerCause> {
        match self {
            Self::Unreachable(_) => Some(BreakerCause::Unreachable),
            Self::Timeout(_) => Some(BreakerCause::Timeout),
            Self::RateLimited { .. } => Some(BreakerCause::RateLimited),
            Self::NotFound
            | Self::DeniedAnonymous
            | Self::DeniedCredentials
            | Self::LoginRefused
            | Self::LockedOut
            | Self::Crowded(_)
            | Self::ServerError(_)
            | Self::UnexpectedStatus(_)
            | Self::Broken(_)
            | Self::Refused(_)
            | Self::TooLarge { .. }
            | Self::RangeNotThere
            | Self::HeadRefused
            | Self::BadDigest
            | Self::BreakerOpen { .. }
            | Self::Offline
            | Self::NoDescriptors => None,
        }
    }

    /// Credentials that no header can hold.
    pub(super) fn unsendable_credentials() -> Self {
        Self::Refused("the credentials for it cannot be sent in a header".to_owned())
    }

    /// Whether the server or the connection to it failed at a request that another server might have answered.
    pub const fn is_of_the_server(&self) -> bool {
        matches!(self, Self::ServerError(_) | Self::Broken(_))
    }

    /// Converts an error of `reqwest` and drops its URL, which may be signed.
    pub(super) fn of_reqwest(err: reqwest::Error) -> Self {
        let err = err.without_url();
        if err.is_timeout() {
            let during_connect = err.is_connect();
            return if during_connect {
                Self::Unreachable("no connection within the connect timeout".to_owned())
            } else {
                Self::Timeout("no response")
            };
        }
        let mut text = String::new();
        let mut source: Option<&dyn std::error::Error> = Some(&err);
        while let Some(error) = source {
            if error.downcast_ref::<std::io::Error>().is_some_and(is_no_descriptors) {
                return Self::NoDescriptors;
            }
            if error.downcast_ref::<std::io::Error>().is_some_and(|err| err.kind() == std::io::ErrorKind::TimedOut) {
                return Self::Unreachable("the connection is dead".to_owned());
            }
            if let Some(blocked) = error.downcast_ref::<crate::upstream::clients::egress::Blocked>() {
                return Self::Refused(blocked.to_string());
            }
            // Certificates and error texts of libraries repeat what the upstream sent.
            text = quoted(error);
            source = error.source();
        }
        if err.is_connect() { Self::Unreachable(text) } else { Self::Broken(text) }
    }
}

/// Whether the cause is `EMFILE` or `ENFILE`.
pub(super) fn is_no_descriptors(err: &std::io::Error) -> bool {
    let errno = rustix::io::Errno::from_io_error(err);
    matches!(errno, Some(rustix::io::Errno::MFILE | rustix::io::Errno::NFILE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_that_ran_out_say_nothing_of_the_upstream() {
        assert!(is_no_descriptors(&rustix::io::Errno::MFILE.into()));
        assert!(!is_no_descriptors(&rustix::io::Errno::CONNREFUSED.into()));
        assert_eq!(Failure::NoDescriptors.opens_breaker(), None);
    }
}
