//! Starting the workspace's programs.

use serde_json::Value;
use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// Root of the workspace.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// A program, built by `cargo build --workspace --bins` (which `cargo xtask test` does first).
pub fn path_of(program: &str) -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let path = tests.parent().unwrap().parent().unwrap().join(program);
    assert!(path.exists(), "{program} is not built: run `cargo build --workspace --bins`");
    path
}

/// Exit code and JSON of a program that was asked for JSON.
pub fn json(program: &str, words: &[&str]) -> (i32, Value) {
    let output = Command::new(path_of(program)).args(words).arg("--json").current_dir(root()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let value = serde_json::from_str(&text)
        .unwrap_or_else(|error| panic!("{program}: {error}: {text}\n{}", String::from_utf8_lossy(&output.stderr)));
    (output.status.code().unwrap(), value)
}

/// The JSON of a program that must succeed.
pub fn good(program: &str, words: &[&str]) -> Value {
    let (code, value) = json(program, words);
    assert_eq!(code, 0, "{program} {words:?}: {value}");
    assert_eq!(value["ok"], true);
    value
}
