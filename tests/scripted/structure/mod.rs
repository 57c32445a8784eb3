//! Rules about the source itself.

mod example_config;
mod graph;
mod imports;
mod lanes;
mod metrics_page;
mod ranks;
mod shape;
mod source;
