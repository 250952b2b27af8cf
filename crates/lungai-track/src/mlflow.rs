//! MLflow's REST interface, version 2.0, as far as it is needed: shapes as MLflow 3.17.2 answers them.

use crate::Failure;
use crate::server::Server;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use std::cell::Cell;
use std::io::Read;
use std::sync::Arc;
use std::time::Duration;
use ureq::http::Response;
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Body, SendBody};

/// Largest answer that is read.
const ANSWER_LIMIT: u64 = 16 << 20;
/// Characters of a server's message that are shown.
const MESSAGE_LIMIT: usize = 400;
const CONNECT: Duration = Duration::from_secs(10);
/// Slowest upload that is waited for, in bytes a second.
const SLOWEST: u64 = 64 << 10;

/// A connection to one server.
pub struct Mlflow {
    agent: Agent,
    server: Server,
    /// Changing requests so far.
    sent: Cell<u64>,
}

/// Why a call came to nothing.
pub enum CallError {
    /// The server understood and refused; the code is MLflow's, for example `RESOURCE_DOES_NOT_EXIST`.
    Refused { code: String, failure: Failure },
    /// Anything else.
    Failed(Failure),
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Refused { failure, .. } | CallError::Failed(failure) => failure,
        }
    }
}

/// A key and its value: tags, parameters.
#[derive(Debug, Clone, Deserialize)]
pub struct Pair {
    pub key: String,
    #[serde(default)]
    pub value: String,
}

/// A run as the server has it.
#[derive(Debug, Clone, Deserialize)]
pub struct RemoteRun {
    pub info: Info,
    #[serde(default)]
    pub data: Data,
    #[serde(default)]
    pub inputs: Inputs,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Info {
    pub run_id: String,
    pub status: String,
    #[serde(default)]
    pub start_time: u64,
    pub end_time: Option<u64>,
    pub artifact_uri: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
pub struct Data {
    #[serde(default)]
    pub params: Vec<Pair>,
    #[serde(default)]
    pub tags: Vec<Pair>,
}

#[derive(Debug, Clone, Default, Deserialize)]
pub struct Inputs {
    #[serde(default)]
    pub dataset_inputs: Vec<DataSetInput>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct DataSetInput {
    pub dataset: DataSet,
}

#[derive(Debug, Clone, Deserialize)]
pub struct DataSet {
    #[serde(default)]
    pub name: String,
    #[serde(default)]
    pub digest: String,
}

impl RemoteRun {
    /// Value of a tag.
    pub fn tag(&self, key: &str) -> Option<&str> {
        self.data.tags.iter().find(|tag| tag.key == key).map(|tag| tag.value.as_str())
    }
}

impl Mlflow {
    /// Connects at the first request.
    pub fn new(server: Server) -> Result<Self, Failure> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let roots = match &server.certificates {
            None => RootCerts::PlatformVerifier,
            Some(pem) => RootCerts::new_with_certs(&certificates(pem)?),
        };
        let tls = TlsConfig::builder().unversioned_rustls_crypto_provider(provider).root_certs(roots).build();
        let agent = Agent::config_builder()
            .tls_config(tls)
            .http_status_as_error(false)
            // A redirected POST would arrive as a GET, and credentials at another host.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("lungai-track/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(CONNECT))
            .timeout_recv_response(Some(server.timeout))
            .timeout_recv_body(Some(server.timeout))
            .timeout_send_body(Some(server.timeout))
            .build()
            .new_agent();
        Ok(Self { agent, server, sent: Cell::new(0) })
    }

    /// Where people look at it.
    pub fn url(&self) -> &str {
        &self.server.url
    }

    /// Changing requests so far.
    pub fn sent(&self) -> u64 {
        self.sent.get()
    }

    /// Reads.
    pub fn get<T: DeserializeOwned>(&self, call: &str, query: &[(&str, &str)]) -> Result<T, CallError> {
        let mut request = self.agent.get(self.api(call));
        for (key, value) in query {
            request = request.query(key, value);
        }
        if let Some(text) = &self.server.authorization {
            request = request.header("authorization", text);
        }
        self.answer(request.call(), call)
    }

    /// Searches; a POST that changes nothing.
    pub fn search<T: DeserializeOwned>(&self, call: &str, body: &Value) -> Result<T, CallError> {
        let mut request = self.agent.post(self.api(call)).header("content-type", "application/json");
        if let Some(text) = &self.server.authorization {
            request = request.header("authorization", text);
        }
        self.answer(request.send(body.to_string()), call)
    }

    /// Changes something.
    pub fn post<T: DeserializeOwned>(&self, call: &str, body: &Value) -> Result<T, CallError> {
        self.sent.set(self.sent.get() + 1);
        self.search(call, body)
    }

    /// Puts a file among a run's artifacts; an older one of that name is replaced.
    pub fn put_artifact(&self, run: &RemoteRun, name: &str, size: u64, mut from: impl Read) -> Result<(), Failure> {
        let place = artifact_place(&run.info.artifact_uri)?;
        self.sent.set(self.sent.get() + 1);
        let patience = self.server.timeout + Duration::from_secs(size / SLOWEST);
        let url = format!("{}/api/2.0/mlflow-artifacts/artifacts/{place}/{name}", self.server.url);
        let mut request = self.agent.put(url).header("content-length", size).content_type("application/octet-stream");
        if let Some(text) = &self.server.authorization {
            request = request.header("authorization", text);
        }
        let request = request.config().timeout_send_body(Some(patience)).build();
        self.answer::<Value>(request.send(SendBody::from_reader(&mut from)), name)?;
        Ok(())
    }

    fn api(&self, call: &str) -> String {
        format!("{}/api/2.0/mlflow/{call}", self.server.url)
    }

    fn answer<T: DeserializeOwned>(
        &self,
        result: Result<Response<Body>, ureq::Error>,
        call: &str,
    ) -> Result<T, CallError> {
        let mut response = result.map_err(|error| CallError::Failed(self.no_answer(error)))?;
        let status = response.status().as_u16();
        let target = response.headers().get("location").and_then(|text| text.to_str().ok()).map(clean);
        let body = response.body_mut().with_config().limit(ANSWER_LIMIT).read_to_vec();
        let url = &self.server.url;
        match status {
            200..300 => {
                let body = body.map_err(|error| CallError::Failed(self.no_answer(error)))?;
                let body = if body.is_empty() { b"{}".as_slice() } else { &body };
                serde_json::from_slice(body).map_err(|_| {
                    CallError::Failed(Failure::new(
                        "not-mlflow",
                        format!("{url} does not answer {call} as MLflow does"),
                    ))
                })
            }
            300..400 => {
                let to = target.map_or_else(String::new, |target| format!(" to {target}"));
                let message = format!("{url} redirects {call}{to}; name the server's own address with --server");
                Err(CallError::Failed(Failure::new("server-redirects", message)))
            }
            408 | 425 | 429 | 500.. => {
                let message = said(&body.unwrap_or_default()).1;
                Err(CallError::Failed(Failure::retry(format!(
                    "{url} answered {call} with status {status}{}; nothing is lost, run the same command again",
                    if message.is_empty() { String::new() } else { format!(" ({message})") }
                ))))
            }
            _ => {
                let (code, message) = said(&body.unwrap_or_default());
                let (rule, hint) = match status {
                    401 | 403 => {
                        ("server-forbids", "; set MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and _PASSWORD")
                    }
                    _ => ("server-refuses", ""),
                };
                let message = format!("{url} refuses {call} with status {status}: {message}{hint}");
                Err(CallError::Refused { code, failure: Failure::new(rule, message) })
            }
        }
    }

    /// Never an answer from a server whose certificate is wrong, however often one asks; any other silence may end.
    fn no_answer(&self, error: ureq::Error) -> Failure {
        let url = &self.server.url;
        match error {
            ureq::Error::BodyExceedsLimit(_) => {
                Failure::new("answer-too-large", format!("{url} answers with more than {} MiB", ANSWER_LIMIT >> 20))
            }
            ureq::Error::BadUri(_) | ureq::Error::Http(_) => {
                Failure::new("server-unknown", format!("{url} is no address of a server"))
            }
            error => match certificate_error(&error) {
                Some(reason) => Failure::new(
                    "server-not-trusted",
                    format!(
                        "{url}: {reason}; for a certificate of your own set MLFLOW_TRACKING_SERVER_CERT_PATH to its PEM file"
                    ),
                ),
                None => Failure::retry(format!(
                    "{url} does not answer ({error}); nothing is lost, run the same command again when it does"
                )),
            },
        }
    }
}

/// MLflow's code and message of a refusal.
fn said(body: &[u8]) -> (String, String) {
    let value: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |key: &str| value[key].as_str().map(clean).unwrap_or_default();
    let plain = if value.is_null() { clean(&String::from_utf8_lossy(body)) } else { String::new() };
    (text("error_code"), if plain.is_empty() { text("message") } else { plain })
}

/// A stranger's words on a terminal: one line, no control characters, not too many.
fn clean(text: &str) -> String {
    let words: Vec<&str> =
        text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|w| !w.is_empty()).collect();
    words.join(" ").chars().take(MESSAGE_LIMIT).collect()
}

fn certificates(pem: &[u8]) -> Result<Vec<ureq::tls::Certificate<'static>>, Failure> {
    let items = parse_pem(pem).filter_map(|item| match item {
        Ok(PemItem::Certificate(certificate)) => Some(certificate),
        _ => None,
    });
    let found: Vec<_> = items.collect();
    if found.is_empty() {
        let message = "MLFLOW_TRACKING_SERVER_CERT_PATH names a file without a PEM certificate";
        return Err(Failure::new("certificate-unreadable", message));
    }
    Ok(found)
}

/// The reason, if a server's certificate or protocol was refused.
fn certificate_error(error: &ureq::Error) -> Option<String> {
    match error {
        ureq::Error::Rustls(error) => Some(error.to_string()),
        ureq::Error::Tls(reason) => Some((*reason).to_owned()),
        ureq::Error::Io(error) => error.get_ref()?.downcast_ref::<rustls::Error>().map(ToString::to_string),
        _ => None,
    }
}

/// Where a server that takes artifacts itself keeps a run's: `EXPERIMENT/RUN/artifacts`.
fn artifact_place(uri: &str) -> Result<&str, Failure> {
    let place = uri.strip_prefix("mlflow-artifacts:").map(|rest| match rest.strip_prefix("//") {
        Some(with_host) => with_host.split_once('/').map_or("", |(_, place)| place),
        None => rest.trim_start_matches('/'),
    });
    place.filter(|place| !place.is_empty()).ok_or_else(|| {
        let scheme = clean(uri.split(':').next().unwrap_or_default());
        Failure::new(
            "artifacts-elsewhere",
            format!(
                "the server leaves artifacts to its clients ({scheme}:...); start it with --artifacts-destination, or sync \
                 with --no-artifacts"
            ),
        )
    })
}

/// Tags, parameters: as MLflow takes them.
pub fn pairs(pairs: &[(String, String)]) -> Value {
    pairs.iter().map(|(key, value)| json!({ "key": key, "value": value })).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn artifacts_go_through_the_server_or_not_at_all() {
        assert_eq!(artifact_place("mlflow-artifacts:/1/abc/artifacts").ok(), Some("1/abc/artifacts"));
        assert_eq!(artifact_place("mlflow-artifacts://host:80/1/abc/artifacts").ok(), Some("1/abc/artifacts"));
        let failure = artifact_place("s3://bucket/1/abc/artifacts").unwrap_err();
        assert_eq!(failure.rule, "artifacts-elsewhere");
        assert!(failure.message.contains("--artifacts-destination"), "{}", failure.message);
    }

    #[test]
    fn a_servers_message_cannot_command_the_terminal() {
        let body = br#"{"error_code":"BAD","message":"first\nsecond\u001b[2Jthird"}"#;
        assert_eq!(said(body), ("BAD".into(), "first second [2Jthird".into()));
        assert_eq!(said("<html>".as_bytes()).1, "<html>");
        assert_eq!(said("x".repeat(5000).as_bytes()).1.len(), MESSAGE_LIMIT);
    }
}
