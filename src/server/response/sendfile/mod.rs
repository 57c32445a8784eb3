//! Files go to the socket by sendfile, through an unmodified hyper.
//!
//! A body gives hyper a placeholder in a file part's stead ([`queue`]). The stream under hyper recognises the placeholder
//! by its address when it is to be written, and sends the file part instead ([`stream`]).

pub(in crate::server) mod queue;
pub(in crate::server) mod stream;
