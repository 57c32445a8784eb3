//! Rules about the source itself.

mod ranks;
