//! Clients that cost little, so that the servers are what is measured. All servers get the same.

mod bodies;
mod crowd;
mod paced;
mod requests;
mod secure;

pub(crate) use self::bodies::{Stream, read_all};
pub(crate) use self::crowd::{Crowd, Until, crowd};
pub(crate) use self::paced::{Latencies, Paced};
pub(crate) use self::requests::{Wanted, requests};
pub(crate) use self::secure::SecureClient;
