//! Which server, and with what credentials: from the command line and the environment, under MLflow's names.

use crate::Failure;
use base64::{Engine, engine::general_purpose::STANDARD};
use std::time::Duration;

/// Where to send to. Has no `Debug`, so that credentials cannot end up in a message.
pub struct Server {
    /// Without a trailing slash and without credentials.
    pub url: String,
    /// Value of the header `Authorization`.
    pub authorization: Option<String>,
    /// PEM certificates that the server's one must be vouched for by, instead of the machine's own.
    pub certificates: Option<Vec<u8>>,
    /// Longest wait for an answer.
    pub timeout: Duration,
}

/// MLflow's own default.
const TIMEOUT_S: u64 = 120;

impl Server {
    /// - `url`: of the command line, else `MLFLOW_TRACKING_URI`
    /// - `env`: looks up an environment variable
    pub fn find(url: Option<&str>, env: impl Fn(&str) -> Option<String>) -> Result<Self, Failure> {
        let set = |name: &str| env(name).filter(|value| !value.is_empty());
        let from_env = set("MLFLOW_TRACKING_URI");
        let Some(text) = url.or(from_env.as_deref()) else {
            return Err(Failure::new("server-unknown", "name the server with --server URL or MLFLOW_TRACKING_URI"));
        };
        let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
        if !["http", "https"].contains(&scheme) || rest.is_empty() || rest.starts_with('/') {
            // Only the scheme is shown: the rest may hold a password.
            let message = format!("the tracking server must be http://... or https://..., not `{scheme}://...`");
            return Err(Failure::new("server-unknown", message));
        }
        if text.contains('@') {
            let message = "no credentials in the server's address, which is printed and which other users of this machine can \
                           read: set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN";
            return Err(Failure::new("credentials-in-url", message));
        }
        let basic = |credentials: &str| format!("Basic {}", STANDARD.encode(credentials));
        // MLflow's own order: name and password before the token.
        let authorization = match (set("MLFLOW_TRACKING_USERNAME"), set("MLFLOW_TRACKING_PASSWORD")) {
            (Some(name), Some(password)) => Some(basic(&format!("{name}:{password}"))),
            _ => set("MLFLOW_TRACKING_TOKEN").map(|token| format!("Bearer {token}")),
        };
        if authorization.as_ref().is_some_and(|text| text.contains(|c: char| c.is_control())) {
            return Err(Failure::new(
                "credentials-malformed",
                "the credentials hold a line feed or another control character",
            ));
        }
        let certificates = match set("MLFLOW_TRACKING_SERVER_CERT_PATH") {
            None => None,
            Some(path) => Some(std::fs::read(&path).map_err(|error| {
                Failure::new("certificate-unreadable", format!("MLFLOW_TRACKING_SERVER_CERT_PATH={path}: {error}"))
            })?),
        };
        let timeout = match set("MLFLOW_HTTP_REQUEST_TIMEOUT") {
            None => TIMEOUT_S,
            Some(text) => text.parse().ok().filter(|seconds| *seconds > 0).ok_or_else(|| {
                Failure::new("timeout-malformed", format!("MLFLOW_HTTP_REQUEST_TIMEOUT={text} is no number of seconds"))
            })?,
        };
        let url = format!("{scheme}://{}", rest.trim_end_matches('/'));
        Ok(Self { url, authorization, certificates, timeout: Duration::from_secs(timeout) })
    }

    /// What is to be said of credentials that go over the network in clear.
    pub fn warning(&self) -> Option<String> {
        let authority = self.url.strip_prefix("http://")?.split('/').next()?;
        let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
        let near = matches!(host, "127.0.0.1" | "localhost" | "[::1]");
        (self.authorization.is_some() && !near)
            .then(|| format!("warning: the credentials go to {} unencrypted; use https://", self.url))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lungai_trace::verifies;

    fn find(url: Option<&str>, env: &[(&str, &str)]) -> Result<Server, Failure> {
        Server::find(url, |name| env.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn the_command_line_goes_before_the_environment() {
        let env = [("MLFLOW_TRACKING_URI", "http://b/")];
        assert_eq!(find(Some("http://a:5000/mlflow/"), &env).unwrap().url, "http://a:5000/mlflow");
        assert_eq!(find(None, &env).unwrap().url, "http://b");
    }

    #[test]
    fn name_and_password_go_before_the_token_as_mlflow_has_it() {
        let (token, name, password) =
            (("MLFLOW_TRACKING_TOKEN", "t"), ("MLFLOW_TRACKING_USERNAME", "u"), ("MLFLOW_TRACKING_PASSWORD", "p"));
        let header = |env: &[(&str, &str)]| find(Some("https://a"), env).unwrap().authorization;
        assert_eq!(header(&[token]), Some("Bearer t".into()));
        assert_eq!(header(&[token, name, password]), Some("Basic dTpw".into())); // base64 of u:p
        assert_eq!(header(&[name]), None);
    }

    #[verifies("SR-003")]
    #[test]
    fn an_error_shows_no_password() {
        let check = |url: Option<&str>, env: &[(&str, &str)], rule: &str| {
            let failure = find(url, env).err().unwrap();
            assert_eq!(failure.rule, rule);
            assert!(!failure.message.contains("hunter2"), "{}", failure.message);
        };
        check(None, &[("MLFLOW_TRACKING_URI", "postgresql://me:hunter2@db/mlflow")], "server-unknown");
        check(Some("https://me:hunter2@mlflow"), &[], "credentials-in-url");
        check(None, &[("MLFLOW_TRACKING_URI", "https://me:hun/ter2@mlflow")], "credentials-in-url");
        check(None, &[("MLFLOW_TRACKING_URI", "https://me:hunter2@mlflow")], "credentials-in-url");
        check(Some("https://a"), &[("MLFLOW_TRACKING_TOKEN", "hunter2\nX-Admin: 1")], "credentials-malformed");
    }

    #[test]
    fn a_local_folder_is_no_server() {
        for url in ["mlruns", "file:///tmp/mlruns", "http://", "sqlite:///m.db"] {
            assert_eq!(find(Some(url), &[]).err().unwrap().rule, "server-unknown", "{url}");
        }
    }

    #[test]
    fn credentials_in_clear_are_warned_of_beyond_this_machine() {
        let token = [("MLFLOW_TRACKING_TOKEN", "t")];
        assert!(find(Some("http://mlflow.hospital"), &token).unwrap().warning().is_some());
        assert!(find(Some("http://127.0.0.1:5000"), &token).unwrap().warning().is_none());
        assert!(find(Some("http://[::1]:5000/x"), &token).unwrap().warning().is_none());
        assert!(find(Some("http://localhost.example"), &token).unwrap().warning().is_some());
        assert!(find(Some("https://mlflow.hospital"), &token).unwrap().warning().is_none());
        assert!(find(Some("http://mlflow.hospital"), &[]).unwrap().warning().is_none());
    }
}
