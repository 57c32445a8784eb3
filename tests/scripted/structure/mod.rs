//! Rules about the source itself.

mod example_config;
mod lanes;
mod metrics_page;
mod ranks;
