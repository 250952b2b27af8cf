//! What an operator decides: complete, so that the file says everything the service will do.

use serde::Deserialize;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The commented example; it is also what runs without `--config`.
pub const EXAMPLE: &str = include_str!("../lungai-serve.example.yaml");

/// Settings of the service; the example file explains each.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Folder of the frozen model.
    pub models: PathBuf,
    /// PEM file of the trusted public key; `None` takes `trusted-keys/` of the registry that the model lies in.
    pub trusted_key: Option<PathBuf>,
    /// Folder of the database and the received studies.
    pub data: PathBuf,
    /// `auto`, `cpu` or `cuda:N`.
    pub device: String,
    /// Name or threshold of the operating point; the model's own where `None`.
    pub operating_point: Option<String>,
    /// Address and port.
    pub listen: SocketAddr,
    /// Whether a proxy in front terminates TLS.
    pub tls_by_proxy: bool,
    /// Hashed keys of the clients; where there are none, everybody who reaches the loopback address is let in.
    pub api_keys: Vec<ApiKey>,
    /// Analyses at the same time, at least 1.
    pub workers: usize,
    /// Beginnings of one analysis, at least 1.
    pub attempts: u32,
    /// Hours that images outlive their analysis.
    pub keep_images_hours: u32,
    /// Sizes and counts.
    pub limits: Limits,
    /// Times.
    pub seconds: Seconds,
}

/// One client that may call.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiKey {
    /// Name in the audit trail.
    pub name: String,
    /// SHA-256 of the key, 64 hex digits.
    pub sha256: String,
}

/// Sizes and counts that one client cannot exceed; all at least 1.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Bytes of one request.
    pub upload_bytes: u64,
    /// Bytes on disk of one request after unpacking.
    pub unpacked_bytes: u64,
    /// Files of one request, archive entries included.
    pub files: usize,
    /// Unpacked bytes per archive byte.
    pub ratio: u64,
    /// Uploads at the same time.
    pub uploads: usize,
    /// Analyses that wait.
    pub queue: u32,
    /// Open connections.
    pub connections: usize,
}

/// Times in whole seconds, all at least 1.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seconds {
    /// To send a request's header.
    pub header: u64,
    /// Between two pieces of an upload.
    pub stall: u64,
    /// For a whole upload.
    pub upload: u64,
    /// To answer anything else.
    pub request: u64,
    /// For one analysis.
    pub analysis: u64,
    /// Without a sign of life of a running analysis.
    pub lease: u64,
    /// For running analyses to end at shutdown.
    pub shutdown: u64,
}

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("cannot read the configuration {path}: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// Not this configuration's YAML: an unknown, missing or mistyped key.
    #[error("{path}: {source}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Line, column and the keys there are.
        source: serde_yaml::Error,
    },
    /// A value is out of range.
    #[error("{key} must be {rule}")]
    Value {
        /// The key.
        key: String,
        /// What is allowed.
        rule: &'static str,
    },
}

impl Config {
    /// # Errors
    /// [`ConfigError`] names the file, the line and what is expected.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text =
            std::fs::read_to_string(path).map_err(|source| ConfigError::Unreadable { path: path.into(), source })?;
        serde_yaml::from_str(&text).map_err(|source| ConfigError::Malformed { path: path.into(), source })
    }

    /// The settings of the committed example.
    pub fn example() -> Self {
        serde_yaml::from_str(EXAMPLE).expect("the committed example is complete")
    }

    /// Checked by [`crate::App::open`], after flags have been applied.
    ///
    /// # Errors
    /// [`ConfigError::Value`] for the first value out of range, and where an address other than loopback would be
    /// served in clear or to everybody.
    pub fn check(&self) -> Result<(), ConfigError> {
        let refuse = |key: &str, rule| Err(ConfigError::Value { key: key.into(), rule });
        let (l, s) = (&self.limits, &self.seconds);
        let at_least_one = [
            ("workers", self.workers as u64),
            ("attempts", self.attempts.into()),
            ("limits.upload_bytes", l.upload_bytes),
            ("limits.unpacked_bytes", l.unpacked_bytes),
            ("limits.files", l.files as u64),
            ("limits.ratio", l.ratio),
            ("limits.uploads", l.uploads as u64),
            ("limits.queue", l.queue.into()),
            ("limits.connections", l.connections as u64),
            ("seconds.header", s.header),
            ("seconds.stall", s.stall),
            ("seconds.upload", s.upload),
            ("seconds.request", s.request),
            ("seconds.analysis", s.analysis),
            ("seconds.lease", s.lease),
            ("seconds.shutdown", s.shutdown),
        ];
        if let Some((key, _)) = at_least_one.iter().find(|(_, value)| *value == 0) {
            return refuse(key, "at least 1");
        }
        for (i, key) in self.api_keys.iter().enumerate() {
            if key.sha256.len() != 64 || !key.sha256.bytes().all(|b| b.is_ascii_hexdigit()) {
                return refuse(&format!("api_keys[{i}].sha256"), "64 hex digits");
            }
            if key.name.is_empty() || self.api_keys[..i].iter().any(|other| other.name == key.name) {
                return refuse(&format!("api_keys[{i}].name"), "given and unique: the audit trail tells clients by it");
            }
        }
        if !self.listen.ip().is_loopback() {
            if self.api_keys.is_empty() {
                return refuse("listen", "a loopback address where no api_keys are configured");
            }
            if !self.tls_by_proxy {
                return refuse("listen", "a loopback address unless tls_by_proxy says that a proxy terminates TLS");
            }
        }
        Ok(())
    }
}

impl Seconds {
    pub(crate) fn stall(&self) -> Duration {
        Duration::from_secs(self.stall)
    }

    pub(crate) fn lease(&self) -> Duration {
        Duration::from_secs(self.lease)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_example_is_complete_and_valid() {
        Config::example().check().unwrap();
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_line_and_the_known_ones() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("serve.yaml");
        std::fs::write(&path, EXAMPLE.replace("workers: 1", "worker: 1")).unwrap();
        let message = Config::load(&path).unwrap_err().to_string();
        assert!(message.contains("unknown field `worker`") && message.contains("`workers`"), "{message}");
        assert!(message.contains("line "), "{message}");
    }

    #[test]
    fn a_missing_key_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("serve.yaml");
        std::fs::write(&path, EXAMPLE.replace("attempts: 3", "")).unwrap();
        assert!(Config::load(&path).unwrap_err().to_string().contains("missing field `attempts`"));
    }

    #[test]
    fn an_address_on_a_network_needs_keys_and_tls() {
        let mut config = Config::example();
        config.listen = "0.0.0.0:8080".parse().unwrap();
        assert!(config.check().unwrap_err().to_string().contains("api_keys"));
        config.api_keys = vec![ApiKey { name: "pacs".into(), sha256: "0".repeat(64) }];
        assert!(config.check().unwrap_err().to_string().contains("tls_by_proxy"));
        config.tls_by_proxy = true;
        config.check().unwrap();
    }

    #[test]
    fn a_zero_is_refused_by_name() {
        let mut config = Config::example();
        config.limits.queue = 0;
        assert_eq!(config.check().unwrap_err().to_string(), "limits.queue must be at least 1");
    }
}
