//! Error answers. The errors of a pull are mapped to status codes here and nowhere else.

use std::time::Duration;

use http::{HeaderValue, StatusCode};

use crate::mirror::{NamespaceError, PullError};
use crate::oci::ErrorCode;
use crate::upstream::{BreakerCause, Failure, UpstreamError};

use crate::server::request::route::{Endpoint, RouteError};

/// One error answer.
#[derive(Debug, Clone)]
pub(in crate::server) struct WireError {
    pub(in crate::server) status: StatusCode,
    /// `None` for 5xx, for which distribution-spec has no codes.
    pub(in crate::server) code: Option<ErrorCode>,
    pub(in crate::server) message: String,
    pub(in crate::server) retry_after: Option<Duration>,
    /// What an operator can do; empty if that is not known, or not needed.
    pub(in crate::server) remedy: &'static str,
    /// A 404 from the negative cache.
    pub(in crate::server) remembered: bool,
    /// `WWW-Authenticate`.
    pub(in crate::server) challenge: Option<HeaderValue>,
}

/// `Retry-After` where the upstream gave none.
const DEFAULT_RETRY: Duration = Duration::from_secs(10);
/// `Retry-After` where this server is busy.
const SOON: Duration = Duration::from_secs(1);

impl WireError {
    pub(in crate::server) fn new(
        status: StatusCode,
        code: impl Into<Option<ErrorCode>>,
        message: impl Into<String>,
    ) -> Self {
        debug_assert!(status.is_client_error() || status.is_server_error());
        let message = message.into();
        let code = code.into();
        Self { status, code, message, retry_after: None, remedy: "", remembered: false, challenge: None }
    }

    /// With a `Retry-After`.
    fn after(self, wait: Duration) -> Self {
        Self { retry_after: Some(wait), ..self }
    }

    pub(in crate::server) fn method_not_allowed() -> Self {
        let message = "this is a pull-through mirror: it is read, never written; push to the registry itself";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, ErrorCode::Unsupported, message)
    }

    pub(in crate::server) fn busy() -> Self {
        let message = "too many requests are being answered here; `max_requests` raises the limit";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, None, message).after(SOON)
    }

    /// RFC 9112 section 3.2: somebody in between may have read the other one.
    pub(in crate::server) fn several_hosts() -> Self {
        Self::new(StatusCode::BAD_REQUEST, ErrorCode::NameInvalid, "a request has one Host header")
    }

    pub(in crate::server) fn too_many_logins() -> Self {
        let message = "too many passwords are being checked here";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, None, message).after(SOON)
    }

    pub(in crate::server) fn issuer_away() -> Self {
        let message = "the issuer of the token cannot be asked for its keys now";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, None, message).after(SOON)
    }

    pub(in crate::server) fn misdirected() -> Self {
        let message =
            "the Host header names neither this server nor a registry; `server.hostnames` lists this server's names";
        Self::new(StatusCode::MISDIRECTED_REQUEST, ErrorCode::Denied, message)
    }

    pub(in crate::server) fn looped() -> Self {
        let message = "this request has been here before: an upstream's endpoint leads back to this mirror";
        Self::new(StatusCode::BAD_GATEWAY, None, message)
    }

    pub(in crate::server) fn range_not_satisfiable() -> Self {
        let message = "the range lies outside the content";
        Self::new(StatusCode::RANGE_NOT_SATISFIABLE, ErrorCode::SizeInvalid, message)
    }

    /// A 429 as a 503 that sends the client elsewhere: without `Retry-After`, for which some clients wait.
    pub(in crate::server) fn sent_elsewhere(self) -> Self {
        if self.status != StatusCode::TOO_MANY_REQUESTS {
            return self;
        }
        Self { status: StatusCode::SERVICE_UNAVAILABLE, code: None, retry_after: None, ..self }
    }

    fn rate_limited(message: String) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, ErrorCode::TooManyRequests, message)
    }

    pub(in crate::server) fn of_route(error: &RouteError) -> Self {
        let message = error.to_string();
        match error {
            RouteError::NotHere => Self::new(StatusCode::NOT_FOUND, ErrorCode::Unsupported, message),
            RouteError::Malformed { code, .. } => Self::new(StatusCode::BAD_REQUEST, *code, message),
            RouteError::Unsupported(_) => Self::new(StatusCode::METHOD_NOT_ALLOWED, ErrorCode::Unsupported, message),
        }
    }

    pub(in crate::server) fn of_namespace(error: &NamespaceError, endpoint: &Endpoint) -> Self {
        let message = error.to_string();
        match error {
            NamespaceError::Invalid(_) => Self::new(StatusCode::BAD_REQUEST, ErrorCode::NameInvalid, message),
            NamespaceError::Unknown(_) => {
                let message = format!("{message}; `[upstreams]` lists what is");
                Self::new(StatusCode::NOT_FOUND, unknown_name(endpoint), message)
            }
        }
    }

    /// `asked` is the reference as in `docker.io/library/nginx:latest`.
    pub(in crate::server) fn of_pull(error: &PullError, endpoint: &Endpoint, asked: &str) -> Self {
        let answer = match error {
            PullError::NotFound { authority, remembered, offline } => {
                let message = if *offline {
                    format!("{asked}: it is not held here, and {authority} is offline by configuration")
                } else {
                    format!("{asked}: {authority} does not have it")
                };
                Self { remembered: *remembered, ..Self::new(StatusCode::NOT_FOUND, missing(endpoint), message) }
            }
            PullError::RefusedByRule { .. } | PullError::Blocked(_) => {
                let message = format!("{asked}: {error}");
                Self::new(StatusCode::FORBIDDEN, ErrorCode::Denied, message)
            }
            PullError::Upstream(error) => Self::of_upstream(error, endpoint, asked),
            // No wait would make it whole: a client that knows another way takes it.
            PullError::Incomplete { error: upstream, .. } => {
                let is_late = matches!(
                    upstream.failure,
                    Failure::Timeout(_) | Failure::BreakerOpen { cause: BreakerCause::Timeout, .. }
                );
                let status = if is_late { StatusCode::GATEWAY_TIMEOUT } else { StatusCode::BAD_GATEWAY };
                Self::new(status, None, format!("{asked}: {error}"))
            }
            PullError::Busy => {
                let message = format!("{asked}: {error}; `max_waiting_fills` raises the limit");
                Self::new(StatusCode::SERVICE_UNAVAILABLE, ErrorCode::TooManyRequests, message).after(SOON)
            }
            PullError::Crowded(_) => {
                let message = format!("{asked}: {error}");
                Self::new(StatusCode::SERVICE_UNAVAILABLE, None, message).after(SOON)
            }
            PullError::ShuttingDown => {
                let message = format!("{asked}: this mirror is shutting down");
                Self::new(StatusCode::SERVICE_UNAVAILABLE, None, message).after(SOON)
            }
            PullError::Internal(why) => {
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, None, format!("{asked}: failed here ({why})"))
            }
        };
        Self { remedy: error.remedy(), ..answer }
    }

    fn of_upstream(error: &UpstreamError, endpoint: &Endpoint, asked: &str) -> Self {
        let message = format!("{asked}: {error}");
        let gateway = |status, message| Self::new(status, None, message);
        match &error.failure {
            Failure::NotFound | Failure::Offline => Self::new(StatusCode::NOT_FOUND, missing(endpoint), message),
            Failure::DeniedAnonymous => {
                let message = format!("{message}; configure credentials for it if it is private");
                Self::new(StatusCode::FORBIDDEN, ErrorCode::Denied, message)
            }
            Failure::DeniedCredentials => {
                let message = format!("{message}; give their account access if it should be served");
                Self::new(StatusCode::FORBIDDEN, ErrorCode::Denied, message)
            }
            Failure::LoginRefused | Failure::LockedOut => {
                let message = format!("{message}; check them, they are read again at the next login");
                Self::new(StatusCode::FORBIDDEN, ErrorCode::Denied, message)
            }
            Failure::RateLimited { retry_after } => {
                let message = format!("{message}; credentials of its own raise the ration");
                Self::rate_limited(message).after(retry_after.unwrap_or(DEFAULT_RETRY))
            }
            Failure::BreakerOpen { cause, retry_after } => {
                let error = match cause {
                    BreakerCause::RateLimited => Self::rate_limited(message),
                    BreakerCause::Unreachable => gateway(StatusCode::BAD_GATEWAY, message),
                    BreakerCause::Timeout => gateway(StatusCode::GATEWAY_TIMEOUT, message),
                };
                error.after(*retry_after)
            }
            Failure::NoDescriptors => gateway(StatusCode::SERVICE_UNAVAILABLE, message).after(SOON),
            Failure::Timeout(_) | Failure::Crowded(_) => gateway(StatusCode::GATEWAY_TIMEOUT, message),
            Failure::Unreachable(_)
            | Failure::ServerError(_)
            | Failure::UnexpectedStatus(_)
            | Failure::Broken(_)
            | Failure::Refused(_)
            | Failure::TooLarge { .. }
            | Failure::RangeNotThere
            | Failure::HeadRefused
            | Failure::BadDigest => gateway(StatusCode::BAD_GATEWAY, message),
        }
    }
}

const fn missing(endpoint: &Endpoint) -> ErrorCode {
    match endpoint {
        Endpoint::Blob(_) => ErrorCode::BlobUnknown,
        Endpoint::Manifest(_) | Endpoint::Referrers(_) => ErrorCode::ManifestUnknown,
        Endpoint::Tags | Endpoint::Ping => ErrorCode::NameUnknown,
    }
}

/// Referrers get `MANIFEST_UNKNOWN`: Helm and oras give up on `NAME_UNKNOWN`.
const fn unknown_name(endpoint: &Endpoint) -> ErrorCode {
    match endpoint {
        Endpoint::Referrers(_) => ErrorCode::ManifestUnknown,
        Endpoint::Blob(_) | Endpoint::Manifest(_) | Endpoint::Tags | Endpoint::Ping => ErrorCode::NameUnknown,
    }
}
