//! Connections, requests and answers.

pub(crate) mod answer;
pub(crate) mod body;
pub(crate) mod builder;
pub(crate) mod ca;
pub(crate) mod gzip;
pub(crate) mod line;
pub(crate) mod listen;
pub(crate) mod port;
pub(crate) mod range;
pub(crate) mod route;
pub(crate) mod serve;
pub(crate) mod shared;
pub(crate) mod throttle;
pub(crate) mod wire;
