//! Looking at what is held, and changing it, by commands and by the API.

mod reach;

use std::path::Path;
use std::process::Output;

use serde_json::Value;

use crate::operations::program::{run, stderr};

/// A command to its end, while the mirror in this process goes on.
async fn roadstead(arguments: &[&str]) -> Output {
    let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
    let command = move || run(&arguments.iter().map(String::as_str).collect::<Vec<_>>(), &[]);
    tokio::task::spawn_blocking(command).await.unwrap()
}

/// What a command prints as JSON, for a configuration.
async fn told(file: &Path, arguments: &[&str]) -> Value {
    let all = [arguments, &["--json", "--config", file.to_str().unwrap()]].concat();
    let output = roadstead(&all).await;
    assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}
