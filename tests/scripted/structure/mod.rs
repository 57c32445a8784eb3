//! Rules about the source itself.

mod example_config;
mod metrics_page;
mod ranks;
