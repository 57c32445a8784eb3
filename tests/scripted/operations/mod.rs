//! Running it: the program as operators see it, from its configuration to its last log line.

mod access_log;
mod admin;
mod admin_api;
mod commands;
mod defaults;
mod listeners;
mod metrics;
mod problems;
mod program;
mod secrets;
mod shutdown;
mod tls;
