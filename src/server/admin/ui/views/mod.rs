//! What each page shows.

pub(super) mod image;
pub(super) mod jobs;
pub(super) mod overview;
pub(super) mod pins;
pub(super) mod refreshed;
pub(super) mod repositories;
pub(super) mod repository;
pub(super) mod sign_in;
