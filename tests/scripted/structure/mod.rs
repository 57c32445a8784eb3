//! Rules about the source itself.

mod example_config;
mod ranks;
