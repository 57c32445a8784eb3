//! The registry's content, and access to it.

pub(crate) mod access;
pub(crate) mod bytes;
pub(crate) mod challenge;
pub(crate) mod contents;
pub(crate) mod guard;
pub(crate) mod issue;
pub(crate) mod lists;
pub(crate) mod lookup;
pub(crate) mod publish;
pub(crate) mod token;
