//! `track sync` on servers that fail, and what it does not give away.

use crate::folder::Folder;
use crate::program::{command, json, sync};
use crate::stub::{Fault, Stub};
use lungai_trace::verifies;
use serde_json::json;
use std::time::{Duration, Instant};

const REGISTER: [&str; 4] = ["--register", "m", "--alias", "champion"];

/// At every request in turn: refused with 500 or 503, cut before it is done, cut after it is done. The second sync must
/// bring the server to where an undisturbed one would be.
#[verifies("RR-001")]
#[test]
fn a_sync_interrupted_at_any_request_and_repeated_equals_an_undisturbed_one() {
    let (folder, undisturbed) = (Folder::long(1), Stub::fake());
    sync(folder.path(), &undisturbed.url, &REGISTER);
    let (expected, requests) = (undisturbed.state(), undisturbed.requests());
    assert_eq!(requests.iter().filter(|request| request.ends_with("log-batch")).count(), 2);
    let requests = requests.len();
    for number in 0..requests {
        for fault in [Fault::Status(500), Fault::Status(503), Fault::CutBefore, Fault::CutAfter] {
            let stub = Stub::fake();
            stub.fail(number, fault);
            let (code, answer) = sync(folder.path(), &stub.url, &REGISTER);
            assert_eq!((code, &answer["rule"]), (75, &json!("server-unavailable")), "{number} {fault:?}: {answer}");
            assert!(answer["message"].as_str().unwrap().contains("nothing is lost"), "{answer}");
            // "Finished" is the last thing that the server is told.
            let told = number == requests - 1 && matches!(fault, Fault::CutAfter);
            assert_eq!(stub.state()["runs"][0]["status"] == "FINISHED", told, "{number} {fault:?}");
            let (code, answer) = sync(folder.path(), &stub.url, &REGISTER);
            assert_eq!(code, 0, "{number} {fault:?}: {answer}");
            assert_eq!(stub.state(), expected, "{number} {fault:?}");
        }
    }
}

/// Two questions and two changes, a file and the mark that it is there: each attempt gets further.
#[verifies("RR-001")]
#[test]
fn a_server_that_dies_at_every_fifth_request_has_the_run_in_the_end() {
    let (folder, undisturbed, stub) = (Folder::long(1), Stub::fake(), Stub::fake());
    sync(folder.path(), &undisturbed.url, &[]);
    let changes = undisturbed.requests().len() - 2;
    let mut attempts = 0;
    loop {
        attempts += 1;
        stub.fail(4, Fault::CutBefore);
        match sync(folder.path(), &stub.url, &[]).0 {
            0 => break,
            code => assert_eq!((code, attempts <= changes), (75, true)),
        }
    }
    assert_eq!(stub.state(), undisturbed.state());
}

#[test]
fn a_server_that_is_away_is_exit_75_with_its_address() {
    let folder = Folder::finished(1);
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{closed}");
    let (code, answer) = sync(folder.path(), &url, &[]);
    assert_eq!(code, 75);
    assert!(answer["message"].as_str().unwrap().starts_with(&format!("{url} does not answer")), "{answer}");
}

#[test]
fn a_server_that_is_slow_is_waited_for_as_long_as_told() {
    let (folder, stub) = (Folder::finished(1), Stub::fake());
    stub.fail(2, Fault::Slow(Duration::from_secs(20)));
    let begin = Instant::now();
    let words = ["sync", folder.path(), "--server", &stub.url];
    let (code, answer) = json(&words, &[("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")]);
    assert_eq!((code, &answer["rule"]), (75, &json!("server-unavailable")), "{answer}");
    assert!(begin.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_refusal_is_shown_in_the_servers_words() {
    let check = |fault: Fault, rule: &str, words: &str| {
        let (folder, stub) = (Folder::finished(1), Stub::fake());
        stub.fail(1, fault);
        let (code, answer) = sync(folder.path(), &stub.url, &[]);
        assert_eq!((code, &answer["rule"]), (1, &json!(rule)), "{answer}");
        assert!(answer["message"].as_str().unwrap().contains(words), "{answer}");
    };
    check(Fault::Status(400), "server-refuses", "with status 400: the stub says no");
    check(Fault::Status(401), "server-forbids", "set MLFLOW_TRACKING_TOKEN");
    check(Fault::Redirect, "server-redirects", "to http://elsewhere.example/; name the server's own address");
    check(Fault::Endless, "answer-too-large", "more than 16 MiB");
}

#[verifies("SR-003")]
#[test]
fn credentials_reach_the_server_and_nothing_else() {
    let folder = Folder::finished(1);
    let check = |env: &[(&str, &str)], expected: &str| {
        let stub = Stub::fake();
        // The last request fails, so that there is a message to look into.
        stub.fail(20, Fault::Status(403));
        let output =
            command(&["sync", folder.path(), "--server", &stub.url]).envs(env.iter().copied()).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert!(said.contains("status 403") && !said.contains("hunter2") && !said.contains("aHVudGVyMg"), "{said}");
        let headers = stub.credentials();
        assert!(headers.len() == 21 && headers.iter().all(|header| header.as_deref() == Some(expected)), "{headers:?}");
        assert!(!stub.state().to_string().contains("hunter2"));
    };
    check(&[("MLFLOW_TRACKING_TOKEN", "hunter2")], "Bearer hunter2");
    // base64 of me:hunter2
    check(&[("MLFLOW_TRACKING_USERNAME", "me"), ("MLFLOW_TRACKING_PASSWORD", "hunter2")], "Basic bWU6aHVudGVyMg==");
}

#[test]
fn without_a_server_the_message_says_how_to_name_one() {
    let folder = Folder::finished(1);
    let (code, answer) = json(&["sync", folder.path()], &[]);
    assert_eq!((code, &answer["rule"]), (1, &json!("server-unknown")));
    assert!(answer["message"].as_str().unwrap().contains("--server URL or MLFLOW_TRACKING_URI"));
}
