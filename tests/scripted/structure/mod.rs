//! Rules about the source itself.

mod configuration_page;
mod deploy;
mod documents;
mod example_config;
mod examples;
mod graph;
mod imports;
mod lanes;
mod log_lines;
mod metrics_page;
mod ranks;
mod shape;
mod source;
mod threats;
