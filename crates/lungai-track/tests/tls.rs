//! `track sync` over TLS: a hospital's server with a certificate of its own authority.

use crate::folder::{Folder, text};
use crate::program::json;
use crate::stub::Stub;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::json;
use std::{fs, sync::Arc};

/// A server for 127.0.0.1 and the PEM of the authority that vouches for it.
fn server() -> (Stub, String) {
    let key = KeyPair::generate().unwrap();
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let pem = authority.self_signed(&key).unwrap().pem();
    let issuer = Issuer::new(authority, key);
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key.serialize_der().try_into().unwrap())
        .unwrap();
    (Stub::tls(Arc::new(config)), pem)
}

#[test]
fn a_server_is_spoken_to_only_if_its_certificate_is_vouched_for() {
    let ((stub, pem), (_, foreign), folder, certificates) =
        (server(), server(), Folder::finished(1), tempfile::tempdir().unwrap());
    let words = ["sync", folder.path(), "--server", &stub.url];
    let refused = |env: &[(&str, &str)]| {
        let env = [&[("MLFLOW_TRACKING_TOKEN", "hunter2")], env].concat();
        let (code, answer) = json(&words, &env);
        assert_eq!((code, &answer["rule"]), (1, &json!("server-not-trusted")), "{answer}");
        assert!(answer["message"].as_str().unwrap().contains("MLFLOW_TRACKING_SERVER_CERT_PATH"), "{answer}");
        assert!(stub.requests().is_empty(), "not a word before the certificate is checked");
    };
    refused(&[]);
    let path = certificates.path().join("authority.pem");
    fs::write(&path, foreign).unwrap();
    refused(&[("MLFLOW_TRACKING_SERVER_CERT_PATH", text(&path))]);
    fs::write(&path, pem).unwrap();
    let (code, answer) = json(&words, &[("MLFLOW_TRACKING_SERVER_CERT_PATH", text(&path))]);
    assert_eq!(code, 0, "{answer}");
    assert_eq!(stub.state()["runs"][0]["status"], "FINISHED");
    fs::write(&path, "no certificate").unwrap();
    let (code, answer) = json(&words, &[("MLFLOW_TRACKING_SERVER_CERT_PATH", text(&path))]);
    assert_eq!((code, &answer["rule"]), (1, &json!("certificate-unreadable")));
}
