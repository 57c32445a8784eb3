//! Clients that cost little, so that the servers are what is measured. All servers get the same.

mod bodies;
mod requests;
mod secure;

pub(crate) use self::bodies::{Stream, read_all};
pub(crate) use self::requests::{Wanted, requests};
pub(crate) use self::secure::SecureClient;
