//! Starting `lungai-track`.

use serde_json::Value;
use std::process::{Command, Output};

/// With nothing in the environment that points to a server.
pub fn command(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lungai-track"));
    for (name, _) in std::env::vars() {
        if name.starts_with("MLFLOW_") || name.to_ascii_lowercase().ends_with("_proxy") {
            command.env_remove(name);
        }
    }
    command.args(words);
    command
}

/// Exit code and JSON.
pub fn json(words: &[&str], env: &[(&str, &str)]) -> (i32, Value) {
    let output = command(words).arg("--json").envs(env.iter().copied()).output().unwrap();
    let Output { status, stdout, stderr } = output;
    let text = String::from_utf8_lossy(&stdout);
    let value = serde_json::from_str(&text)
        .unwrap_or_else(|error| panic!("{words:?}: {error}: {text}\n{}", String::from_utf8_lossy(&stderr)));
    (status.code().unwrap(), value)
}

/// JSON of what must succeed.
pub fn good(words: &[&str]) -> Value {
    let (code, value) = json(words, &[]);
    assert_eq!((code, &value["ok"]), (0, &Value::Bool(true)), "{words:?}: {value}");
    value
}

/// Syncs one run.
pub fn sync(run: &str, server: &str, more: &[&str]) -> (i32, Value) {
    json(&[&["sync", run, "--server", server], more].concat(), &[])
}
