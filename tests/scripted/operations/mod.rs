//! Running it: the program as operators see it, from its configuration to its last log line.

mod access_log;
mod admin;
mod admin_api;
mod admin_connections;
mod as_root;
mod client_config;
mod commands;
mod configured;
mod connections;
mod dashboards;
mod defaults;
mod descriptors;
mod doctor;
mod http2;
mod listeners;
mod metrics;
mod problems;
pub(crate) mod program;
mod secrets;
mod shutdown;
pub(crate) mod tls;
mod troubles;
mod webhook;
